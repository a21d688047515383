"""Which update a caller's request id stands for (contract engine-semantics 13). Rows are written by the group commit."""

from __future__ import annotations

from store.pool import Database


async def find(db: Database, workflow_id: str, request_id: str) -> tuple[str, str] | None:
    """(run id, update id) of the update accepted under this request id, None when there is none."""
    row = await db.fetchrow(
        "SELECT run_id, update_id FROM update_requests WHERE workflow_id = $1 AND request_id = $2", workflow_id, request_id
    )
    return None if row is None else (row[0], row[1])
