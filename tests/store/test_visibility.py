"""Conditions as SQL find what a plain reading of them finds; the rows that lists enter by follow the runs."""

from __future__ import annotations

import asyncio
import operator
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from actors.run.views.status_buckets import status_bucket
from actors.visibility.meaning import IllTyped, condition_of
from actors.visibility.values import is_date_time, moment
from store.commit.group import GroupCommit
from store.connections.pool import Database
from store.visibility import conditions as c
from store.visibility.listing import Position, count, count_sql, listing, listing_sql
from tests.store.build import NOW, RunFixture, row

SECOND = 1_000_000
TYPES = {"Count": "int", "Due": "datetime", "Tags": "keyword_list", "Vip": "bool"}
VALUES: dict[str, list[Any]] = {
    "Customer": ["c-1", "c-2", "C-1", "", 'a"b\\', "ü", "true", "1"],
    "Count": [1, 2, 10, -3, 2.5, "many", 9223372036854775807],
    "Due": [
        "2026-05-01T00:00:00.000000Z",
        "2026-05-01T01:00:00+02:00",
        "2026-04-30T12:00:00Z",
        "2026-13-01T00:00:00Z",
        "now",
        "infinity",
    ],
    "Tags": [["a"], ["a", "b"], [], ["c-1"], "a"],
    "Vip": [True, False, "yes"],
    "x.y:z": [1, "v"],
}
STATUSES = ("pending", "running", "waiting", "completed", "failed", "cancelled", "terminated")


@dataclass(frozen=True)
class Seen:
    """A stored run as the model reads it."""

    run_id: str
    started_at: int
    closed_at: int | None
    status: str
    texts: dict[str, str | None]
    attributes: dict[str, Any]


async def _stored(db: Database, commits: GroupCommit, size: int, rng: random.Random) -> list[Seen]:
    found = []
    for number in range(size):
        status = rng.choice(STATUSES)
        closed = status_bucket(status) != "running"
        attributes = {name: rng.choice(values) for name, values in VALUES.items() if rng.random() < 0.6}
        texts: dict[str, Any] = {
            "workflow_type": "Greeter",
            "task_queue": rng.choice(["q", "q2"]),
            "business_key": rng.choice([None, "K-1", "k-2", "Ä%_"]),
            "compatibility": rng.choice([None, "blue"]),
        }
        run = RunFixture(workflow_id=f"wf-{number}-{rng.choice('ab')}")
        started_at = NOW + rng.randrange(9) * SECOND
        closed_at = started_at + rng.randrange(5) * SECOND if closed else None
        identity = run.identity(
            started_at=started_at,
            search_attributes=msgspec.json.encode(attributes),
            **{name: texts[name] for name in ("task_queue", "business_key", "compatibility")},
        )
        reason = rng.choice(["timed_out", "failed"]) if status == "failed" else "continued" if status == "completed" else status
        changed = row(2, status=status, closed_reason=reason if closed else None, closed_at=closed_at)
        if rng.random() < 0.5:
            assert await commits.commit(run.create(row=changed, identity=identity)) is True
        else:  # closed by a later commit
            assert await commits.commit(run.create(identity=identity)) is True
            run.stored(1, 2)
            assert await commits.commit(run.change(row=changed)) is True
        found.append(
            Seen(
                run.run_id,
                started_at,
                closed_at,
                status,
                {**texts, "workflow_id": run.workflow_id, "run_id": run.run_id},
                attributes,
            )
        )
    return sorted(found, key=lambda seen: (seen.started_at, seen.run_id), reverse=True)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and isinstance(one, str) == isinstance(other, str) and one == other


def true_of(condition: c.Condition, run: Seen) -> bool:
    """The conditions read plainly."""
    match condition:
        case c.All(parts):
            return all(true_of(part, run) for part in parts)
        case c.Some(parts):
            return any(true_of(part, run) for part in parts)
        case c.Not(part):
            return not true_of(part, run)
        case c.Text(column, op, value):
            text = run.texts[column]
            return text is not None and OPERATORS[op](text, value)
        case c.TextAmong(column, values, negated):
            text = run.texts[column]
            return text is not None and (text in values) != negated
        case c.TextStart(column, start):
            text = run.texts[column]
            return text is not None and text.startswith(start)
        case c.Time(column, op, micros):
            time = run.started_at if column == "started_at" else run.closed_at
            return time is not None and OPERATORS[op](time, micros)
        case c.Absent(column):
            return run.closed_at is None if column == "closed_at" else column != "started_at" and run.texts[column] is None
        case c.InBucket(bucket):
            return status_bucket(run.status) == bucket
        case c.HasStatus(status, _):
            return run.status == status
        case c.Part(text):
            return any(text.lower() in (run.texts[column] or "").lower() for column in ("workflow_id", "business_key"))
        case c.AttributeAbsent(name):
            return name not in run.attributes
    return _attribute_true(condition, run.attributes.get(condition.name), condition.name in run.attributes)


