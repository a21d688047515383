"""What the views of task queues show: ready tasks by queue, and the leases noted beside the open runs of a namespace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.connections.pool import Database
from store.sql import beside

_SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class ReadyTasks:
    """Ready tasks of one queue and kind: those due, those due since before some instant, and the oldest due one."""

    queue: str
    kind: str
    due: int
    overdue: int
    oldest: tuple[int, str] | None  # available_at in microseconds, task id


@dataclass(frozen=True, slots=True)
class NotedLeases:
    """The note of an open run's leases. `state`: where the note says that they stand there."""

    run_id: str
    workflow_id: str
    version: int
    note: bytes
    state: bytes | None


async def ready_tasks(
    db: Database, namespace: str, now: int, overdue_before: int, queue: str | None = None
) -> list[ReadyTasks]:
    """The ready tasks of a namespace, or of one of its queues, by queue and kind; those not due yet count nowhere."""
    if queue is None:
        rows = await db.fetch(_SQL["ready_in_namespace"], namespace, now, overdue_before)
    else:
        rows = await db.fetch(_SQL["ready_in_queue"], namespace, now, overdue_before, queue)
    return [
        ReadyTasks(name, kind, due, overdue, None if oldest is None else (int(oldest[:20]), oldest[20:]))
        for name, kind, due, overdue, oldest in rows
    ]


async def leases(db: Database, namespace: str) -> list[NotedLeases]:
    """The notes of leases of the open runs of a namespace."""
    return [NotedLeases(*row) for row in await db.fetch(_SQL["leases"], namespace)]


async def runs_of_keys(db: Database, run_keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(workflow id, run id) by the key that the run's ids carry."""
    rows = await db.fetch("SELECT run_key, workflow_id, run_id FROM runs WHERE run_key = ANY ($1)", list(run_keys))
    return {row[0]: (row[1], row[2]) for row in rows}
