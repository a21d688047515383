"""Bootstrap: attempts and their report, repeatability (configuration-and-security 8.3)."""

from __future__ import annotations

import io
import time

import pytest

from node import bootstrap as bootstrapping
from node.config import Config
from store import namespaces, schema
from store.cluster import deployment
from store.connections.pool import Database
from tests.support.services import TestServices


class Attempts:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.made = 0

    async def __call__(self) -> None:
        self.made += 1
        if self.made <= self.failures:
            raise OSError("connection refused\nsecond line")


async def test_succeeds_at_once_without_a_word() -> None:
    errors = io.StringIO()
    assert await bootstrapping.retrying(Attempts(0), 5, 0, errors) == 1
    assert errors.getvalue() == ""


async def test_one_line_per_failed_attempt() -> None:
    errors = io.StringIO()
    assert await bootstrapping.retrying(Attempts(2), 5, 0, errors) == 3
    assert errors.getvalue().splitlines() == [
        "bootstrap attempt 1 of 5 failed: connection refused",
        "bootstrap attempt 2 of 5 failed: connection refused",
    ]


async def test_gives_up_after_the_last_attempt_without_a_pause_behind_it() -> None:
    errors = io.StringIO()
    attempts = Attempts(100)
    begun = time.monotonic()
    with pytest.raises(bootstrapping.BootstrapFailed, match="after 3 attempts"):
        await bootstrapping.retrying(attempts, 3, 1, errors)
    assert 2 <= time.monotonic() - begun < 3
    assert attempts.made == 3
    assert len(errors.getvalue().splitlines()) == 3


async def test_bootstrap_is_repeatable_and_keeps_what_is_there(services: TestServices) -> None:
    dsn = services.empty_database()
    config = Config.read({"DW_SHARDS": "8", "DW_DEFAULT_NAMESPACE": "Billing", "DW_HISTORY_RETENTION_DAYS": "7"})
    await bootstrapping.bootstrap(config, dsn)
    database = Database(dsn, size=1)
    await database.start()
    try:
        assert (await schema.look(database)).fault is None
        assert await deployment.shard_count(database) == 8
        key = await deployment.server_key(database)
        assert {each.name for each in await namespaces.listing(database)} == {"default", "billing"}
        created = await namespaces.get(database, "billing")
        assert created is not None
        assert created.retention_days == 7
        changed = Config.read({"DW_SHARDS": "16", "DW_HISTORY_RETENTION_DAYS": "99"})
        await bootstrapping.bootstrap(changed, dsn)
        assert await deployment.shard_count(database) == 8
        assert await deployment.server_key(database) == key
        assert await namespaces.get(database, "billing") == created
    finally:
        await database.stop()
