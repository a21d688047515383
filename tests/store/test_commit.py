"""Group commit: all or nothing per run, and one conflict spoils one run."""

from __future__ import annotations

import asyncio

import pytest

from store import history, instances, ready_tasks, run_messages, runs
from store.commit.group import GroupCommit
from store.connections.pool import Database
from store.errors import StoreRejected, StoreUnavailable
from tests.store.build import NOW, RunFixture, events, message, ready_task, row


async def created(commits: GroupCommit, count: int = 1) -> list[RunFixture]:
    made = [RunFixture() for _ in range(count)]
    assert all(await asyncio.gather(*[commits.commit(run.create()) for run in made]))
    return [run.stored(1, 2) for run in made]


async def test_creation_stores_everything_of_the_run(db: Database, commits: GroupCommit) -> None:
    run = RunFixture()
    task = ready_task(run.task_id(1))
    assert await commits.commit(run.create(ready=[task], sent=[message("m1")])) is True

    instance = await instances.get(db, run.workflow_id)
    assert instance == instances.Instance(run.workflow_id, "default", "Greeter", 1, run.run_id, 1)
    stored = await runs.load(db, run.run_id)
    assert stored is not None
    assert stored.version == 1
    expected = run.identity()
    assert stored.identity.memo == expected.memo
    expected.search_attributes = stored.identity.search_attributes = b""
    assert stored.identity == expected
    assert stored.row.state == b"state-2"
    assert await runs.load_by_key(db, run.key) == await runs.load(db, run.run_id)
    assert await history.load(db, run.run_id) == events(1, 2).split(b"\n")
    assert await ready_tasks.ready(db, "default", "q", "workflow", 10) == [task]
    assert await run_messages.pending(db, [1], 10) == [message("m1")]


async def test_change_replaces_the_row_and_adds_history(db: Database, commits: GroupCommit) -> None:
    [run] = await created(commits)
    write = run.change(count=3, row=row(5, wake_at=NOW + 5, search_attributes=b'{"Region":"south"}'))
    assert await commits.commit(write) is True

    stored = await runs.load(db, run.run_id)
    assert stored is not None
    assert (stored.version, stored.row.wake_at, stored.row.last_sequence) == (2, NOW + 5, 5)
    assert stored.row.search_attributes == b'{"Region": "south"}'
    assert await history.load(db, run.run_id) == events(1, 5).split(b"\n")

    run.stored(2, 5)
    assert await commits.commit(run.change(count=0)) is True
    stored = await runs.load(db, run.run_id)
    assert stored is not None
    assert stored.version == 3
    assert stored.row.search_attributes == b'{"Region": "south"}', "None must leave the stored attributes"
    assert await history.total(db, run.run_id) == 5


async def test_a_conflict_spoils_only_its_own_run(db: Database, commits: GroupCommit) -> None:
    made = await created(commits, 20)
    await commits.commit(made[7].change(ready=[ready_task(made[7].task_id(0))]))  # so that run 7 is at version 2 now
    writes = [
        run.change(
            ready=[ready_task(run.task_id(9))],
            unready=[run.task_id(0)],
            sent=[message(f"mail-{i:02d}")],
        )
        for i, run in enumerate(made)
    ]
    batches = commits.batches
    results = await asyncio.gather(*[commits.commit(write) for write in writes])
    assert commits.batches == batches + 1, "the writes must have shared one statement"
    assert results == [i != 7 for i in range(20)]

    assert await runs.version(db, made[7].run_id) == 2
    assert await history.total(db, made[7].run_id) == 3
    rows = await ready_tasks.ready(db, "default", "q", "workflow", 100)
    assert {task.task_id for task in rows} == {r.task_id(9) for i, r in enumerate(made) if i != 7} | {made[7].task_id(0)}
    assert {m.message_id for m in await run_messages.pending(db, [1], 100)} == {f"mail-{i:02d}" for i in range(20) if i != 7}
    for i, run in enumerate(made):
        if i != 7:
            assert await runs.version(db, run.run_id) == 2
            assert await history.load(db, run.run_id) == events(1, 3).split(b"\n")


