"""The database answers but takes no writes: readiness says so, the log says when it began and when it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from store.connections.pool import Database
from store.migrate import migrate
from tests.conftest import MakeCluster
from tests.support.defaults import seed_database
from tests.support.server import ServerProcess
from tests.support.services import Deployment, TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

SMALL = {"workflow_type": "t", "task_queue": "nobody"}
BIG = {**SMALL, "memo": {"text": "x" * 100_000}}
PATIENCE = 30.0

Turn = Callable[[], Awaitable[None]]


async def test_readiness_and_log_tell_of_a_full_disk(own_services: TestServices, cluster: MakeCluster) -> None:
    """The disk of the tables is full, that of the log is not: heartbeats, which need no room, go on."""
    with small_disk(own_services) as disk:
        place = await place_on(own_services, disk)
        node = cluster(1, place=place)[0]
        filler = disk / "filler"

        async def fill() -> None:
            with filler.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(64 * 1024))
                    file.flush()

        async def empty() -> None:
            filler.unlink()

        await check(node, fill, empty)
        assert "lease of this node ended" not in node.log_file.read_text()
        node.stop()


async def test_readiness_and_log_tell_of_a_read_only_database(services: TestServices, cluster: MakeCluster) -> None:
    node = cluster(1)[0]
    name = node.place.dsn.split("?")[0].rpartition("/")[2]

    def turned(to: str) -> Turn:
        async def turn() -> None:
            connection = await asyncpg.connect(services.postgres.dsn)
            await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {to}")
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            await connection.close()

        return turn

    await check(node, turned("on"), turned("off"))


async def check(node: ServerProcess, begin: Turn, end: Turn) -> None:
    async with node.client() as client:
        assert (await client.post("/api/workflows", json=BIG)).status_code == 201
        await begin()
        message = "The database takes no writes"
        async with asyncio.timeout(PATIENCE):
            while message not in (await _ready(client, 503)):
                # With and without requests: the node notices by itself, too.
                await asyncio.sleep(0.5)
        assert (await client.post("/api/workflows", json=BIG)).status_code == 503
        assert (await client.get("/api/health")).status_code == 200, "a restart of the node would not help"
        assert (await client.get("/api/workflows")).status_code == 200
        for _ in range(5):
            for start in (SMALL, BIG, SMALL):  # a small one may find room that is there already, which says nothing
                await client.post("/api/workflows", json=start)
            assert message in await _ready(client, 503)
            await asyncio.sleep(0.5)
        await end()
        async with asyncio.timeout(PATIENCE):
            while (await client.get("/api/ready")).status_code != 200:
                await asyncio.sleep(0.1)
            while (await client.post("/api/workflows", json=BIG)).status_code != 201:
                await asyncio.sleep(0.1)
    log = node.log_file.read_text()
    assert (log.count("takes no writes"), log.count("takes writes again")) == (1, 1), log
    assert "Traceback" not in log


async def _ready(client: httpx.AsyncClient, status: int) -> str:
    """What readiness says of the database; "" while its status is another."""
    response = await client.get("/api/ready")
    check = response.json()["checks"]["database"]
    return check.get("message", "") if response.status_code == status else ""


@contextlib.contextmanager
def small_disk(services: TestServices) -> Iterator[Path]:
    """A file system of 48 MB that belongs to the user Postgres runs as; skips where that cannot be had."""
    owner = services.postgres.data.stat()
    with tempfile.TemporaryDirectory(prefix="dw-disk-", ignore_cleanup_errors=True) as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=48m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}", "tmpfs", directory],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode != 0:
            pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
        try:
            yield Path(directory)
        finally:
            services.postgres.stop(immediately=True)
            subprocess.run(["umount", "--lazy", directory], check=False)


async def place_on(services: TestServices, disk: Path) -> Deployment:
    """A bootstrapped database whose tables are on `disk`."""
    (disk / "tables").mkdir(mode=0o700)
    owner = services.postgres.data.stat()
    os.chown(disk / "tables", owner.st_uid, owner.st_gid)
    connection = await asyncpg.connect(services.postgres.dsn)
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{disk / 'tables'}'")
    await connection.execute("CREATE DATABASE on_small TABLESPACE small")
    await connection.close()
    dsn = services.postgres.dsn_of("on_small")
    await migrate(dsn)
    database = Database(dsn)
    await database.start()
    await seed_database(database)
    await database.stop()
    return Deployment(dsn, services.nats.url, "small")
