"""Removes a namespace with everything in it, a batch at a time (contract control-plane 4).

Its row says how far that is: `deleting` until all is gone, then `deleted` for a while, until nobody can write for it any more.
Batches are whole by themselves, so whoever goes on after a crash begins with what is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from store.connections.pool import Database
from store.sql import beside, filled


class Scoped(NamedTuple):
    """A table whose rows belong to a namespace by their column `namespace`; `counted` names them in the answer."""

    table: str
    counted: str | None = None


# Besides runs and what hangs on them. A new table with a column `namespace` is a line here.
SCOPED = (
    Scoped("search_attribute_definitions", "search_attribute_definitions"),
    Scoped("workers", "workflow_worker_registrations"),
    Scoped("mailbox"),
    Scoped("ready_tasks"),
    Scoped("rollouts"),
)
RUNS, SCHEDULES = "workflow_runs", "workflow_schedules"

_SQL = beside(__file__)
_BATCH, _SLICE, _ROWS = 200, 5000, 2000


class Removal(NamedTuple):
    """A namespace on its way out: `status` is `deleting` or `deleted`, `since` when it was last worked at (microseconds)."""

    name: str
    status: str
    since: int


async def begin(db: Database, name: str, now: int) -> bool:
    """From now on the namespace is not there for anybody; False when it was not there."""
    return (
        await db.execute(
            "UPDATE namespaces SET status = 'deleting', updated_at = $2 WHERE name = $1 AND status IN ('active', 'deleting')",
            name,
            now,
        )
        == 1
    )


async def remove(db: Database, name: str) -> AsyncIterator[tuple[str | None, int]]:
    """Delete what is in it, batch by batch: what each was counted as, and how many. Zero rows: a batch that has to wait."""
    for scoped in SCOPED:
        sql = filled(_SQL["scoped"], table=scoped.table)
        while count := await db.execute(sql, name, _ROWS):
            yield scoped.counted, count
    async for count in _schedules(db, name):
        yield SCHEDULES, count
    while (gone := int(await db.fetchval(_SQL["runs"], name, _BATCH))) or await db.fetchval(_SQL["any_run"], name):
        yield RUNS, gone
    after: str | None = ""
    while after is not None:
        row = await db.fetchrow(_SQL["pruned_runs"], name, after, _SLICE)
        assert row is not None
        after = row[1]
        yield RUNS, int(row[0])
    async for count in _schedules(db, name):  # what was made meanwhile
        yield SCHEDULES, count
    for scoped in SCOPED:  # what the runs left meanwhile
        sql = filled(_SQL["scoped"], table=scoped.table)
        while count := await db.execute(sql, name, _ROWS):
            yield scoped.counted, count


async def _schedules(db: Database, name: str) -> AsyncIterator[int]:
    """Delete schedules, batch by batch: how many of each were not deleted before."""
    while True:
        row = await db.fetchrow(_SQL["schedules"], name, _BATCH)
        if row is None or not row[0]:
            return
        yield int(row[1])


async def touch(db: Database, name: str, now: int) -> None:
    """Somebody works at it: others need not."""
    await db.execute("UPDATE namespaces SET updated_at = $2 WHERE name = $1 AND status = 'deleting'", name, now)


async def finish(db: Database, name: str, now: int) -> None:
    """Everything is gone: the name can be used again."""
    await db.execute(
        "UPDATE namespaces SET status = 'deleted', updated_at = $2 WHERE name = $1 AND status = 'deleting'", name, now
    )


async def pending(db: Database) -> list[Removal]:
    """Namespaces on their way out."""
    rows = await db.fetch("SELECT name, status, updated_at FROM namespaces WHERE status <> 'active' ORDER BY ordinal")
    return [Removal(row[0], row[1], row[2]) for row in rows]


async def drop(db: Database, name: str) -> None:
    """Forget a deleted one."""
    await db.execute("DELETE FROM namespaces WHERE name = $1 AND status = 'deleted'", name)