async def test_unknown_run_is_a_conflict(commits: GroupCommit) -> None:
    assert await commits.commit(RunFixture().stored(4, 9).change()) is False


async def test_two_writes_of_one_run_in_one_batch(db: Database, commits: GroupCommit) -> None:
    [run] = await created(commits)
    results = await asyncio.gather(commits.commit(run.change()), commits.commit(run.change()))
    assert sorted(results) == [False, True]
    assert await runs.version(db, run.run_id) == 2
    assert await history.total(db, run.run_id) == 3


async def test_twenty_parallel_creations_of_one_workflow_id(db: Database, commits: GroupCommit) -> None:
    other = GroupCommit(db.dsn)
    await other.start()
    try:
        candidates = [RunFixture(workflow_id="the-one", namespace="default" if n % 2 else "lab") for n in range(20)]
        results = await asyncio.gather(
            *[
                (commits, other)[n % 3 == 0].commit(run.create(ready=[ready_task(run.task_id(1))]))
                for n, run in enumerate(candidates)
            ]
        )
    finally:
        await other.stop()
    assert results.count(True) == 1
    winner = candidates[results.index(True)]
    instance = await instances.get(db, "the-one")
    assert instance is not None
    assert (instance.current_run_id, instance.namespace, instance.run_count) == (winner.run_id, winner.namespace, 1)
    assert await db.fetchval("SELECT count(*) FROM runs") == 1
    assert await db.fetchval("SELECT count(*) FROM history") == 1
    assert await db.fetchval("SELECT count(*) FROM run_marks") == 1
    assert await db.fetchval("SELECT count(*) FROM ready_tasks") == 1


async def test_creation_under_an_existing_workflow_id(db: Database, commits: GroupCommit) -> None:
    [first] = await created(commits)
    assert await commits.commit(RunFixture(workflow_id=first.workflow_id).create()) is False
    second = [RunFixture(workflow_id=first.workflow_id, run_number=2) for _ in range(5)]
    results = await asyncio.gather(*[commits.commit(run.create(new_instance=False)) for run in second])
    assert results.count(True) == 1
    instance = await instances.get(db, first.workflow_id)
    assert instance is not None
    assert (instance.current_run_id, instance.run_count) == (second[results.index(True)].run_id, 2)
    skipping = RunFixture(workflow_id=first.workflow_id, run_number=4)
    assert await commits.commit(skipping.create(new_instance=False)) is False
    elsewhere = RunFixture(workflow_id=first.workflow_id, run_number=3, namespace="lab")
    assert await commits.commit(elsewhere.create(new_instance=False)) is False
    assert await commits.commit(RunFixture(run_number=2).create(new_instance=False)) is False, "there is no such workflow id"


async def test_successor_goes_with_its_predecessor(db: Database, commits: GroupCommit) -> None:
    [run] = await created(commits)
    following = RunFixture(workflow_id=run.workflow_id, run_number=2)
    write = run.change(
        row=row(3, status="completed", closed_reason="continued", closed_at=NOW),
        successor=following.create(new_instance=False, ready=[ready_task(following.task_id(1))], sent=[message("from-next")]),
    )
    assert await commits.commit(write) is True
    instance = await instances.get(db, run.workflow_id)
    assert instance is not None
    assert (instance.current_run_id, instance.run_count) == (following.run_id, 2)
    chain = await runs.of_instance(db, "default", run.workflow_id)
    assert [(item.run_id, item.run_number, item.status) for item in chain] == [
        (run.run_id, 1, "completed"),
        (following.run_id, 2, "pending"),
    ]
    assert await history.total(db, following.run_id) == 2
    assert [task.task_id for task in await ready_tasks.ready(db, "default", "q", "workflow", 9)] == [following.task_id(1)]
    assert [m.message_id for m in await run_messages.pending(db, [1], 9)] == ["from-next"]


