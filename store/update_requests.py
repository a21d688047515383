"""Which update a caller's request id stands for (contract engine-semantics 13). Rows are written by the group commit."""

from __future__ import annotations

from collections.abc import Sequence

from store.connections.pool import Database


async def find(db: Database, workflow_id: str, request_id: str) -> tuple[str, str] | None:
    """(run id, update id) of the update accepted under this request id, None when there is none."""
    row = await db.fetchrow(
        "SELECT run_id, update_id FROM update_requests WHERE workflow_id = $1 AND request_id = $2", workflow_id, request_id
    )
    return None if row is None else (row[0], row[1])


async def taken(db: Database, workflow_id: str, request_ids: Sequence[str]) -> set[str]:
    """Those of these request ids under which an update was accepted."""
    rows = await db.fetch(
        "SELECT request_id FROM update_requests WHERE workflow_id = $1 AND request_id = ANY ($2)",
        workflow_id,
        list(request_ids),
    )
    return {row[0] for row in rows}
