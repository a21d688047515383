"""The database goes away in all its ways: writes of unknown outcome say so, and everything works again by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from store import runs
from store.commit.group import GroupCommit
from store.connections.pool import Database
from store.errors import StoreUnavailable
from store.migrate import migrate
from tests.store.build import RunFixture
from tests.support.defaults import seed_database
from tests.support.services import TestServices

COMMIT_BACKENDS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'durable-workflow-commit' AND datname = current_database()"
)


async def eventually_commits(commits: GroupCommit, seconds: float = 10.0) -> RunFixture:
    """Create runs until one is stored."""
    until = time.monotonic() + seconds
    while True:
        run = RunFixture()
        try:
            assert await commits.commit(run.create()) is True
        except StoreUnavailable:
            assert time.monotonic() < until, "the commits did not come back"
            await asyncio.sleep(0.02)
        else:
            return run.stored(1, 2)


async def until_true(db: Database, sql: str) -> None:
    """Ask the database until it says yes."""
    async with asyncio.timeout(10):
        while not await db.fetchval(sql):
            await asyncio.sleep(0.01)


async def test_backend_terminated_in_mid_flight(db: Database, commits: GroupCommit) -> None:
    made = [RunFixture() for _ in range(5)]
    assert all(await asyncio.gather(*[commits.commit(run.create()) for run in made]))
    for run in made:
        run.stored(1, 2)
    async with db.transaction() as holder:
        await holder.execute("SELECT FROM runs WHERE run_id = $1 FOR UPDATE", made[0].run_id)
        in_flight = [commits.commit(run.change()) for run in made[:3]]
        await until_true(db, f"SELECT count(*) = 1 FROM ({COMMIT_BACKENDS} AND wait_event_type = 'Lock') blocked")
        queued = [commits.commit(run.change()) for run in made[3:]]
        await db.fetchval(f"SELECT bool_and(pg_terminate_backend(pid)) FROM ({COMMIT_BACKENDS}) it")
        outcomes = await asyncio.gather(*in_flight, return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        # What had not been sent waits for the new connection instead of failing.
        assert await asyncio.gather(*queued) == [True, True]
    assert [await runs.version(db, run.run_id) for run in made] == [1, 1, 1, 2, 2]
    assert await commits.commit(made[0].change()) is True


async def test_idle_connection_terminated(db: Database, commits: GroupCommit) -> None:
    await eventually_commits(commits)
    pid = await db.fetchval(COMMIT_BACKENDS)
    assert await db.fetchval("SELECT pg_terminate_backend($1)", pid) is True
    # It connects again without being asked to.
    await until_true(db, f"SELECT count(*) = 1 FROM ({COMMIT_BACKENDS} AND pid <> {pid}) it")
    run = RunFixture()
    assert await commits.commit(run.create()) is True


async def test_statement_that_takes_too_long(db: Database) -> None:
    commits = GroupCommit(db.dsn, timeout_seconds=0.3)
    await commits.start()
    try:
        run = await eventually_commits(commits)
        async with db.transaction() as holder:
            await holder.execute("SELECT FROM runs WHERE run_id = $1 FOR UPDATE", run.run_id)
            with pytest.raises(StoreUnavailable):
                await commits.commit(run.change())
        assert await commits.commit(run.change()) is True
    finally:
        await commits.stop()


async def test_restart_and_crash_of_postgres(own_services: TestServices) -> None:
    postgres = own_services.postgres
    dsn = own_services.empty_database()
    await migrate(dsn)
    db, commits = Database(dsn), GroupCommit(dsn)
    await db.start()
    await seed_database(db)
    await commits.start()
    stored = [await eventually_commits(commits)]
    try:
        for end in (postgres.stop, postgres.kill):
            await asyncio.to_thread(end)
            with pytest.raises(StoreUnavailable):
                await commits.commit(RunFixture().create())
            with pytest.raises(StoreUnavailable):
                await runs.version(db, stored[0].run_id)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await commits.commit(RunFixture().create())
            assert time.monotonic() - began < 0.5, "while the database is known to be away, writes fail at once"
            assert commits.available is False
            await asyncio.to_thread(postgres.start)
            stored.append(await eventually_commits(commits))
            assert [await runs.version(db, run.run_id) for run in stored] == [1] * len(stored)
    finally:
        await commits.stop()
        await db.stop()


async def test_acknowledged_writes_survive_a_crash_under_load(own_services: TestServices) -> None:
    postgres = own_services.postgres
    dsn = own_services.empty_database()
    await migrate(dsn)
    db, commits = Database(dsn), GroupCommit(dsn)
    await db.start()
    await seed_database(db)
    await commits.start()
    acknowledged: list[RunFixture] = []
    unknown = 0
    crashed = asyncio.Event()

    async def load() -> None:
        nonlocal unknown
        while not crashed.is_set():
            run = RunFixture()
            try:
                assert await commits.commit(run.create()) is True
                acknowledged.append(run)
            except StoreUnavailable:
                unknown += 1
                return

    try:
        workers = [asyncio.create_task(load()) for _ in range(50)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(postgres.kill)
        await asyncio.wait_for(asyncio.gather(*workers), 10)
        crashed.set()
        assert unknown == 50
        assert len(acknowledged) > 100
        await asyncio.to_thread(postgres.start)
        acknowledged.append(await eventually_commits(commits))
        found = await db.fetch(
            "SELECT run_id FROM runs r WHERE version = 1 AND EXISTS (SELECT FROM history h WHERE h.run_id = r.run_id)"
        )
        assert {run.run_id for run in acknowledged} <= {row[0] for row in found}
        halves = "SELECT count(*) FROM runs FULL JOIN instances ON run_id = current_run_id FULL JOIN history h USING (run_id)"
        assert await db.fetchval(f"{halves} WHERE runs.run_id IS NULL OR current_run_id IS NULL OR h.run_id IS NULL") == 0
    finally:
        await commits.stop()
        await db.stop()


async def test_hung_postgres_is_noticed(own_services: TestServices) -> None:
    """A server that accepts and never answers: the caller hears of it in bounded time, and later all is well."""
    dsn = own_services.empty_database()
    await migrate(dsn)
    db, commits = Database(dsn, timeout_seconds=1.0), GroupCommit(dsn, timeout_seconds=0.5)
    await db.start()
    await commits.start()
    run = await eventually_commits(commits)
    backends = [row[0] for row in await db.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")]
    assert own_services.postgres.pid is not None
    frozen = [own_services.postgres.pid, *backends]
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await commits.commit(run.change())
        with pytest.raises(StoreUnavailable):
            await runs.version(db, run.run_id)
        assert time.monotonic() - began < 8
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    await eventually_commits(commits)
    assert await runs.version(db, run.run_id) in {1, 2}
    await commits.stop()
    await db.stop()


async def test_start_without_database(own_services: TestServices) -> None:
    dsn = own_services.postgres.dsn
    await asyncio.to_thread(own_services.postgres.stop)
    with pytest.raises(StoreUnavailable):
        await Database(dsn).start()
    with pytest.raises(StoreUnavailable):
        await GroupCommit(dsn).start()
    with pytest.raises(StoreUnavailable):
        await migrate(dsn)


async def test_a_database_given_up_is_waited_for_by_nobody(db: Database, commits: GroupCommit) -> None:
    run = await eventually_commits(commits)
    begun = time.monotonic()
    async with db.transaction() as holder:
        await holder.execute("SELECT FROM runs WHERE run_id = $1 FOR UPDATE", run.run_id)
        waiting = [commits.commit(run.change()), asyncio.ensure_future(db.fetchval("SELECT pg_sleep(30)"))]
        await until_true(db, f"SELECT count(*) = 1 FROM ({COMMIT_BACKENDS} AND wait_event_type = 'Lock') blocked")
        commits.give_up()
        with pytest.raises(StoreUnavailable):
            await waiting[0]
    db.give_up()
    with pytest.raises(StoreUnavailable):
        await waiting[1]
    with pytest.raises(StoreUnavailable):
        await db.fetchval("SELECT 1")
    assert time.monotonic() - begun < 25
    db.trust()
    assert await db.fetchval("SELECT 1") == 1
    await eventually_commits(commits)


async def test_a_pool_closed_under_a_load_says_that_the_store_is_away(dsn: str) -> None:
    database = Database(dsn, size=2)
    await database.start()

    async def work() -> None:
        while True:
            async with database.connection() as connection:
                await connection.fetchval("SELECT pg_sleep(0.001)")
                await connection.fetchval("SELECT pg_sleep(0.001)")

    working = [asyncio.create_task(work()) for _ in range(20)]
    await asyncio.sleep(0.2)
    await database.stop()
    ends = await asyncio.gather(*working, return_exceptions=True)
    assert all(isinstance(end, StoreUnavailable) for end in ends), ends
