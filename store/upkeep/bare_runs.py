"""What is kept of runs that retention pruned (contract operations 6.3). Written by `store.upkeep.pruning` only."""

from __future__ import annotations

from dataclasses import dataclass

from store.columns import Int4, Int8, Table
from store.connections.pool import Database
from store.instances import get as get_instance
from store.runs import RunItem


@dataclass(frozen=True, slots=True)
class BareRun:
    """A pruned run. Times are microseconds since the epoch."""

    started_at: Int8
    closed_at: Int8
    run_number: Int4
    run_id: str
    namespace: str
    workflow_id: str
    workflow_type: str
    task_queue: str | None
    business_key: str | None
    compatibility: str | None
    status: str
    closed_reason: str


_BARE = Table(BareRun)
_BY_KEY = f"SELECT {_BARE.names} FROM pruned_runs WHERE substr(run_id, 11, 15) = $1"
_BY_ID = f"SELECT {_BARE.names} FROM pruned_runs WHERE substr(run_id, 11, 15) = substr($1, 11, 15) AND run_id = $1"
_CHAIN = f"SELECT {_BARE.names} FROM pruned_runs WHERE workflow_id = $1 AND chained ORDER BY run_number"


async def get(db: Database, run_id: str) -> BareRun | None:
    """The pruned run with this id, whatever its namespace; None when there is none."""
    row = await db.fetchrow(_BY_ID, run_id)
    return None if row is None else _BARE.read(row)


async def by_key(db: Database, run_key: str) -> BareRun | None:
    """The pruned run whose ids carry this key; None when there is none."""
    row = await db.fetchrow(_BY_KEY, run_key)
    return None if row is None else _BARE.read(row)


async def of_instance(db: Database, namespace: str, workflow_id: str) -> list[RunItem]:
    """The pruned runs of a workflow id of this namespace, by ascending run number."""
    instance = await get_instance(db, workflow_id)
    if instance is None or instance.namespace != namespace:
        return []
    if instance.run_count > 1:
        return [_item(_BARE.read(row)) for row in await db.fetch(_CHAIN, workflow_id)]
    only = await get(db, instance.current_run_id)
    return [] if only is None else [_item(only)]


def _item(run: BareRun) -> RunItem:
    return RunItem(
        run_id=run.run_id,
        namespace=run.namespace,
        workflow_id=run.workflow_id,
        run_number=run.run_number,
        workflow_type=run.workflow_type,
        task_queue=run.task_queue,
        business_key=run.business_key,
        compatibility=run.compatibility,
        status=run.status,
        closed_reason=run.closed_reason,
        started_at=run.started_at,
        closed_at=run.closed_at,
        last_progress_at=run.closed_at,
        search_attributes=b"{}",
    )
