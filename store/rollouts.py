"""What operators decided of build ids: which drain, and which one new starts go to (contract operations 4.5).

Times are microseconds since the epoch. `build_id` "" stands for the workers without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from store.columns import Int8, Table, listed
from store.connections.pool import Database


@dataclass(frozen=True, slots=True)
class Rollout:
    """The record of one cohort. `drained_at` None: it is not draining. `selected`: new starts of the queue go to it."""

    namespace: str
    task_queue: str
    build_id: str
    drained_at: Int8 | None = None
    promoted_at: Int8 | None = None
    rolled_back_at: Int8 | None = None
    selected: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed up to `revision`; with `whole` these are all rows, and what was known before counts no more."""

    revision: int
    removals: int
    rows: list[Rollout]
    whole: bool


_ROLLOUTS = Table(Rollout)
_SELECT = f"SELECT {_ROLLOUTS.names} FROM rollouts WHERE namespace = $1 AND task_queue = $2"
_REPLACED = listed(_ROLLOUTS.all_but("namespace", "task_queue", "build_id"), "{0} = excluded.{0}")
_UPSERT = (
    f"INSERT INTO rollouts ({_ROLLOUTS.names}, revision) VALUES ({_ROLLOUTS.parameters}, ${len(_ROLLOUTS.columns) + 1})"
    f" ON CONFLICT (namespace, task_queue, build_id) DO UPDATE SET {_REPLACED}, revision = excluded.revision"
)
_NEXT = "UPDATE rollout_revision SET revision = revision + 1 RETURNING revision"
_SINCE = (
    f"SELECT v.revision, v.removals, {listed(_ROLLOUTS.columns, 'r.{0}')} FROM rollout_revision v"
    " LEFT JOIN rollouts r ON r.revision > CASE WHEN v.removals = $2 THEN $1::int8 ELSE 0 END"
)

Decide = Callable[[Sequence[Rollout]], Sequence[Rollout]]


async def change(db: Database, namespace: str, task_queue: str, decide: Decide) -> None:
    """Write what `decide` makes of the rows of a queue: it gets all of them and returns those that are new or changed.

    Changes take turns, in all processes. When `decide` raises, nothing is stored and the exception passes.
    """
    async with db.transaction() as connection:
        revision = await connection.fetchval(_NEXT)
        rows = [_ROLLOUTS.read(row) for row in await connection.fetch(_SELECT, namespace, task_queue)]
        # Who loses the selection comes first: at no moment are two selected.
        for row in sorted(decide(rows), key=lambda row: row.selected):
            await connection.execute(_UPSERT, *_ROLLOUTS.arguments(row), revision)


async def of_queue(db: Database, namespace: str, task_queue: str) -> list[Rollout]:
    """The records of a queue."""
    return [_ROLLOUTS.read(row) for row in await db.fetch(_SELECT, namespace, task_queue)]


async def since(db: Database, revision: int, removals: int) -> Changes:
    """What changed after a revision; everything when rows were removed since, so with `removals` -1."""
    rows = await db.fetch(_SINCE, revision, removals)
    newest, now_removed = rows[0][0], rows[0][1]
    found = [_ROLLOUTS.read(tuple(row)[2:]) for row in rows if row[2] is not None]
    return Changes(newest, now_removed, found, now_removed != removals)
