"""The pools of a node: what reads many rows is bounded in number and time, and nothing else waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from store.connections.pool import Database
from store.connections.pools import LEASE_CONNECTIONS, PROBE_CONNECTIONS, UPKEEP_CONNECTIONS, Pools
from store.errors import StoreBusy, StoreTooSlow

# The time-out of the tests that wait for it, and one that no test reaches.
SHORT, LONG = 0.5, 30.0


@pytest.fixture
async def pools(dsn: str) -> AsyncIterator[Pools]:
    made = Pools(dsn, pool_size=3, search_pool_size=2, search_queue=3, search_seconds=LONG)
    await made.start()
    yield made
    await made.stop()


def sleeping(db: Database, count: int, seconds: float) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(db.fetchval("SELECT pg_sleep($1)", seconds)) for _ in range(count)]


async def gone(tasks: list[asyncio.Task[None]]) -> list[BaseException]:
    """Wait for the end of all of them; what they raised."""
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return [end for end in ends if isinstance(end, BaseException)]


async def test_searches_beyond_the_queue_are_refused_at_once_and_nothing_else_waits(pools: Pools) -> None:
    searches = sleeping(pools.searches, 12, LONG)
    refused, running = await asyncio.wait(searches, timeout=LONG / 2, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.1)
    refused = {task for task in searches if task.done()}
    assert len(refused) == 7
    assert all(isinstance(task.exception(), StoreBusy) for task in refused)
    for db in (pools.reads, pools.leases, pools.probes):
        async with asyncio.timeout(LONG / 2):
            assert await db.fetchval("SELECT 1") == 1
    for task in running:
        task.cancel()
    await gone(searches)
    assert await pools.searches.fetchval("SELECT 1") == 1, "places become free again"


async def test_a_search_waits_its_turn(pools: Pools) -> None:
    assert not await gone(sleeping(pools.searches, 5, 0.05))


async def test_a_search_that_waited_in_vain_was_not_sent(dsn: str) -> None:
    db = Database(dsn, size=1, queue=5, timeout_seconds=SHORT)
    await db.start()
    # The first holds its connection for longer than a statement may run.
    async with db.connection():
        errors = await gone(sleeping(db, 3, 0))
    assert [type(error) for error in errors] == [StoreBusy] * 3
    await db.stop()


async def test_the_database_itself_ends_a_search_that_takes_too_long(dsn: str, db: Database) -> None:
    searches = Database(dsn, size=1, queue=0, timeout_seconds=SHORT)
    await searches.start()
    assert [type(error) for error in await gone(sleeping(searches, 1, LONG))] == [StoreTooSlow]
    assert await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active'") == 1
    assert await searches.fetchval("SELECT 1") == 1
    await searches.stop()


async def test_a_node_opens_as_many_connections_as_it_says(pools: Pools, db: Database) -> None:
    held = [
        task
        for pool, size in ((pools.reads, 4), (pools.searches, 3), (pools.leases, 3), (pools.probes, 3), (pools.upkeep, 3))
        for task in sleeping(pool, size, 0.5)
    ]
    await asyncio.sleep(0.2)
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"  # not autovacuum
    )
    assert await db.fetchval(count) == 3 + 2 + LEASE_CONNECTIONS + PROBE_CONNECTIONS + UPKEEP_CONNECTIONS
    assert not await gone(held)
