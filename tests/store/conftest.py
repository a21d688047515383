"""A fresh database on a real Postgres per test, and the store's services on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from store.commit.group import GroupCommit
from store.connections.pool import Database
from store.migrate import migrate
from tests.support.defaults import seed_database
from tests.support.services import TestServices


@pytest.fixture
def empty_dsn(services: TestServices) -> Iterator[str]:
    """A database of this test's own, without any table."""
    dsn = services.empty_database()
    yield dsn
    services.postgres.drop_database(dsn.split("?")[0].rpartition("/")[2])


@pytest.fixture
async def dsn(empty_dsn: str) -> str:
    await migrate(empty_dsn)
    return empty_dsn


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn)
    await database.start()
    await seed_database(database, shards=8)
    yield database
    await database.stop()


@pytest.fixture
async def commits(db: Database) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(db.dsn)
    await group.start()
    yield group
    await group.stop()
