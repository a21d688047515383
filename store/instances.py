"""Workflow ids: each owns a chain of runs, in exactly one namespace. Written by `store.commit.group` only."""

from __future__ import annotations

from dataclasses import dataclass

from store.pool import Database


@dataclass(frozen=True, slots=True)
class Instance:
    workflow_id: str
    namespace: str
    workflow_type: str
    shard: int
    current_run_id: str  # the run with the highest run number
    run_count: int


async def get(db: Database, workflow_id: str) -> Instance | None:
    """The instance of a workflow id, whatever its namespace; None when there is none."""
    row = await db.fetchrow(
        "SELECT workflow_id, namespace, workflow_type, shard, current_run_id, run_count FROM instances WHERE workflow_id = $1",
        workflow_id,
    )
    return None if row is None else Instance(*row)
