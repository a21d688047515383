"""Schema and program: who can run on what, and who changes what (configuration-and-security 8.2, 10.6)."""

from __future__ import annotations

import asyncpg
import pytest

from store import migrate, schema
from store.connections.pool import Database
from store.errors import SchemaUnfit, StoreUnavailable
from tests.support.defaults import seed_database

LATEST = schema.migrations()[-1].version


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()


def newer(number: int, least_code: int | None) -> schema.Migration:
    """A migration of a program to come."""
    head = "" if least_code is None else f"-- least code: {least_code}\n"
    return schema.parsed(number, f"to_come_{number}", f"{head}CREATE TABLE to_come_{number} (x int)")


async def test_a_migration_says_which_programs_can_run_on_it(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of today against what programs to come made of the schema."""
    db = Database(dsn)
    await db.start()
    await seed_database(db)
    try:
        today = schema.migrations()
        compatible, breaking = newer(9001, LATEST), newer(9002, None)
        with monkeypatch.context() as to_come:
            to_come.setattr(migrate, "migrations", lambda: [*today, compatible])
            assert await migrate.migrate(dsn) == ["to_come_9001"]
        found = await schema.look(db)
        assert (found.version, found.least_code, found.unknown, found.fault) == (9001, LATEST, ("to_come_9001",), None)
        assert await migrate.migrate(dsn) == []
        with monkeypatch.context() as to_come:
            to_come.setattr(migrate, "migrations", lambda: [*today, compatible, breaking])
            assert await migrate.migrate(dsn) == ["to_come_9002"]
        found = await schema.look(db)
        assert found.fault is not None
        assert f"version 9002 and needs a program that knows version 9002 or later; this one knows {LATEST}" in found.fault
        with pytest.raises(SchemaUnfit, match="use a newer program"):
            await migrate.migrate(dsn)
    finally:
        await db.stop()


async def test_a_schema_that_is_both_newer_and_older_is_left_alone(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await execute(dsn, f"INSERT INTO schema_migrations (version, name, least_code) VALUES (9001, 'theirs', {LATEST})")
    today = schema.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: [*today, newer(LATEST + 1, None)])
    with pytest.raises(SchemaUnfit, match=r"does not know \(theirs\) and lacks others"):
        await migrate.migrate(dsn)
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval(f"SELECT to_regclass('to_come_{LATEST + 1}')") is None
    await connection.close()


@pytest.mark.parametrize("column", [True, False], ids=["with", "without"])
async def test_an_older_schema_is_named_and_brought_up(dsn: str, column: bool) -> None:
    """As programs before the compatible range left it, and as they leave it now."""
    db = Database(dsn)
    await db.start()
    await seed_database(db)
    try:
        last = schema.migrations()[-1]
        await db.execute("DELETE FROM schema_migrations WHERE version >= 5")
        await db.execute("ALTER TABLE schema_migrations DROP COLUMN least_code")
        for migration in schema.migrations():  # what later ones made goes, too
            for table in schema.tables([migration]) if migration.version >= 5 else []:
                if table != "schema_migrations":
                    await db.execute(f"DROP TABLE {table}")
        if column:
            await db.execute("ALTER TABLE schema_migrations ADD COLUMN least_code int4")
        found = await schema.look(db)
        assert found.pending[-1] == last.name
        assert found.fault is not None
        assert f"this program needs {last.version}" in found.fault
        assert found.too_new is None
    finally:
        await db.stop()


async def test_a_table_that_is_not_there_is_no_fault_of_a_statement(dsn: str) -> None:
    """The statement may be right once the schema is."""
    db = Database(dsn)
    await db.start()
    try:
        with pytest.raises(StoreUnavailable):
            await db.fetch("SELECT 1 FROM of_a_later_version")
    finally:
        await db.stop()
