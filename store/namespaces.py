"""Namespaces (contract control-plane 4). Names are lower-cased by the caller; times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from store.pool import Database, Row

_COLUMNS = "name, description, retention_days, status, external_payload_storage, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    description: str | None
    retention_days: int
    status: str
    external_payload_storage: dict[str, Any] | None
    created_at: int
    updated_at: int


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
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM namespaces WHERE name = $1", name)
    return None if row is None else _namespace(row)


async def listing(db: Database) -> list[Namespace]:
    """All namespaces in creation order."""
    return [_namespace(row) for row in await db.fetch(f"SELECT {_COLUMNS} FROM namespaces ORDER BY ordinal")]


async def update(db: Database, name: str, description: str | None, retention_days: int | None, now: int) -> Namespace | None:
    """Change what is not None; the namespace as it is then, None when there is none."""
    row = await db.fetchrow(
        "UPDATE namespaces SET description = coalesce($2, description), retention_days = coalesce($3, retention_days),"
        f" updated_at = $4 WHERE name = $1 RETURNING {_COLUMNS}",
        name,
        description,
        retention_days,
        now,
    )
    return None if row is None else _namespace(row)


async def set_external_storage(db: Database, name: str, policy: Mapping[str, Any] | None, now: int) -> Namespace | None:
    """Replace the whole storage policy; the namespace as it is then, None when there is none."""
    row = await db.fetchrow(
        f"UPDATE namespaces SET external_payload_storage = $2, updated_at = $3 WHERE name = $1 RETURNING {_COLUMNS}",
        name,
        None if policy is None else orjson.dumps(dict(policy)).decode(),
        now,
    )
    return None if row is None else _namespace(row)


def _namespace(row: Row) -> Namespace:
    storage = row["external_payload_storage"]
    return Namespace(
        name=row["name"],
        description=row["description"],
        retention_days=row["retention_days"],
        status=row["status"],
        external_payload_storage=None if storage is None else orjson.loads(storage),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
