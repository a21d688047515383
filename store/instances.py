"""Workflow ids: each owns a chain of runs, in exactly one namespace. Written by `store.commit.group` only."""

from __future__ import annotations

from dataclasses import dataclass

from store.columns import Int4, Table
from store.connections.pool import Database


@dataclass(frozen=True, slots=True)
class Instance:
    workflow_id: str
    namespace: str
    workflow_type: str
    shard: Int4
    current_run_id: str  # the run with the highest run number
    run_count: Int4


_INSTANCES = Table(Instance)


async def get(db: Database, workflow_id: str) -> Instance | None:
    """The instance of a workflow id, whatever its namespace; None when there is none."""
    row = await db.fetchrow(f"SELECT {_INSTANCES.names} FROM instances WHERE workflow_id = $1", workflow_id)
    return None if row is None else _INSTANCES.read(row)


async def ended(db: Database, workflow_id: str) -> bool:
    """Whether the chain of a workflow id has ended; one that is not there (any more) has."""
    is_open = await db.fetchval(
        "SELECT r.closed_at IS NULL FROM instances i JOIN runs r ON r.run_id = i.current_run_id WHERE i.workflow_id = $1",
        workflow_id,
    )
    return is_open is not True