async def test_successor_of_a_lost_write_is_not_stored(db: Database, commits: GroupCommit) -> None:
    [run, witness] = await created(commits, 2)
    following = RunFixture(workflow_id=run.workflow_id, run_number=2)
    stale = run.stored(7, 2).change(successor=following.create(new_instance=False, ready=[ready_task(following.task_id(1))]))
    results = await asyncio.gather(commits.commit(stale), commits.commit(witness.change()))
    assert list(results) == [False, True]
    assert await runs.load(db, following.run_id) is None
    assert await history.total(db, following.run_id) == 0
    assert await ready_tasks.ready(db, "default", "q", "workflow", 9) == []
    instance = await instances.get(db, run.workflow_id)
    assert instance is not None
    assert (instance.current_run_id, instance.run_count) == (run.run_id, 1)


async def test_history_key_refuses_a_second_batch_at_one_sequence(db: Database, commits: GroupCommit) -> None:
    [run, witness] = await created(commits, 2)
    write = run.change()
    write.first_sequence = 1  # the version is right and the history is not: only the key can notice
    results = await asyncio.gather(commits.commit(write), commits.commit(witness.change()))
    assert list(results) == [False, True]
    assert await runs.version(db, run.run_id) == 1
    assert await history.load(db, run.run_id) == events(1, 2).split(b"\n")


async def test_ready_rows_come_and_go(db: Database, commits: GroupCommit) -> None:
    [run] = await created(commits)
    later = ready_task(run.task_id(2), priority=1, available_at=NOW + 5)
    assert await commits.commit(run.change(ready=[ready_task(run.task_id(1)), later])) is True
    assert [t.task_id for t in await ready_tasks.ready(db, "default", "q", "workflow", 9)] == [run.task_id(2), run.task_id(1)]
    run.stored(2, 3)
    assert await commits.commit(run.change(unready=[run.task_id(1), "unknown"])) is True
    assert await ready_tasks.ready(db, "default", "q", "workflow", 9) == [later]
    run.stored(3, 4)
    again = ready_task(run.task_id(2), available_at=NOW + 9)
    assert await commits.commit(run.change(ready=[again], unready=[run.task_id(2)])) is True
    assert await ready_tasks.ready(db, "default", "q", "workflow", 9) == [again]
    assert await ready_tasks.get(db, [run.task_id(1), run.task_id(2)]) == [again]


async def test_message_is_applied_once(db: Database, commits: GroupCommit) -> None:
    [sender, receiver] = await created(commits, 2)
    assert await commits.commit(sender.change(sent=[message("a"), message("b")])) is True
    assert await commits.commit(receiver.change(received=["a"])) is True
    assert [m.message_id for m in await run_messages.pending(db, [1], 9)] == ["b"]
    # A second node that reloaded the run but still holds the message must not apply it again.
    receiver.stored(2, 3)
    results = await asyncio.gather(
        commits.commit(receiver.change(received=["a"])), commits.commit(sender.stored(2, 3).change(received=["b"]))
    )
    assert list(results) == [False, True]
    assert await runs.version(db, receiver.run_id) == 2
    assert await run_messages.pending(db, [1], 9) == []


async def test_creation_by_message_happens_once(db: Database, commits: GroupCommit) -> None:
    [sender] = await created(commits)
    await commits.commit(sender.change(sent=[message("start-child")]))
    child, twin = RunFixture(), RunFixture()
    assert await commits.commit(child.create(received=["start-child"])) is True
    assert await commits.commit(twin.create(received=["start-child"])) is False
    assert await instances.get(db, twin.workflow_id) is None
    assert await run_messages.discard(db, ["start-child"]) == 0


async def test_refused_data_spoils_only_its_own_run(db: Database, commits: GroupCommit) -> None:
    made = await created(commits, 4)
    writes = [run.change() for run in made]
    writes[1].row.closed_reason = "a\x00b"  # no text of Postgres holds a NUL
    writes[2].row.wake_at = 2**70
    results = await asyncio.gather(*[commits.commit(write) for write in writes], return_exceptions=True)
    assert results[0] is True
    assert results[3] is True
    assert isinstance(results[1], StoreRejected)
    assert isinstance(results[2], StoreRejected)
    assert [await runs.version(db, run.run_id) for run in made] == [2, 1, 1, 2]
    assert await commits.commit(made[1].change()) is True