def _attribute_true(condition: c.Condition, held: Any, there: bool) -> bool:
    match condition:
        case c.Attribute(_, wanted, negated):
            items = [held, *(held if isinstance(held, list) else [])]
            return there and any(_same(item, value) for item in items for value in wanted) != negated
        case c.AttributeOrder(_, op, bound):
            kind = str if isinstance(bound, str) else (int, float)
            return isinstance(held, kind) and held is not True and held is not False and OPERATORS[op](held, bound)
        case c.AttributeMoment(_, op, micros):
            return isinstance(held, str) and is_date_time(held) and OPERATORS[op](moment(held), micros)
        case c.AttributeStart(_, start):
            return isinstance(held, str) and held.startswith(start)
    raise AssertionError(condition)


LITERALS = [
    "'c-1'",
    "'C-1'",
    "''",
    "'a\"b\\\\'",
    "'ü'",
    "1",
    "2.5",
    "-3",
    "9223372036854775807",
    "true",
    "false",
    "'a'",
    "'many'",
    "'q2'",
    "'K-1'",
    "'blue'",
    "'2026-04-30T23:00:00Z'",
    "'2026-05-01T00:00:00Z'",
    "'running'",
    "'failed'",
    "'cancelled'",
    "'wf-1'",
    "'waiting'",
    *(f"'2026-04-24T03:06:4{n}Z'" for n in range(6)),
]
NAMES = [
    *VALUES,
    "WorkflowId",
    "RunId",
    "TaskQueue",
    "BuildId",
    "BusinessKey",
    "Status",
    "Status",
    "StartTime",
    "CloseTime",
    "CloseTime",
    "none",
]


def _predicate(rng: random.Random) -> str:
    name = rng.choice(NAMES)
    name = f"`{name}`" if "." in name else name
    values = [rng.choice(LITERALS) for _ in range(3)]
    return rng.choice(
        [
            f"{name} {rng.choice(list(OPERATORS))} {values[0]}",
            f"{name} = {values[0]}",
            f"{name} {rng.choice(['', 'NOT '])}IN ({', '.join(values)})",
            f"{name} BETWEEN {values[0]} AND {values[1]}",
            f"{name} STARTS_WITH {rng.choice([value for value in LITERALS if value[0] == chr(39)])}",
            f"{name} IS {rng.choice(['', 'NOT '])}NULL",
        ]
    )


def _query(rng: random.Random, depth: int = 0) -> str:
    if depth == 3 or rng.random() < 0.4:
        return _predicate(rng)
    parts = [_query(rng, depth + 1) for _ in range(rng.randrange(1, 4))]
    return f"{rng.choice(['', 'NOT '])}({rng.choice([' AND ', ' OR ']).join(parts)})"


async def test_every_query_finds_what_it_says(db: Database, commits: GroupCommit) -> None:
    """Random queries, read plainly and as SQL, entered in both ways, page by page, and counted."""
    rng = random.Random(11)
    runs = await _stored(db, commits, 120, rng)
    checked = 0
    for _ in range(700):
        text = _query(rng)
        try:
            condition = condition_of(text, TYPES)
        except IllTyped:
            continue
        if isinstance(condition, c.Part):
            raise AssertionError(text)
        checked += 1
        expected = [run.run_id for run in runs if true_of(condition, run)]
        for by_status in (False, True):
            sql, args = listing_sql("default", condition, None, 999, by_status=by_status)
            assert [found["run_id"] for found in await db.fetch(sql, *args)] == expected, (text, sql)
        assert await count(db, "default", condition) == len(expected), text
        if expected and checked % 10 == 0:
            assert await _paged(db, condition) == expected, text
    assert checked > 150
    for part in ("WF-1", "k-", "ä%", "_", "%", ""):
        expected = [run.run_id for run in runs if true_of(c.Part(part), run)]
        assert [item.run_id for item in await listing(db, "default", c.Part(part), limit=999)] == expected, part


