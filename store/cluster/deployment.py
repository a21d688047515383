"""Facts about this deployment, written at its first bootstrap (`store.migrate.seed`)."""

from __future__ import annotations

from typing import cast

from store.connections.pool import Database
from store.errors import StoreError


async def get(db: Database, key: str) -> str | None:
    return cast("str | None", await db.fetchval("SELECT value FROM settings WHERE key = $1", key))


async def put(db: Database, key: str, value: str) -> None:
    """Store a value, replacing the one there."""
    await db.execute(
        "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value
    )


async def shard_count(db: Database) -> int:
    """Number of shards, fixed at first bootstrap. Raises `StoreError` when the database has not been bootstrapped."""
    return int(await _required(db, "shards"))


async def server_key(db: Database) -> str:
    """The random secret of this deployment (64 hex digits). Raises `StoreError` when it has not been bootstrapped."""
    return await _required(db, "server_key")


async def _required(db: Database, key: str) -> str:
    value = await get(db, key)
    if value is None:
        raise StoreError(f"setting {key} is missing: the database has not been bootstrapped")
    return value