async def test_duplicate_message_and_run_ids_are_conflicts_of_one_run(db: Database, commits: GroupCommit) -> None:
    [one, two] = await created(commits, 2)
    assert await commits.commit(one.change(sent=[message("same")])) is True
    again = RunFixture(key=one.key)
    results = await asyncio.gather(
        commits.commit(two.change(sent=[message("same")])),
        commits.commit(again.create()),
        commits.commit(RunFixture().create()),
    )
    assert list(results) == [False, False, True]
    assert await instances.get(db, again.workflow_id) is None
    assert await runs.version(db, two.run_id) == 1


async def test_published_mark_is_never_lowered_by_a_commit(db: Database, commits: GroupCommit) -> None:
    [run] = await created(commits)
    await runs.mark_published(db, [(run.run_id, 2)])
    assert await commits.commit(run.change(row=row(3, published_sequence=1))) is True
    stored = await runs.load(db, run.run_id)
    assert stored is not None
    assert stored.row.published_sequence == 2


async def test_malformed_writes_are_refused_at_once(commits: GroupCommit) -> None:
    run = RunFixture()
    with pytest.raises(ValueError, match="identity"):
        commits.commit(run.create(identity=None))
    with pytest.raises(ValueError, match="followed"):
        commits.commit(run.create(successor=RunFixture().create(new_instance=False)))
    with pytest.raises(ValueError, match="plain creation"):
        commits.commit(run.stored(1, 2).change(successor=RunFixture().stored(1, 1).change()))


async def test_more_writes_than_one_statement_takes(db: Database) -> None:
    small = GroupCommit(db.dsn, max_batch=7)
    await small.start()
    made = [RunFixture() for _ in range(50)]
    assert all(await asyncio.gather(*[small.commit(run.create()) for run in made]))
    assert small.batches == 8
    assert small.writes == 50
    await small.stop()
    thin = GroupCommit(db.dsn, max_bytes=1)
    await thin.start()
    assert all(await asyncio.gather(*[thin.commit(run.stored(1, 2).change()) for run in made[:5]]))
    assert thin.batches == 5
    await thin.stop()


async def test_stop_commits_what_was_handed_in(db: Database) -> None:
    group = GroupCommit(db.dsn)
    await group.start()
    made = [RunFixture() for _ in range(10)]
    futures = [group.commit(run.create()) for run in made]
    await group.stop()
    assert [future.result() for future in futures] == [True] * 10
    assert await db.fetchval("SELECT count(*) FROM runs") == 10
    with pytest.raises(StoreUnavailable):
        await group.commit(RunFixture().create())


async def test_two_writers_with_stale_views_never_lose_or_double_an_event(db: Database, commits: GroupCommit) -> None:
    """Two nodes that both believe they own the same runs: what was told True is exactly what is stored."""
    other = GroupCommit(db.dsn)
    await other.start()
    made = await created(commits, 12)
    wins = {run.run_id: 0 for run in made}

    async def writer(group: GroupCommit, run: RunFixture) -> None:
        mine = RunFixture(workflow_id=run.workflow_id, key=run.key).stored(1, 2)
        for _ in range(25):
            if await group.commit(mine.change(ready=[ready_task(mine.task_id(mine.version))])):
                wins[run.run_id] += 1
                mine.stored(mine.version + 1, mine.sequence + 1)
            else:
                stored = await runs.load(db, run.run_id)
                assert stored is not None
                mine.stored(stored.version, stored.row.last_sequence)

    try:
        await asyncio.gather(*[writer(group, run) for run in made for group in (commits, other)])
    finally:
        await other.stop()
    for run in made:
        stored = await runs.load(db, run.run_id)
        assert stored is not None
        assert stored.version == 1 + wins[run.run_id]
        assert stored.row.last_sequence == 2 + wins[run.run_id]
        assert await history.load(db, run.run_id) == events(1, stored.row.last_sequence).split(b"\n")
    assert await db.fetchval("SELECT count(*) FROM ready_tasks") == sum(wins.values())
    assert sum(wins.values()) >= 25 * 12, "at least one of two writers wins every round"
