"""Definitions of search attributes, per namespace (control-plane 8). Times are microseconds since the epoch."""

from __future__ import annotations

from store.connections.pool import Database

_LOCKED = "SELECT FROM namespaces WHERE name = $1 FOR UPDATE"


async def definitions(db: Database, namespace: str) -> dict[str, str]:
    """The types of the custom attributes, by name in the order of names."""
    rows = await db.fetch(
        'SELECT name, type FROM search_attribute_definitions WHERE namespace = $1 ORDER BY name COLLATE "C"', namespace
    )
    return {row[0]: row[1] for row in rows}


async def define(db: Database, namespace: str, name: str, kind: str, most: int, now: int) -> str | None:
    """Define an attribute of a namespace that has fewer than `most`.

    None when that was done; the type it has already when it is defined; "" when there are `most`.
    """
    async with db.transaction() as connection:
        await connection.execute(_LOCKED, namespace)  # definers take turns, so that they count right
        found = await connection.fetchval(
            "SELECT type FROM search_attribute_definitions WHERE namespace = $1 AND name = $2", namespace, name
        )
        if found is not None:
            return str(found)
        count = await connection.fetchval("SELECT count(*) FROM search_attribute_definitions WHERE namespace = $1", namespace)
        if count >= most:
            return ""
        await connection.execute(
            "INSERT INTO search_attribute_definitions (namespace, name, type, created_at) VALUES ($1, $2, $3, $4)",
            namespace,
            name,
            kind,
            now,
        )
    return None


async def remove(db: Database, namespace: str, name: str) -> bool:
    """Remove a definition, values stay on runs; False when there is none."""
    sql = "DELETE FROM search_attribute_definitions WHERE namespace = $1 AND name = $2"
    return await db.execute(sql, namespace, name) == 1
