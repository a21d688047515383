"""Schema migrations: numbered SQL files, forward only, each in one transaction with its row in `schema_migrations`.

Also `seed`, the rest of bootstrap (contract configuration-and-security 8.3). Everything here may run again and in several
processes at once: an advisory lock makes them take turns, and what is there is left as it is.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import asyncpg

from store.connections.pool import Database
from store.errors import DRIVER_ERRORS, translate
from store.schema import APPLIED, compared, ledger, migrations, refuse_newer

_LOCK = 0x6477_6D69  # advisory lock of migrations and seeding
_CONNECT_SECONDS = 5.0
_RANGE_SINCE = 5  # the migration that made room for `least_code`

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    int4 PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing; the names applied now.

    A schema that is newer than this program, and says that this program can run on it, is left as it is. Raises `SchemaUnfit`
    for one it can not run on, `StoreUnavailable` or `StoreRejected`; nothing was changed by the migration that failed.
    """
    applied = []
    known = migrations()
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, server_settings={"client_min_messages": "warning"})
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute(_LEDGER)
            found = compared(ledger(await connection.fetch(APPLIED)), known)
            refuse_newer(found)
            for migration in known:
                if migration.name not in found.pending:
                    continue
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)", migration.version, migration.name
                    )
                    if migration.version >= _RANGE_SINCE:
                        await connection.execute(
                            "UPDATE schema_migrations SET least_code = $2 WHERE version = $1",
                            migration.version,
                            migration.least_code,
                        )
                applied.append(migration.name)
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    return applied


async def seed(db: Database, shards: int, namespaces: Sequence[str], retention_days: int) -> None:
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
