"""Counts of a namespace for the metrics of operators (operations 7). Times are microseconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.columns import Int8, Table
from store.connections.pool import Database
from store.sql import beside

SQL = beside(__file__)

# As `Position` of `store.visibility.listing`: where a reader of open runs goes on.
Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class ReadyCounts:
    """Ready tasks of a namespace: how many are due, overdue, and available only later; since when the oldest are."""

    due: Int8
    overdue: Int8
    later: Int8
    oldest_available_at: Int8 | None  # of those that are due


@dataclass(frozen=True, slots=True)
class OpenRun:
    """An open run with its stored state, in the order of lists."""

    started_at: Int8
    run_id: str
    state: bytes


_READY = Table(ReadyCounts)


async def runs_by_reason(db: Database, namespace: str) -> dict[str | None, int]:
    """How many runs there are by the reason of their end, None: open ones. Index only, but it counts every run."""
    rows = await db.fetch(SQL["runs_by_reason"], namespace)
    return {row[0]: int(row[1]) for row in rows}


async def superseded(db: Database, namespace: str) -> int:
    """How many listed runs are not the latest of their workflow id. Costs as many look-ups as there are later runs."""
    return int(await db.fetchval(SQL["superseded"], namespace))


async def ready_tasks(db: Database, namespace: str, now: int, overdue_before: int) -> ReadyCounts:
    """The ready tasks at `now`; overdue are those available since before `overdue_before`."""
    row = await db.fetchrow(SQL["ready_tasks"], namespace, now, overdue_before)
    assert row is not None  # an aggregate
    return _READY.read(row)


async def open_runs(db: Database, namespace: str, after: Place | None, limit: int) -> Sequence[OpenRun]:
    """The next `limit` open runs behind a place, newest first."""
    started_at, run_id = after if after is not None else (1 << 62, "")
    rows = await db.fetch(SQL["open_runs"], namespace, started_at, run_id, limit)
    return [OpenRun(*row) for row in rows]


async def archived(db: Database, namespace: str) -> int:
    """How many archived runs there are, as far as that was noted: at the command, else when retention comes by."""
    return int(await db.fetchval(SQL["archived"], namespace))


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """A schedule that is not deleted; `wake_at`: when it is due (microseconds)."""

    schedule_key: str
    status: str
    wake_at: Int8 | None
    state: bytes


async def schedules(db: Database, namespace: str, after: str, limit: int) -> Sequence[ScheduleFacts]:
    """The next schedules behind a key, in the order of keys."""
    return [ScheduleFacts(*row) for row in await db.fetch(SQL["schedules"], namespace, after, limit)]
