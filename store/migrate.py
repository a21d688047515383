"""Schema migrations: numbered SQL files, forward only, each in one transaction with its row in `schema_migrations`.

Also `seed`, the rest of bootstrap (contract configuration-and-security 8.3). Everything here may run again and in several
processes at once: an advisory lock makes them take turns, and what is there is left as it is.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from store.errors import DRIVER_ERRORS, translate
from store.pool import Database

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6477_6D69  # advisory lock of migrations and seeding
_CONNECT_SECONDS = 5.0

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    int4 PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """The migrations of this program, ascending."""
    found = []
    for path in sorted(_FOLDER.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        found.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    return found


def tables() -> list[str]:
    """Every table the migrations create, and their ledger."""
    created = {name for m in migrations() for name in re.findall(r"^CREATE (?:UNLOGGED )?TABLE (\w+)", m.sql, re.MULTILINE)}
    return sorted(created | {"schema_migrations"})


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing; the names applied now. Raises `StoreUnavailable` or `StoreRejected`."""
    applied = []
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings={"client_min_messages": "warning"})
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute(_LEDGER)
            done = {row["version"] for row in await connection.fetch("SELECT version FROM schema_migrations")}
            for migration in migrations():
                if migration.version in done:
                    continue
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)", migration.version, migration.name
                    )
                applied.append(migration.name)
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    return applied


async def pending(db: Database) -> list[str]:
    """Names of the migrations not applied yet. Raises `StoreUnavailable`."""
    if await db.fetchval("SELECT to_regclass('schema_migrations') IS NULL"):
        return [migration.name for migration in migrations()]
    done = {row["version"] for row in await db.fetch("SELECT version FROM schema_migrations")}
    return [migration.name for migration in migrations() if migration.version not in done]


async def missing_tables(db: Database) -> list[str]:
    """Names of the tables that should be there and are not, for `GET /api/ready` (control-plane 3.2)."""
    rows = await db.fetch("SELECT name FROM unnest($1::text[]) AS t(name) WHERE to_regclass(name) IS NULL", tables())
    return [row["name"] for row in rows]


async def seed(db: Database, shards: int = 64, namespaces: Sequence[str] = ("default",), retention_days: int = 30) -> None:
    """The rows a new deployment starts from. Nothing that is already there is changed.

    `shards` (1 to 1024) counts on the first bootstrap only: it is fixed for the life of the database. `namespaces` are created
    with `retention_days` when absent; names are lower case.
    """
    if not 1 <= shards <= 1024:
        raise ValueError(f"the number of shards must be 1 to 1024, not {shards}")
    now = time.time_ns() // 1000
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        for key, value in (("shards", str(shards)), ("server_key", secrets.token_hex(32))):
            await connection.execute("INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", key, value)
        await connection.execute(
            "INSERT INTO shards (shard) SELECT generate_series(0, value::int4 - 1) FROM settings WHERE key = 'shards'"
            " ON CONFLICT DO NOTHING"
        )
        for name in namespaces:
            await connection.execute(
                "INSERT INTO namespaces (name, description, retention_days, created_at, updated_at)"
                " VALUES ($1, 'Default namespace', $2, $3, $3) ON CONFLICT DO NOTHING",
                name,
                retention_days,
                now,
            )
