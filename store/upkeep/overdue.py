"""What should have happened by now: runs whose deadline passed, tasks that wait (contract operations 6.1, 6.2).

Bounded looks: a run is read only when its mark, or a ready task of it, says that something is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.columns import Table
from store.commit.writes import ReadyTaskRow
from store.connections.pool import Database

_TASKS = Table(ReadyTaskRow)


@dataclass(frozen=True, slots=True)
class OverdueRun:
    """A run with a deadline in the past (`wake_at`, microseconds), as it is stored."""

    run_id: str
    namespace: str
    wake_at: int
    state: bytes


async def runs(db: Database, until: int, limit: int, namespace: str | None = None) -> tuple[list[OverdueRun], bool]:
    """Open runs with a deadline up to `until`, the earliest first; and whether more than `limit` were there to be looked at.

    `namespace`: only of this one.
    """
    found = await db.fetch(
        "SELECT d.run_id, r.namespace, d.wake_at, r.state FROM (SELECT o.run_id, o.wake_at FROM shards s, LATERAL ("
        "  SELECT m.run_id, m.wake_at FROM run_marks m WHERE m.shard = s.shard AND m.wake_at <= $1 ORDER BY m.wake_at LIMIT $2"
        " ) o ORDER BY o.wake_at, o.run_id LIMIT $2) d JOIN runs r ON r.run_id = d.run_id ORDER BY d.wake_at, d.run_id",
        until,
        limit,
    )
    listed = [OverdueRun(*row) for row in found]
    return [run for run in listed if namespace in (None, run.namespace)], len(listed) >= limit


async def ready_tasks(db: Database, before: int, limit: int) -> tuple[list[ReadyTaskRow], bool]:
    """Ready tasks that could be claimed before `before` and were not, the oldest of up to `limit` looked at first."""
    found = await db.fetch(
        f"SELECT * FROM (SELECT {_TASKS.names} FROM ready_tasks WHERE available_at < $1 LIMIT $2) t ORDER BY available_at",
        before,
        limit,
    )
    return [_TASKS.read(row) for row in found], len(found) >= limit


async def states(db: Database, run_ids: Sequence[str]) -> list[OverdueRun]:
    """These runs as they are stored, those that are there."""
    rows = await db.fetch(
        "SELECT run_id, namespace, coalesce(wake_at, 0), state FROM runs WHERE run_id = ANY ($1) AND closed_reason IS NULL",
        list(run_ids),
    )
    return [OverdueRun(*row) for row in rows]
