"""Places under caps: taken and given back by the commits of runs, never two at once whoever commits (operations 2.4)."""

from __future__ import annotations

import asyncio
import random

import asyncpg

from store import admission, runs
from store.commit import arguments
from store.commit.group import SESSION, GroupCommit
from store.commit.writes import PermitRow, WriteSet
from store.connections.pool import Database
from tests.store.build import NOW, RunFixture

SCOPE = "lq.workflow.default/q"


def permit(run: RunFixture, number: int, scope: str = SCOPE, taken_at: int = NOW) -> PermitRow:
    return PermitRow(scope, number, run.run_id, run.task_id(1), taken_at)


def change(run: RunFixture, *permits: PermitRow, freed: tuple[tuple[str, int], ...] = ()) -> WriteSet:
    write = run.change(count=1)
    write.permits, write.freed = list(permits), list(freed)
    return write


async def made(commits: GroupCommit, count: int) -> list[RunFixture]:
    some = [RunFixture() for _ in range(count)]
    assert all(await asyncio.gather(*[commits.commit(run.create()) for run in some]))
    return [run.stored(1, 2) for run in some]


async def test_a_place_is_taken_and_given_back_with_the_commit(db: Database, commits: GroupCommit) -> None:
    [run] = await made(commits, 1)
    assert await commits.commit(change(run, permit(run, 3), permit(run, 0, "d000000007.q.workflow.default/q"))) is True
    assert await admission.taken(db, [SCOPE, "other"]) == {SCOPE: [3], "other": []}
    run.stored(2, 3)
    assert await commits.commit(change(run, permit(run, 4), freed=((SCOPE, 3),))) is True
    assert await admission.taken(db, [SCOPE]) == {SCOPE: [4]}
    assert await admission.counts(db, [SCOPE, "none"]) == {SCOPE: 1, "none": 0}
    assert await admission.among(db, [(SCOPE, 4), (SCOPE, 3)]) == {(SCOPE, 4)}


async def test_a_write_whose_place_somebody_has_stores_nothing(db: Database, commits: GroupCommit) -> None:
    first, second, third = await made(commits, 3)
    assert await commits.commit(change(first, permit(first, 0))) is True
    loses = change(second, permit(second, 1), permit(second, 0))
    wins = change(third, permit(third, 2))
    assert await asyncio.gather(commits.commit(loses), commits.commit(wins)) == [False, True]  # type: ignore[comparison-overlap]
    assert await runs.version(db, second.run_id) == 1
    assert sorted((await admission.taken(db, [SCOPE]))[SCOPE]) == [0, 2], "what it could have had is free, too"


async def test_a_new_run_is_not_created_without_its_place(db: Database, commits: GroupCommit) -> None:
    [first] = await made(commits, 1)
    assert await commits.commit(change(first, permit(first, 0))) is True
    run = RunFixture()
    write = run.create()
    write.permits = [permit(run, 0)]
    assert await commits.commit(write) is False
    assert await runs.load(db, run.run_id) is None
    write.permits = [permit(run, 1)]
    assert await commits.commit(write) is True


async def test_a_write_that_loses_by_its_version_takes_and_frees_nothing(db: Database, commits: GroupCommit) -> None:
    [run] = await made(commits, 1)
    assert await commits.commit(change(run, permit(run, 0))) is True
    stale = change(run, permit(run, 1), freed=((SCOPE, 0),))  # the version it had before
    assert await commits.commit(stale) is False
    assert await admission.taken(db, [SCOPE]) == {SCOPE: [0]}


async def test_nobody_gives_back_what_another_run_has(db: Database, commits: GroupCommit) -> None:
    first, second = await made(commits, 2)
    assert await commits.commit(change(first, permit(first, 0))) is True
    assert await commits.commit(change(second, freed=((SCOPE, 0),))) is True
    assert await admission.taken(db, [SCOPE]) == {SCOPE: [0]}


async def test_of_two_connections_that_take_a_place_at_once_the_key_lets_one(dsn: str, commits: GroupCommit) -> None:
    """Neither statement sees the other's row: the second waits for the end of the first, and then fails."""
    first, second = await made(commits, 2)
    one, other = [await asyncpg.connect(dsn, server_settings=SESSION) for _ in range(2)]
    try:
        begun = one.transaction()
        await begun.start()
        sql, args = arguments.encode([change(first, permit(first, 0))])
        assert await one.fetchval(sql, *args) == [0]
        sql, args = arguments.encode([change(second, permit(second, 0))])
        waiting = asyncio.create_task(other.fetchval(sql, *args))
        pid = other.get_server_pid()
        while await one.fetchval("SELECT cardinality(pg_blocking_pids($1))", pid) == 0:
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await begun.commit()
        error = (await asyncio.gather(waiting, return_exceptions=True))[0]
        assert isinstance(error, asyncpg.UniqueViolationError)
        assert await other.fetchval(sql, *args) == [], "sent again, it sees the row and is a plain conflict"
    finally:
        await one.close()
        await other.close()


async def test_two_nodes_that_commit_at_once_never_pass_the_cap(db: Database, commits: GroupCommit) -> None:
    """Four group commits, forty runs that take and free places of five at random, watched all the time."""
    cap, rng = 5, random.Random(7)
    some = await made(commits, 40)
    others = [GroupCommit(db.dsn) for _ in range(4)]
    for group in others:
        await group.start()
    done = asyncio.Event()
    granted = 0

    async def work(run: RunFixture, group: GroupCommit) -> None:
        nonlocal granted
        version, held = 1, None
        for _ in range(25):
            if held is None:
                number = rng.randrange(cap)
                write = change(run, permit(run, number))
            else:
                write = change(run, freed=((SCOPE, held),))
            if await group.commit(write):
                version += 1
                run.stored(version, run.sequence + 1)
                granted += held is None
                held = number if held is None else None
        if held is not None:
            assert await group.commit(change(run, freed=((SCOPE, held),)))

    async def watch() -> int:
        most = 0
        while not done.is_set():
            numbers = (await admission.taken(db, [SCOPE]))[SCOPE]
            assert len(numbers) <= cap and all(number < cap for number in numbers)
            most = max(most, len(numbers))
        return most

    watching = asyncio.create_task(watch())
    try:
        await asyncio.gather(*[work(run, others[k % 4]) for k, run in enumerate(some)])
    finally:
        done.set()
        most = await watching
        for group in others:
            await group.stop()
    assert granted > 50 and most > 1
    assert await admission.taken(db, [SCOPE]) == {SCOPE: []}, "what was granted was given back, and nothing is lost"


async def test_old_rows_are_swept_by_scope_and_by_themselves(db: Database, commits: GroupCommit) -> None:
    [run] = await made(commits, 1)
    minutes = [permit(run, n, f"d{minute:09d}.q.workflow.default/q") for minute in (7, 8) for n in range(3)]
    leases = [permit(run, 0), permit(run, 1, taken_at=NOW + 10)]
    assert await commits.commit(change(run, *minutes, *leases)) is True
    assert await admission.forget(db, "d", "d000000008", 2) == 2
    assert await admission.forget(db, "d", "d000000008", 2) == 1
    assert await admission.counts(db, ["d000000008.q.workflow.default/q"]) == {"d000000008.q.workflow.default/q": 3}
    old = await admission.between(db, ("l", 0), "m", NOW + 5, 10)
    assert old == [leases[0]]
    assert await admission.give_back(db, [permit(run, 0, taken_at=NOW - 1)]) == 0, "another one by now"
    assert await admission.give_back(db, old) == 1
    assert await admission.taken(db, [SCOPE]) == {SCOPE: [1]}
