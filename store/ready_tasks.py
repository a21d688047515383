"""Ready tasks: what workers may claim. Rows come and go with the commits of their runs (architecture, rule 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.columns import Table
from store.commit.writes import ReadyTaskRow
from store.connections.pool import Database
from store.sql import beside, filled


@dataclass(frozen=True, slots=True)
class Claimable:
    """What some poll may take, as far as it was read.

    `due` is in order; those behind `upto` (priority, available_at, task_id) were not read, None: all were. `later` are those
    available only later, by that time; those available from `later_from` on were not read, None: all were.
    """

    due: list[ReadyTaskRow]
    upto: tuple[int, int, str] | None
    later: list[ReadyTaskRow]
    later_from: int | None


_TASKS = Table(ReadyTaskRow)
_SQL = beside(__file__)
_POOL = "hashtextextended($3, hashtextextended($2, hashtextextended($1, 0)))"
_WORDS = {"pool": _POOL, "same_queue": "namespace = $1 AND queue = $2 AND kind = $3"}


def _columns_of(part: str) -> str:
    """The columns of a task, where only the part itself tells its priority from that of a step."""
    return _TASKS.names.replace("priority", f"{part}.priority")


READY_SQL = filled(_SQL["ready"], due_columns=_columns_of("due"), **_WORDS)


async def ready(db: Database, namespace: str, queue: str, kind: str, limit: int) -> list[ReadyTaskRow]:
    """The first `limit` ready tasks of a queue by (priority, available_at, task_id), those available only later included."""
    rows = await db.fetch(READY_SQL, namespace, queue, kind, limit)
    return [_TASKS.read(row) for row in rows]


_KEYS = {"pool": _SQL["markers"], "lane": filled(_SQL["lanes"], pool=_POOL)}
_OF_KEY = {"pool": f"r.pool = {_POOL} AND r.marker", "lane": "r.lane"}


def claimable_sql(column: str) -> str:
    """The statement of `claimable` by "lane" or by "pool"."""
    return filled(
        _SQL["claimable"],
        keys=_KEYS[column],
        of_key=_OF_KEY[column],
        due_columns=_columns_of("due"),
        later_columns=_columns_of("later"),
        **_WORDS,
    )


_BY_LANE, _BY_POOL = claimable_sql("lane"), claimable_sql("pool")


async def claimable(
    db: Database,
    namespace: str,
    queue: str,
    kind: str,
    types: Sequence[str] | None,
    markers: Sequence[str],
    now: int,
    limit: int,
) -> Claimable:
    """The ready tasks of these types (None: of all) and build markers (empty: no marker), at most `limit` due and later ones.

    What it costs depends on `limit`, on how many types are named and on how many priorities occur, not on what else is there.
    """
    if types is None:
        rows = await db.fetch(_BY_POOL, namespace, queue, kind, list(markers), now, limit)
    else:
        rows = await db.fetch(_BY_LANE, namespace, queue, kind, list(markers), now, limit, list(types))
    due: list[ReadyTaskRow] = []
    later: list[ReadyTaskRow] = []
    upto: tuple[int, int, str] | None = None
    later_from: int | None = None
    for *values, cut in rows:
        task = ReadyTaskRow(*values)
        if task.available_at <= now:
            if upto is not None:
                continue
            due.append(task)
            if cut or len(due) == limit:
                upto = task.priority, task.available_at, task.task_id
        elif later_from is None:
            later.append(task)
            if cut or len(later) == limit:
                later_from = task.available_at
    return Claimable(due, upto, later, later_from)


async def get(db: Database, task_ids: Sequence[str]) -> list[ReadyTaskRow]:
    """Those of the given tasks that are ready."""
    rows = await db.fetch(f"SELECT {_TASKS.names} FROM ready_tasks WHERE task_id = ANY ($1)", list(task_ids))
    return [_TASKS.read(row) for row in rows]


async def last_available(db: Database, shards: Sequence[int], after: int, limit: int) -> list[str]:
    """Ids of the tasks of these shards' queues that are available only after `after`, the latest first."""
    rows = await db.fetch(
        "SELECT task_id FROM ready_tasks WHERE shard = ANY ($1) AND available_at > $2 ORDER BY available_at DESC LIMIT $3",
        list(shards),
        after,
        limit,
    )
    return [row[0] for row in rows]
