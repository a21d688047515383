"""Namespaces (contract control-plane 4). Names are lower-cased by the caller; times are microseconds since the epoch.

One that is being deleted, or was a moment ago, has a row still (`store.upkeep.namespace_removal`), and is not there for anybody
who reads here.
"""

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
_THERE = "status = 'active'"


async def create(db: Database, name: str, description: str | None, retention_days: int, now: int) -> bool:
    """Create an active namespace; False when the name exists, or its deletion is not done."""
    created = await db.execute(
        "INSERT INTO namespaces AS n (name, description, retention_days, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name) DO UPDATE SET status = 'active', description = $2,"
        " retention_days = $3, external_payload_storage = NULL, created_at = $4, updated_at = $4 WHERE n.status = 'deleted'",
        name,
        description,
        retention_days,
        now,
    )
    return created == 1


async def get(db: Database, name: str) -> Namespace | None:
    row = await db.fetchrow(f"SELECT {_NAMESPACES.names} FROM namespaces WHERE name = $1 AND {_THERE}", name)
    return None if row is None else _NAMESPACES.read(row)


async def listing(db: Database) -> list[Namespace]:
    """All namespaces in creation order."""
    rows = await db.fetch(f"SELECT {_NAMESPACES.names} FROM namespaces WHERE {_THERE} ORDER BY ordinal")
    return [_NAMESPACES.read(row) for row in rows]


async def update(db: Database, name: str, description: str | None, retention_days: int | None, now: int) -> Namespace | None:
    """Change what is not None; the namespace as it is then, None when there is none."""
    row = await db.fetchrow(
        "UPDATE namespaces SET description = coalesce($2, description), retention_days = coalesce($3, retention_days),"
        f" updated_at = $4 WHERE name = $1 AND {_THERE} RETURNING {_NAMESPACES.names}",
        name,
        description,
        retention_days,
        now,
    )
    return None if row is None else _NAMESPACES.read(row)


async def set_external_storage(db: Database, name: str, policy: Mapping[str, Any] | None, now: int) -> Namespace | None:
    """Replace the whole storage policy; the namespace as it is then, None when there is none."""
    row = await db.fetchrow(
        f"UPDATE namespaces SET external_payload_storage = $2, updated_at = $3 WHERE name = $1 AND {_THERE}"
        f" RETURNING {_NAMESPACES.names}",
        name,
        None if policy is None else json_text(dict(policy)),
        now,
    )
    return None if row is None else _NAMESPACES.read(row)
