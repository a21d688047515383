"""Readers and small writers of each aggregate."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from actors.run.views.status_buckets import BUCKETS, is_terminal
from store import history, namespaces, ready_tasks, run_messages, runs
from store.commit.group import GroupCommit
from store.commit.writes import ReadyTaskRow
from store.connections.pool import Database
from store.errors import StoreRejected
from store.visibility.conditions import All, Condition, InBucket, Part, Text
from store.visibility.listing import Position, listing
from tests.store.build import NOW, RunFixture, events, message, ready_task, row


async def store(commits: GroupCommit, *runs_: RunFixture, **parts: Any) -> None:
    for run in runs_:
        assert await commits.commit(run.create(**parts)) is True
        run.stored(1, 2)


async def test_absent_things(db: Database) -> None:
    assert await runs.load(db, "none") is None
    assert await runs.load_by_key(db, "none") is None
    assert await runs.version(db, "none") is None
    assert await history.load(db, "none") == []
    assert await history.total(db, "none") == 0
    assert await run_messages.pending(db, [0, 1], 5) == []


async def test_history_ranges(db: Database, commits: GroupCommit) -> None:
    run = RunFixture()
    await store(commits, run)
    for count in (1, 4, 2):
        assert await commits.commit(run.change(count=count)) is True
        run.stored(run.version + 1, run.sequence + count)
    everything = events(1, 9).split(b"\n")
    assert await history.total(db, run.run_id) == 9
    for after in range(11):
        assert await history.load(db, run.run_id, after) == everything[after:]
        for upto in range(11):
            assert await history.load(db, run.run_id, after, upto) == everything[after:upto]


async def test_due_runs(db: Database, commits: GroupCommit) -> None:
    made = [RunFixture(shard=n % 3) for n in range(9)]
    for n, run in enumerate(made):
        await store(commits, run, row=row(2, wake_at=None if n == 8 else NOW + n))
    due = await runs.due(db, [0, 1], NOW + 6, 100)
    assert due == [(run.run_id, run.shard, NOW + n) for n, run in enumerate(made) if run.shard != 2 and n <= 6]
    assert await runs.due(db, [0, 1], NOW + 6, 2) == due[:2]
    assert await runs.due(db, [], NOW + 6, 2) == []


async def test_what_is_awaited_page_by_page(db: Database, commits: GroupCommit) -> None:
    made = [RunFixture(shard=n % 2) for n in range(12)]
    for n, run in enumerate(made):
        await store(commits, run, row=row(2, wake_at=None if n == 10 else NOW + n // 4))
    expected = sorted((NOW + n // 4, run.run_id) for n, run in enumerate(made) if n % 2 == 0 and n != 10)
    seen, after = [], (NOW, "")
    while page := await runs.awaited(db, 0, after, 2):
        seen += [(wake_at, run_id) for run_id, wake_at, _ in page]
        after = (page[-1][1], page[-1][0])
    assert seen == expected
    last = [progress for _, _, progress in await runs.awaited(db, 0, (NOW, ""), 99)]
    assert set(last) == {(await runs.load(db, made[0].run_id)).row.last_progress_at}  # type: ignore[union-attr]
    assert await runs.awaited(db, 5, (NOW, ""), 9) == []


async def test_a_run_changed_by_a_clock_far_ahead_counts_as_idle(db: Database, commits: GroupCommit) -> None:
    run = RunFixture(shard=0)
    await store(commits, run)
    assert await runs.unpublished(db, [0], NOW - 1_000_000, 9) == []
    assert [each[0] for each in await runs.unpublished(db, [0], NOW - 3_600_000_000, 9)] == [run.run_id]


async def test_published_marks(db: Database, commits: GroupCommit) -> None:
    one, two, three = made = [RunFixture(shard=n) for n in range(3)]
    await store(commits, *made)
    assert {u[0] for u in await runs.unpublished(db, [0, 1], NOW + 1, 9)} == {one.run_id, two.run_id}
    assert await runs.unpublished(db, [0, 1, 2], NOW, 9) == [], "their last progress is too recent"
    await runs.mark_published(db, [(two.run_id, 1), (one.run_id, 2), ("none", 5)])
    await runs.mark_published(db, [(one.run_id, 1)])
    await runs.mark_published(db, [])
    assert sorted(await runs.unpublished(db, [0, 1], NOW + 1, 9)) == [(two.run_id, 1, 2)]
    assert len(await runs.unpublished(db, [0, 1, 2], NOW + 1, 1)) == 1
    assert await runs.version(db, one.run_id) == 1, "marking must not disturb the run's writer"
    assert await commits.commit(one.change()) is True
    assert (three.version, await runs.version(db, three.run_id)) == (1, 1)


async def test_no_unpublished_event_is_overlooked(db: Database, commits: GroupCommit) -> None:
    """Marking races with commits of the same run: whoever is last, a tail left unpublished is found."""
    made = [RunFixture() for _ in range(8)]
    await store(commits, *made)

    async def publish(run: RunFixture) -> None:
        for _ in range(30):
            await runs.mark_published(db, [(run.run_id, await history.total(db, run.run_id))])

    async def write(run: RunFixture) -> None:
        for _ in range(30):
            assert await commits.commit(run.change()) is True
            run.stored(run.version + 1, run.sequence + 1)

    await asyncio.gather(*[each(run) for run in made for each in (publish, write)])
    rows = await db.fetch(
        "SELECT run_id, unpublished, published_sequence < last_sequence FROM runs JOIN run_marks USING (run_id)"
    )
    assert len(rows) == 8
    assert [(row[0], row[1]) for row in rows] == [(row[0], row[2]) for row in rows]


async def test_listing(db: Database, commits: GroupCommit) -> None:
    made = []
    statuses = ("pending", "running", "waiting", "completed", "failed", "cancelled", "terminated")
    for n, status in enumerate(statuses):
        closed = status if is_terminal(status) else None
        run = RunFixture(workflow_id=f"Order-{n}")
        identity = run.identity(started_at=NOW + n // 2, business_key="50%_Off" if n == 3 else None)
        await store(commits, run, row=row(2, status=status, closed_reason=closed), identity=identity)
        made.append((NOW + n // 2, run.run_id, run))
    await store(commits, RunFixture(namespace="lab"))
    newest_first = [run for _, _, run in sorted(made, key=lambda m: m[:2], reverse=True)]

    async def ids(*parts: Condition, **place: Any) -> list[str]:
        return [item.run_id for item in await listing(db, "default", All(parts) if parts else None, **place)]

    assert await ids() == [run.run_id for run in newest_first]
    for number, run in enumerate(newest_first):
        after = Position(next(at for at, run_id, _ in made if run_id == run.run_id), run.run_id)
        assert await ids(after=after, limit=3) == [following.run_id for following in newest_first[number + 1 : number + 4]]
    assert await ids(after=Position(NOW - 1, "z")) == []
    for bucket, count in (("running", 3), ("completed", 1), ("failed", 3)):
        found = await listing(db, "default", InBucket(bucket))
        assert {item.status for item in found} == set(BUCKETS[bucket])
        assert len(found) == count
    assert await ids(Text("workflow_type", "=", "Greeter"), Part("oRDER-4")) == [made[4][1]]
    assert await ids(Part("%_oFF")) == [made[3][1]], "no character of a query is a wildcard"
    assert await ids(Part("rder%")) == []
    assert await ids(Text("workflow_type", "=", "Other")) == []
    item = (await listing(db, "lab"))[0]
    assert (item.namespace, item.workflow_type, item.search_attributes) == ("lab", "Greeter", b'{"Region": "north"}')


async def test_runs_of_an_instance_are_shown_in_its_namespace_only(db: Database, commits: GroupCommit) -> None:
    first = RunFixture()
    await store(commits, first)
    second = RunFixture(workflow_id=first.workflow_id, run_number=2)
    assert await commits.commit(second.create(new_instance=False)) is True
    assert [item.run_number for item in await runs.of_instance(db, "default", first.workflow_id)] == [1, 2]
    assert await runs.of_instance(db, "lab", first.workflow_id) == []


async def test_ready_tasks_in_order(db: Database, commits: GroupCommit) -> None:
    run = RunFixture()
    rows = [
        ready_task("t4", priority=9, available_at=NOW - 9),
        ready_task("t3", priority=1, available_at=NOW + 1),
        ready_task("t2", priority=1, available_at=NOW),
        ready_task("t1", priority=1, available_at=NOW),
        ready_task("t0", queue="other"),
    ]
    await store(commits, run, ready=rows)
    assert [t.task_id for t in await ready_tasks.ready(db, "default", "q", "workflow", 9)] == ["t1", "t2", "t3", "t4"]
    assert [t.task_id for t in await ready_tasks.ready(db, "default", "q", "workflow", 2)] == ["t1", "t2"]
    assert await ready_tasks.ready(db, "default", "q", "activity", 9) == []
    assert await ready_tasks.ready(db, "lab", "q", "workflow", 9) == []
    assert await ready_tasks.last_available(db, [2], NOW, 9) == ["t3"]
    assert await ready_tasks.last_available(db, [1], NOW, 9) == []


async def test_claimable_tasks_are_whole_up_to_where_they_were_cut(db: Database, commits: GroupCommit) -> None:
    """Every type, build marker and priority in order, due ones apart from later ones, whatever else is in the queue."""
    rows = [
        replace(ready_task(f"{n:03}", priority=n % 3, available_at=NOW + n % 11 - 5), type_name=kind, compatibility=marker)
        for n, (kind, marker) in enumerate(
            (kind, marker) for kind in ("a", "b", "c") for marker in (None, "", "blue", "red") for _ in range(25)
        )
    ]
    others = [replace(ready_task("x", queue="other"), type_name="a"), replace(ready_task("y"), type_name="a", kind="activity")]
    await store(commits, RunFixture(), ready=[*rows, *others])
    for types in (None, ["a"], ["b", "c", "none"], ["none"], []):
        for markers in ([""], ["", "blue"]):
            mine = [row for row in rows if (types is None or row.type_name in types) and (row.compatibility or "") in markers]
            due = sorted((row for row in mine if row.available_at <= NOW), key=_order)
            later = sorted((row for row in mine if row.available_at > NOW), key=lambda row: (row.available_at, row.task_id))
            for limit in (1, 2, 17, 40, 1000):
                found = await ready_tasks.claimable(db, "default", "q", "workflow", types, markers, NOW, limit)
                assert found.due == due[: len(found.due)] and found.later == later[: len(found.later)]
                if found.reach is None:
                    assert found.due == due
                else:
                    last = found.due[-1]
                    assert found.due and found.reach == ready_tasks.Reach(last.priority, {"": _order(last)}, True)
                if found.later_from is None:
                    assert found.later == later
                else:
                    assert found.later and found.later_from == found.later[-1].available_at
                assert limit < 1000 or (found.reach, found.later_from) == (None, None)


def _order(task: ReadyTaskRow) -> tuple[int, int, str]:
    return task.priority, task.available_at, task.task_id


async def test_message_by_shard(db: Database, commits: GroupCommit) -> None:
    await store(commits, RunFixture(), sent=[message("b", shard=3), message("a", shard=4), message("c", shard=5)])
    assert [m.message_id for m in await run_messages.pending(db, [3, 4], 9)] == ["a", "b"]
    assert [m.message_id for m in await run_messages.pending(db, [3, 4], 1)] == ["a"]
    assert await run_messages.discard(db, ["a", "none"]) == 1
    assert [m.message_id for m in await run_messages.pending(db, [3, 4], 9)] == ["b"]


async def test_namespaces(db: Database) -> None:
    results = await asyncio.gather(*[namespaces.create(db, "zoo", None, n + 1, NOW) for n in range(8)])
    assert sorted(results) == [False] * 7 + [True]
    assert await namespaces.create(db, "lab", "Trial area", 14, NOW) is True
    assert [n.name for n in await namespaces.listing(db)] == ["default", "zoo", "lab"]
    lab = await namespaces.get(db, "lab")
    assert lab == namespaces.Namespace("lab", "Trial area", 14, "active", None, NOW, NOW)
    updated = await namespaces.update(db, "lab", None, 21, NOW + 5)
    assert updated == namespaces.Namespace("lab", "Trial area", 21, "active", None, NOW, NOW + 5)
    policy = {"driver": "local", "enabled": True, "config": {"uri": "file:///x"}}
    stored = await namespaces.set_external_storage(db, "lab", policy, NOW + 6)
    assert stored is not None
    assert (stored.external_payload_storage, stored.retention_days) == (policy, 21)
    assert await namespaces.get(db, "lab") == stored
    assert await namespaces.get(db, "none") is None
    assert await namespaces.update(db, "none", None, None, NOW) is None
    assert await namespaces.set_external_storage(db, "none", None, NOW) is None


async def test_errors_of_statements_are_the_stores_own(db: Database) -> None:
    with pytest.raises(StoreRejected):
        await db.fetch("SELECT no_such_column FROM runs")
    with pytest.raises(StoreRejected):
        await namespaces.create(db, "a\x00b", None, 1, NOW)
    with pytest.raises(StoreRejected):
        await namespaces.create(db, "big", None, 2**40, NOW)
    with pytest.raises(KeyError):
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO settings VALUES ('gone', '1')")
            raise KeyError("mine")
    assert await db.fetchval("SELECT count(*) FROM settings WHERE key = 'gone'") == 0
