"""Records of build ids: changes take turns, one cohort is selected, and readers learn of every change once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import asyncpg
import pytest

from store import rollouts
from store.cluster import nodes
from store.connections.pool import Database
from store.rollouts import Changes, Rollout

OLD, NEW = Rollout("default", "q", "old"), Rollout("default", "q", "new")


async def store(db: Database, *rows: Rollout) -> None:
    for row in rows:
        await rollouts.change(db, row.namespace, row.task_queue, lambda _, row=row: [row])  # type: ignore[misc]


async def test_stored_as_decided(db: Database) -> None:
    seen: list[Sequence[Rollout]] = []
    full = Rollout("default", "q", "old", 1, 2, 3, True)

    def decide(rows: Sequence[Rollout]) -> Sequence[Rollout]:
        seen.append(rows)
        return [full]

    await rollouts.change(db, "default", "q", decide)
    await rollouts.change(db, "default", "q", decide)
    assert seen == [[], [full]]
    assert await rollouts.of_queue(db, "default", "q") == [full]
    assert await rollouts.of_queue(db, "default", "other") == await rollouts.of_queue(db, "lab", "q") == []


async def test_a_refused_change_stores_nothing(db: Database) -> None:
    before = await rollouts.since(db, 0, -1)

    def refuse(_rows: Sequence[Rollout]) -> Sequence[Rollout]:
        raise ValueError

    with pytest.raises(ValueError):
        await rollouts.change(db, "default", "q", refuse)
    assert await rollouts.since(db, 0, -1) == before == Changes(0, 0, [], True)


async def test_one_is_selected_whoever_promotes_at_once(db: Database) -> None:
    """The rows say so, and the index would not let another happen."""

    def select(build_id: str) -> asyncio.Task[None]:
        def decide(rows: Sequence[Rollout]) -> Sequence[Rollout]:
            others = [dataclasses.replace(row, selected=False) for row in rows if row.selected and row.build_id != build_id]
            return [Rollout("default", "q", build_id, selected=True), *others]

        return asyncio.create_task(rollouts.change(db, "default", "q", decide))

    await asyncio.gather(*(select(f"b{number % 7}") for number in range(40)))
    rows = await rollouts.of_queue(db, "default", "q")
    assert len(rows) == 7
    assert sum(row.selected for row in rows) == 1
    with pytest.raises(asyncpg.UniqueViolationError):
        connection = await asyncpg.connect(db.dsn)
        try:
            await connection.execute("UPDATE rollouts SET selected = true")
        finally:
            await connection.close()


async def test_readers_learn_of_each_change_once(db: Database) -> None:
    start = await rollouts.since(db, 0, -1)
    await store(db, OLD, NEW)
    first = await rollouts.since(db, start.revision, start.removals)
    assert (sorted(row.build_id for row in first.rows), first.whole) == (["new", "old"], False)
    drained = dataclasses.replace(OLD, drained_at=5)
    await store(db, drained)
    second = await rollouts.since(db, first.revision, first.removals)
    assert (second.rows, second.revision) == ([drained], first.revision + 1)
    assert await rollouts.since(db, second.revision, second.removals) == dataclasses.replace(second, rows=[])


async def test_removed_rows_make_readers_read_everything(db: Database) -> None:
    await store(db, OLD, Rollout("lab", "q", "x"))
    before = await rollouts.since(db, 0, -1)
    assert await db.execute("DELETE FROM rollouts WHERE namespace = 'nobody'") == 0
    assert not (await rollouts.since(db, before.revision, before.removals)).whole
    assert await db.execute("DELETE FROM rollouts WHERE namespace = 'lab'") == 1
    after = await rollouts.since(db, before.revision, before.removals)
    assert (after.rows, after.whole) == ([OLD], True)


async def test_readers_never_miss_a_change(db: Database) -> None:
    """A revision is visible with all before it, however changes overlap."""
    known: dict[str, Rollout] = {}
    state = await rollouts.since(db, 0, -1)
    writes = [
        asyncio.create_task(store(db, *(Rollout("default", f"q{writer}", f"b{n}", drained_at=n) for n in range(20))))
        for writer in range(4)
    ]
    while not all(task.done() for task in writes):
        state = await rollouts.since(db, state.revision, state.removals)
        known |= {f"{row.task_queue} {row.build_id}": row for row in state.rows}
    await asyncio.gather(*writes)
    state = await rollouts.since(db, state.revision, state.removals)
    known |= {f"{row.task_queue} {row.build_id}": row for row in state.rows}
    assert len(known) == 80


async def test_living_nodes(db: Database) -> None:
    await nodes.beat(db, "lives", "i1", "http://a", 60)
    await nodes.beat(db, "ended", "i2", "http://b", -2)
    assert await nodes.living(db) == ["lives"]
