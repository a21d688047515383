"""Ready tasks with fairness keys as they are read: something of every class, and nothing said to be known is missing."""

from __future__ import annotations

import random
from collections import Counter

import asyncpg
import pytest

from store import ready_tasks
from store.commit.writes import ReadyTaskRow
from store.connections.pool import Database

NOW = 1_000_000_000
FILL = """
INSERT INTO ready_tasks
SELECT t || '-' || lpad(n::text, 6, '0') || '-' || gen_random_uuid(), 0, 'default', 'q', 'workflow', t, m, p, c, w, a
FROM unnest($1::text[], $2::text[], $3::int4[], $4::text[], $5::int4[], $6::int8[]) WITH ORDINALITY AS u(t, m, p, c, w, a, n)
"""
Spec = tuple[str, str | None, int, str | None, int, int]


async def fill(db: Database, specs: list[Spec]) -> None:
    await db.execute(FILL, *(list(column) for column in zip(*specs, strict=True)))


async def look(
    db: Database, types: list[str] | None, limit: int, after: ready_tasks.Position | None = None
) -> ready_tasks.Claimable:
    return await ready_tasks.claimable(db, "default", "q", "workflow", types, ["", "blue"], NOW, limit, after)


def order(row: ReadyTaskRow) -> ready_tasks.Order:
    return row.priority, row.available_at, row.task_id


async def test_a_class_behind_a_hundred_thousand_tasks_of_another_is_read(db: Database) -> None:
    await fill(db, [("a", None, 5, "big", 1, n) for n in range(100_000)])
    await fill(db, [("b", None, 5, "small", 1, 500_000 + n) for n in range(20)])
    await fill(db, [("b", None, 5, None, 1, 600_000 + n) for n in range(20)])
    for types in (None, ["a", "b"]):
        found = await look(db, types, 500)
        counted = Counter(row.fairness_key for row in found.due)
        assert counted["small"] == counted[None] == 20 and counted["big"] >= 100
        assert found.reach is not None and set(found.reach.bounds) == {"big"} and found.reach.others


async def test_what_is_read_is_shared_by_weight(db: Database) -> None:
    await fill(db, [("a", None, 5, name, weight, n) for name, weight in (("x", 7), ("y", 2), ("z", 1)) for n in range(2000)])
    found = await look(db, None, 500)
    counted = Counter(row.fairness_key for row in found.due)
    assert len(found.due) == 500 and [round(counted[name] / 50) for name in "xyz"] == [7, 2, 1]


async def test_of_more_classes_than_fit_all_have_their_turn(db: Database) -> None:
    classes = {f"c{n:05}" for n in range(3000)}
    await fill(db, [(kind, None, 5, name, 1, n) for name in classes for kind in ("a", "b") for n in range(3)])
    await fill(db, [("a", None, 0, "urgent", 1, 1), ("a", None, 7, "idle", 1, 1)])
    for types in (None, ["a", "b"]):
        after, seen, reads = None, set(), 0
        while True:
            found = await look(db, types, 200, after)
            reads += 1
            assert len(found.due) <= 2500 and found.due[0].fairness_key == "urgent"
            assert found.reach is not None and (found.reach.priority, found.reach.others) == (5, False)
            assert found.later_from is not None
            seen |= {row.fairness_key for row in found.due}
            after = found.resume
            if after is None:
                break
        assert seen == classes | {"urgent"} and 6 <= reads <= 20


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_said_to_be_known_is_known(db: Database, seed: int) -> None:
    chance = random.Random(seed)
    specs: list[Spec] = [
        (
            chance.choice("abc"),
            chance.choice([None, "", "blue", "red"]),
            chance.randrange(3),
            chance.choice([None, None, "x", "y", *(f"k{n}" for n in range(seed * 20))]),
            chance.choice([1, 1, 3, 100]),
            NOW + chance.randrange(-50, 20),
        )
        for _ in range(1500)
    ]
    await fill(db, specs)
    rows = await db.fetch("SELECT task_id FROM ready_tasks")
    every = await ready_tasks.get(db, [row[0] for row in rows])
    for types in (None, ["a"], ["b", "c"]):
        mine = [row for row in every if (types is None or row.type_name in types) and row.compatibility != "red"]
        due = {row.task_id: row for row in mine if row.available_at <= NOW}
        later = [row for row in mine if row.available_at > NOW]
        for limit in (1, 2, 17, 100, 600, 5000):
            after = None
            for _ in range(20):
                found = await look(db, types, limit, after)
                got = {row.task_id for row in found.due}
                assert len(got) == len(found.due) and got <= due.keys()
                reach = found.reach
                for row in due.values():
                    if reach is None:
                        assert row.task_id in got
                        continue
                    bound = reach.bounds.get(row.fairness_key or "")
                    known = row.priority < reach.priority or (
                        row.priority == reach.priority and (reach.others if bound is None else order(row) <= bound)
                    )
                    assert known == (row.task_id in got), (
                        f"known {known}, but {row}, {reach}, {after}, {found.resume}, {limit}, {types}"
                    )
                if after is None and found.resume is None:
                    assert [r.task_id for r in found.later] == [
                        r.task_id
                        for r in sorted(later, key=lambda r: (r.available_at, r.task_id))
                        if found.later_from is None or r.available_at <= found.later_from
                    ][: len(found.later)]
                after = found.resume
                if after is None:
                    break


async def test_an_older_program_reads_the_same_rows(db: Database, dsn: str) -> None:
    """What was sent before classes were read one by one still works, while nodes are replaced."""
    await fill(db, [("a", None, 5, name, 1, n) for name in ("x", "y") for n in range(50)])
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT task_id FROM ready_tasks r WHERE r.lane = hashtextextended('a', hashtextextended('',"
            " hashtextextended('workflow', hashtextextended('q', hashtextextended('default', 0))))) AND r.priority = 5"
            ' ORDER BY r.available_at, r.task_id COLLATE "C" LIMIT 10'
        )
        assert len(rows) == 10
    finally:
        await connection.close()
