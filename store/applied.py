"""Which commands were applied, and what they were answered. Rows are written by the group commit."""

from __future__ import annotations

from collections.abc import Sequence

from store.connections.pool import Database


async def find(db: Database, keys: Sequence[str]) -> dict[str, bytes]:
    """The answers to those of these commands that were applied, by key."""
    rows = await db.fetch("SELECT command_key, answer FROM applied_commands WHERE command_key = ANY ($1)", list(keys))
    return {row[0]: row[1] for row in rows}


async def forget(db: Database, before: str) -> int:
    """Delete the rows whose key is below `before`; how many they were."""
    return await db.execute("DELETE FROM applied_commands WHERE command_key < $1", before)