async def _paged(db: Database, condition: c.Condition) -> list[str]:
    seen: list[str] = []
    after: Position | None = None
    while page := await listing(db, "default", condition, after=after, limit=7):
        seen += [item.run_id for item in page]
        after = Position(page[-1].started_at, page[-1].run_id)
    return seen


async def test_other_namespaces_are_not_seen(db: Database, commits: GroupCommit) -> None:
    run = RunFixture(namespace="lab")
    assert await commits.commit(run.create()) is True
    for condition in (
        None,
        c.Attribute("Region", ("north",)),
        c.InBucket("running"),
        c.Not(c.InBucket("failed")),
        c.AttributeAbsent("x"),
    ):
        assert await listing(db, "default", condition) == []
        assert await count(db, "default", condition) == 0
        assert [item.run_id for item in await listing(db, "lab", condition)] == [run.run_id]
        assert await count(db, "lab", condition) == 1


async def _status(db: Database) -> list[tuple[Any, ...]]:
    return [tuple(found) for found in await db.fetch("SELECT namespace, bucket, started_at, run_id, ended_at FROM run_status")]


async def test_the_status_row_follows_its_run(db: Database, commits: GroupCommit) -> None:
    run = RunFixture()
    assert await commits.commit(run.create()) is True
    assert await _status(db) == [("default", "running", NOW, run.run_id, None)]
    run.stored(1, 2)
    assert await commits.commit(run.change()) is True
    run.stored(2, 3)
    closed = row(4, status="terminated", closed_reason="terminated", closed_at=NOW + 5)
    assert await commits.commit(run.change(row=closed)) is True
    assert await _status(db) == [("default", "failed", NOW, run.run_id, NOW + 5)]
    assert await commits.commit(run.change(row=closed)) is False, "a conflict changes nothing"
    assert await _status(db) == [("default", "failed", NOW, run.run_id, NOW + 5)]
    assert await db.execute("DELETE FROM runs WHERE run_id = $1", run.run_id) == 1
    assert await _status(db) == []


async def test_a_change_of_a_run_writes_no_index_of_it(db: Database, commits: GroupCommit) -> None:
    """Updates stay heap-only, also the last one."""
    made = [RunFixture() for _ in range(20)]
    for run in made:
        assert await commits.commit(run.create()) is True
        run.stored(1, 2)
    for run in made:
        assert await commits.commit(run.change()) is True
        run.stored(2, 3)
        closed = row(4, status="completed", closed_reason="completed", closed_at=NOW + 5)
        assert await commits.commit(run.change(row=closed)) is True
    await commits.stop()  # its session reports what it did when it ends
    deadline = time.monotonic() + 60
    counted: Any = (0, 0)
    while counted[0] < 40 and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        counted = await db.fetchrow("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'runs'")
    assert (counted[0], counted[1]) == (40, 40)


@pytest.mark.parametrize("value", ["'; DROP TABLE runs; --", "$1", "\\", "{}", '"', "%s"])
async def test_nothing_a_caller_sends_is_part_of_a_statement(db: Database, value: str) -> None:
    parts: list[c.Condition] = [
        c.Text("workflow_id", "=", value),
        c.Text("business_key", "<", value),
        c.TextAmong("run_id", (value,)),
        c.TextStart("task_queue", value),
        c.Attribute(value, (value,)),
        c.Attribute(value, (value,), True),
        c.AttributeOrder(value, "<", value),
        c.AttributeMoment(value, ">", 0),
        c.AttributeStart(value, value),
        c.AttributeAbsent(value),
        c.Part(value),
        c.HasStatus(value, "failed"),
        c.InBucket("running"),
    ]
    for condition in (c.All(tuple(parts)), c.Some(tuple(parts)), c.Not(c.All(tuple(parts)))):
        for by_status in (False, True):
            sql, args = listing_sql("default", condition, Position(NOW, value), 9, by_status=by_status)
            assert "DROP" not in sql and (value in ("$1", "{}", '"', "\\") or value not in sql)
            await db.fetch(sql, *args)
            sql, args = count_sql("default", condition, by_status=by_status)
            await db.fetch(sql, *args)
