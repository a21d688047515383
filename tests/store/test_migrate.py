"""Migrations and seeding: repeatable, concurrent, and never changing what is there."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from store import migrate, namespaces, schema
from store.cluster import deployment
from store.connections.pool import Database
from store.errors import StoreError, StoreRejected
from tests.support.defaults import seed_database


async def test_concurrent_and_repeated_migrations(empty_dsn: str) -> None:
    applied = await asyncio.gather(*[migrate.migrate(empty_dsn) for _ in range(6)])
    everything = [migration.name for migration in schema.migrations()]
    assert [name for names in applied for name in names] == everything, "each is applied by exactly one of them"
    assert await migrate.migrate(empty_dsn) == []


async def test_what_is_missing(empty_dsn: str) -> None:
    db = Database(empty_dsn)
    await db.start()
    try:
        known = schema.migrations()
        found = await schema.look(db)
        assert (found.version, found.pending) == (0, tuple(migration.name for migration in known))
        assert set(found.missing_tables) == set(schema.tables(known))
        assert {"runs", "history", "mailbox", "schema_migrations"} <= set(schema.tables(known))
        assert "not been bootstrapped" in str(found.fault)
        await migrate.migrate(empty_dsn)
        found = await schema.look(db)
        assert (found.version, found.pending, found.missing_tables) == (known[-1].version, (), ())
        assert "bootstrap of the database has not ended" in str(found.fault)
        await seed_database(db)
        assert (await schema.look(db)).fault is None
        await db.execute("DROP TABLE mailbox")
        assert (await schema.look(db)).missing_tables == ("mailbox",)
        assert "mailbox" in str((await schema.look(db)).fault)
    finally:
        await db.stop()


async def test_every_table_is_listed(db: Database) -> None:
    there = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row[0] for row in there} == set(schema.tables(schema.migrations()))


async def test_a_failing_migration_leaves_nothing(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [*schema.migrations(), schema.parsed(9000, "broken", "CREATE TABLE half (a int); SELECT 1/0")]
    monkeypatch.setattr(migrate, "migrations", lambda: broken)
    with pytest.raises(StoreRejected):
        await migrate.migrate(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT to_regclass('runs')") is not None
    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") < 9000
    await connection.close()


async def test_seed_is_repeatable_and_keeps_what_is_there(dsn: str) -> None:
    db = Database(dsn)
    await db.start()
    try:
        with pytest.raises(StoreError):
            await deployment.shard_count(db)
        await asyncio.gather(*[migrate.seed(db, 16, ["default", "lab"], 7) for _ in range(4)])
        key = await deployment.server_key(db)
        assert len(key) == 64
        before = await namespaces.listing(db)
        assert [(n.name, n.description, n.retention_days, n.status) for n in before] == [
            ("default", "Default namespace", 7, "active"),
            ("lab", "Default namespace", 7, "active"),
        ]
        await migrate.seed(db, 64, ["default", "new"], 90)
        assert await deployment.shard_count(db) == 16
        assert await db.fetchval("SELECT count(*) FROM shards") == 16
        assert await deployment.server_key(db) == key
        after = await namespaces.listing(db)
        assert after[:2] == before
        assert [n.name for n in after] == ["default", "lab", "new"]
        with pytest.raises(ValueError, match="1 to 1024"):
            await seed_database(db, 0)
    finally:
        await db.stop()


async def test_settings(db: Database) -> None:
    assert await deployment.get(db, "colour") is None
    await deployment.put(db, "colour", "red")
    await deployment.put(db, "colour", "blue")
    assert await deployment.get(db, "colour") == "blue"
