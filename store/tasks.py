"""Ready tasks: what workers may claim. Rows come and go with the commits of their runs (architecture, rule 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.pool import Database
from store.writes import ReadyTask

_COLUMNS = (
    "task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at"
)


@dataclass(frozen=True, slots=True)
class ReadyQueue:
    """A queue that has rows in `ready_tasks`."""

    shard: int
    namespace: str
    queue: str
    kind: str


async def ready(db: Database, namespace: str, queue: str, kind: str, limit: int) -> list[ReadyTask]:
    """The first `limit` ready tasks of a queue by (priority, available_at, task_id), those available only later included."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM ready_tasks WHERE namespace = $1 AND queue = $2 AND kind = $3"
        " ORDER BY priority, available_at, task_id LIMIT $4",
        namespace,
        queue,
        kind,
        limit,
    )
    return [ReadyTask(*row) for row in rows]


async def get(db: Database, task_ids: Sequence[str]) -> list[ReadyTask]:
    """Those of the given tasks that are ready."""
    rows = await db.fetch(f"SELECT {_COLUMNS} FROM ready_tasks WHERE task_id = ANY ($1)", list(task_ids))
    return [ReadyTask(*row) for row in rows]


async def last_available(db: Database, shards: Sequence[int], after: int, limit: int) -> list[str]:
    """Ids of the tasks of these shards' queues that are available only after `after`, the latest first."""
    rows = await db.fetch(
        "SELECT task_id FROM ready_tasks WHERE shard = ANY ($1) AND available_at > $2 ORDER BY available_at DESC LIMIT $3",
        list(shards),
        after,
        limit,
    )
    return [row[0] for row in rows]


async def queues_with_ready(db: Database, shards: Sequence[int]) -> list[ReadyQueue]:
    """The queues in these shards that have ready tasks."""
    rows = await db.fetch(
        "SELECT DISTINCT shard, namespace, queue, kind FROM ready_tasks WHERE shard = ANY ($1) ORDER BY 1, 2, 3, 4",
        list(shards),
    )
    return [ReadyQueue(*row) for row in rows]
