"""Ready tasks: what workers may claim. Rows come and go with the commits of their runs (architecture, rule 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.commit.writes import ReadyTaskRow
from store.pool import Database

_COLUMNS = (
    "task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at"
)


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


# Hashes of the names, as in migration 0004.
_POOL = "hashtextextended($3, hashtextextended($2, hashtextextended($1, 0)))"
_LANE = f"hashtextextended(t, hashtextextended(m, {_POOL}))"
_SAME_QUEUE = "namespace = $1 AND queue = $2 AND kind = $3"

# Goes from one marker and priority that occur to the next.
READY_SQL = f"""
WITH RECURSIVE steps AS (
    (SELECT marker, priority FROM ready_tasks WHERE pool = {_POOL} ORDER BY marker, priority LIMIT 1)
    UNION ALL
    SELECT next.marker, next.priority
    FROM steps s
    CROSS JOIN LATERAL (
        SELECT r.marker, r.priority
        FROM ready_tasks r
        WHERE r.pool = {_POOL} AND (r.marker, r.priority) > (s.marker, s.priority)
        ORDER BY r.marker, r.priority
        LIMIT 1
    ) AS next
)
SELECT {{columns}}
FROM steps s
CROSS JOIN LATERAL (
    SELECT r.*
    FROM ready_tasks r
    WHERE r.pool = {_POOL} AND r.marker = s.marker AND r.priority = s.priority
    ORDER BY r.available_at, r.task_id COLLATE "C"
    LIMIT $4
) AS due
WHERE {_SAME_QUEUE}
ORDER BY due.priority, available_at, task_id COLLATE "C"
LIMIT $4""".replace("{columns}", _COLUMNS.replace("priority", "due.priority"))


async def ready(db: Database, namespace: str, queue: str, kind: str, limit: int) -> list[ReadyTaskRow]:
    """The first `limit` ready tasks of a queue by (priority, available_at, task_id), those available only later included."""
    rows = await db.fetch(READY_SQL, namespace, queue, kind, limit)
    return [ReadyTaskRow(*row) for row in rows]


# What is asked for: lanes are made of types and build markers, pools are read marker by marker.
_KEYS = {
    "pool": "SELECT hashtextextended(m, 0) AS key FROM unnest($4::text[]) AS m",
    "lane": f"SELECT {_LANE} AS key FROM unnest($4::text[]) AS m, unnest($7::text[]) AS t",
}
_OF_KEY = {"pool": f"r.pool = {_POOL} AND r.marker", "lane": "r.lane"}

# The index is entered once per key to see whether there is anything, and then once per priority that is there. Each of those
# gives its share only: what is cut off there bounds what is known as a whole.
_CLAIMABLE = """
WITH RECURSIVE steps AS (
    SELECT k.key, (SELECT r.priority FROM ready_tasks r WHERE {of_key} = k.key ORDER BY r.priority LIMIT 1) AS priority
    FROM ({keys}) AS k
    UNION ALL
    SELECT s.key, (
        SELECT r.priority FROM ready_tasks r WHERE {of_key} = s.key AND r.priority > s.priority ORDER BY r.priority LIMIT 1
    )
    FROM steps s
    WHERE s.priority IS NOT NULL
),
filled AS MATERIALIZED (
    SELECT key, priority, least($6::int8, greatest(16, 2 * $6::int8 / count(*) OVER ())) AS share
    FROM steps
    WHERE priority IS NOT NULL
)
(
    SELECT {columns}, cut
    FROM filled f
    CROSS JOIN LATERAL (
        SELECT r.*, row_number() OVER (ORDER BY r.available_at, r.task_id COLLATE "C") = f.share AS cut
        FROM ready_tasks r
        WHERE {of_key} = f.key AND r.priority = f.priority AND r.available_at <= $5
        ORDER BY r.available_at, r.task_id COLLATE "C"
        LIMIT f.share
    ) AS due
    WHERE {same_queue}
    ORDER BY due.priority, available_at, task_id COLLATE "C"
    LIMIT $6
)
UNION ALL
(
    SELECT {columns}, cut
    FROM filled f
    CROSS JOIN LATERAL (
        SELECT r.*, row_number() OVER (ORDER BY r.available_at, r.task_id COLLATE "C") = f.share AS cut
        FROM ready_tasks r
        WHERE {of_key} = f.key AND r.priority = f.priority AND r.available_at > $5
        ORDER BY r.available_at, r.task_id COLLATE "C"
        LIMIT f.share
    ) AS later
    WHERE {same_queue}
    ORDER BY available_at, task_id COLLATE "C"
    LIMIT $6
)"""


def claimable_sql(column: str) -> str:
    """The statement of `claimable` by "lane" or by "pool"."""
    columns = _COLUMNS.replace("priority", "x.priority")
    first, second = (columns.replace("x.", f"{part}.") for part in ("due", "later"))
    text = _CLAIMABLE.replace("{columns}", first, 1).replace("{columns}", second, 1)
    for part, value in (("{of_key}", _OF_KEY[column]), ("{keys}", _KEYS[column]), ("{same_queue}", _SAME_QUEUE)):
        text = text.replace(part, value)
    return text


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
    rows = await db.fetch(f"SELECT {_COLUMNS} FROM ready_tasks WHERE task_id = ANY ($1)", list(task_ids))
    return [ReadyTaskRow(*row) for row in rows]


async def last_available(db: Database, shards: Sequence[int], after: int, limit: int) -> list[str]:
    """Ids of the tasks of these shards' queues that are available only after `after`, the latest first."""
    rows = await db.fetch(
        "SELECT task_id FROM ready_tasks WHERE shard = ANY ($1) AND available_at > $2 ORDER BY available_at DESC LIMIT $3",
        list(shards),
        after,
        limit,
    )
    return [row[0] for row in rows]
