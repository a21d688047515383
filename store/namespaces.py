"""Namespaces (contract control-plane 4). Names are lower-cased by the caller; times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.columns import Int4, Int8, Json, Table, json_text
from store.connections.pool import Database


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    description: str | None
    retention_days: Int4
    status: str
    external_payload_storage: Json | None
    created_at: Int8
    updated_at: Int8


_NAMESPACES = Table(Namespace)


async def create(db: Database, name: str, description: str | None, retention_days: int, now: int) -> bool:
    """Create an active namespace; False when the name exists."""
    created = await db.execute(
        "INSERT INTO namespaces (name, description, retention_days, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING",
        name,
        description,
        retention_days,
        now,
    )
    return created == 1


async def get(db: Database, name: str) -> Namespace | None:
    row = await db.fetchrow(f"SELECT {_NAMESPACES.names} FROM namespaces WHERE name = $1", name)
    return None if row is None else _NAMESPACES.read(row)


async def listing(db: Database) -> list[Namespace]:
    """All namespaces in creation order."""
    return [_NAMESPACES.read(row) for row in await db.fetch(f"SELECT {_NAMESPACES.names} FROM namespaces ORDER BY ordinal")]


async def update(db: Database, name: str, description: str | None, retention_days: int | None, now: int) -> Namespace | None:
    """Change what is not None; the namespace as it is then, None when there is none."""
    row = await db.fetchrow(
        "UPDATE namespaces SET description = coalesce($2, description), retention_days = coalesce($3, retention_days),"
        f" updated_at = $4 WHERE name = $1 RETURNING {_NAMESPACES.names}",
        name,
        description,
        retention_days,
        now,
    )
    return None if row is None else _NAMESPACES.read(row)


async def set_external_storage(db: Database, name: str, policy: Mapping[str, Any] | None, now: int) -> Namespace | None:
    """Replace the whole storage policy; the namespace as it is then, None when there is none."""
    row = await db.fetchrow(
        f"UPDATE namespaces SET external_payload_storage = $2, updated_at = $3 WHERE name = $1 RETURNING {_NAMESPACES.names}",
        name,
        None if policy is None else json_text(dict(policy)),
        now,
    )
    return None if row is None else _NAMESPACES.read(row)
