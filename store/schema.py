"""Whether this program and the schema of a database fit together.

A program knows the migrations it comes with and needs all of them: bootstrap comes before the nodes. The schema says which
programs can run on it: each migration names the least version a program must know (`least_code` in `schema_migrations`, see
migration 0005). So the schema may be newer than the program, as far as it says so itself, and never older.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from store.connections.pool import Database
from store.errors import SchemaUnfit

_FOLDER = Path(__file__).parent / "migrations"
_LEAST_CODE = re.compile(r"^-- least code: (\d+)$", re.MULTILINE)
_TABLE = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (\w+)", re.MULTILINE)

# Works with and without the column.
APPLIED = (
    "SELECT version, name, coalesce((to_jsonb(m) ->> 'least_code')::int4, version) AS least_code FROM schema_migrations AS m"
)
_THERE = "SELECT to_regclass('schema_migrations') IS NOT NULL AS ledger, to_regclass('settings') IS NOT NULL AS settings"
_SEEDED = "SELECT EXISTS (SELECT FROM settings WHERE key = 'shards')"
_MISSING = "SELECT name FROM unnest($1::text[]) AS t(name) WHERE to_regclass(name) IS NULL"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. `least_code`: what a program must know at least to run on a database that has it."""

    version: int
    name: str
    sql: str
    least_code: int


def parsed(version: int, name: str, sql: str) -> Migration:
    """A migration out of its text."""
    found = _LEAST_CODE.search(sql)
    return Migration(version, name, sql, int(found[1]) if found else version)


def migrations() -> list[Migration]:
    """The migrations of this program, ascending."""
    return list(_migrations())


@cache
def _migrations() -> tuple[Migration, ...]:
    found = []
    for path in sorted(_FOLDER.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        found.append(parsed(int(number), name, path.read_text(encoding="utf-8")))
    return tuple(found)


def tables(known: Sequence[Migration]) -> list[str]:
    """Every table the migrations create, and their ledger."""
    created = {name for migration in known for name in _TABLE.findall(migration.sql)}
    return sorted(created | {"schema_migrations"})


@dataclass(frozen=True, slots=True)
class Schema:
    """What was found in a database. `version` is its newest migration, 0 without any; `code` the newest this program knows."""

    version: int
    least_code: int
    code: int
    pending: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    missing_tables: tuple[str, ...] = ()
    seeded: bool = True

    @property
    def too_new(self) -> str | None:
        """Why this program is too old for the schema; None when it is not."""
        if self.code < self.least_code:
            return (
                f"the schema has version {self.version} and needs a program that knows version {self.least_code} or later;"
                f" this one knows {self.code}: use a newer program"
            )
        if self.unknown and self.pending:
            return (
                f"the schema has migrations this program does not know ({', '.join(self.unknown)}) and lacks others"
                f" ({', '.join(self.pending)}): use the program that made it, or a newer one"
            )
        return None

    @property
    def said(self) -> str:
        """What was found, in a line for the log."""
        ahead = "" if self.version <= self.code else f", newer than this program ({self.code}) and open to it"
        return f"the schema has version {self.version}{ahead}"

    @property
    def fault(self) -> str | None:
        """Why this program can not serve the database; None when it can."""
        if self.too_new is not None:
            return self.too_new
        if self.version == 0:
            return "the database has not been bootstrapped: run `dw-server bootstrap`"
        if self.pending:
            return (
                f"the schema has version {self.version}, this program needs {self.code} and misses"
                f" {', '.join(self.pending)}: run `dw-server bootstrap`"
            )
        if self.missing_tables:
            return f"tables are missing in the database: {', '.join(self.missing_tables)}"
        return None if self.seeded else "the bootstrap of the database has not ended: run `dw-server bootstrap`"


def compared(applied: Mapping[int, tuple[str, int]], known: Sequence[Migration]) -> Schema:
    """What a ledger (version -> name, least code) means for a program that knows `known`."""
    versions = {migration.version for migration in known}
    return Schema(
        version=max(applied, default=0),
        least_code=max((least for _, least in applied.values()), default=0),
        code=max(versions, default=0),
        pending=tuple(migration.name for migration in known if migration.version not in applied),
        unknown=tuple(name for version, (name, _) in sorted(applied.items()) if version not in versions),
    )


def ledger(rows: Sequence[Any]) -> dict[int, tuple[str, int]]:
    """The rows of `APPLIED` for `compared`."""
    return {row["version"]: (row["name"], row["least_code"]) for row in rows}


async def look(db: Database) -> Schema:
    """What is in the database. Raises `StoreUnavailable`."""
    known = migrations()
    there = await db.fetchrow(_THERE)
    assert there is not None
    found = compared(ledger(await db.fetch(APPLIED)) if there["ledger"] else {}, known)
    seeded = bool(there["settings"] and await db.fetchval(_SEEDED))
    missing = tuple(row["name"] for row in await db.fetch(_MISSING, tables(known)))
    return Schema(found.version, found.least_code, found.code, found.pending, found.unknown, missing, seeded)


def refuse_newer(found: Schema) -> None:
    """Raise `SchemaUnfit` when this program must not change the schema."""
    if found.too_new is not None:
        raise SchemaUnfit(found.too_new)
