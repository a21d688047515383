"""`serve` and `bootstrap` over a schema that is not theirs: said clearly, refused, and picked up once it is right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from store import schema
from tests.support.commands import CONTROL, run
from tests.support.server import ServerProcess
from tests.support.services import Deployment, TestServices

pytestmark = pytest.mark.proof

LATEST = schema.migrations()[-1].version
NEWER = "INSERT INTO schema_migrations (version, name, least_code) VALUES (9001, 'to_come', {})"
SECONDS = 30.0


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()


def checks(server: ServerProcess) -> dict[str, dict[str, object]]:
    answer = httpx.get(f"{server.url}/api/ready", timeout=10)
    found: dict[str, dict[str, object]] = answer.json()["checks"]
    return {"": {"status": answer.status_code}, **found}


def wait_for(server: ServerProcess, status: int) -> None:
    """Until a start is answered so."""
    deadline = time.monotonic() + SECONDS
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = start(server)
        except httpx.TransportError as error:
            last = error
        if last == status:
            return
        time.sleep(0.1)
    raise AssertionError(f"no {status}: {last}\n{server.log_tail()}")


def start(server: ServerProcess) -> int:
    headers = {"Authorization": f"Bearer {server.token}", **CONTROL}
    body = {"workflow_type": "t", "task_queue": "q", "workflow_id": f"w-{time.monotonic_ns()}"}
    return httpx.post(f"{server.url}/api/workflows", headers=headers, json=body, timeout=20).status_code


@pytest.fixture
def server(place: Deployment, tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(place, tmp_path)
    yield process
    process.stop()


def test_without_a_schema_everything_is_503_until_bootstrapped(services: TestServices, tmp_path: Path) -> None:
    dsn = services.empty_database()
    server = ServerProcess(Deployment(dsn, services.nats.url, "bare"), tmp_path).start(wait=False)
    try:
        wait_for(server, 503)
        headers = {"Authorization": f"Bearer {server.token}", **CONTROL, "X-Durable-Workflow-Protocol-Version": "1.1"}
        for method, path in (
            ("GET", "/api/cluster/info"), ("GET", "/api/namespaces"), ("GET", "/api/workflows"), ("GET", "/api/workflows/w"),
            ("GET", "/api/workers"), ("POST", "/api/worker/register"), ("POST", "/api/worker/workflow-tasks/poll"),
        ):  # fmt: skip
            answer = httpx.request(method, server.url + path, headers=headers, json={} if method == "POST" else None)
            assert answer.status_code == 503, (path, answer.text)
        assert httpx.get(f"{server.url}/api/workflows").status_code == 401
        assert httpx.get(f"{server.url}/api/health").status_code == 200
        assert checks(server)["migrations"]["status"] == "missing"
        assert "the database has not been bootstrapped: run `dw-server bootstrap`" in server.log_tail()
        assert server.log_tail().count("can not start yet") == 1
        assert run("bootstrap", env={"DW_DATABASE_URL": dsn}).returncode == 0
        wait_for(server, 201)
        assert checks(server)[""]["status"] == 200
        assert "Traceback" not in server.log_tail(1000)
    finally:
        assert server.stop() == 0


async def test_an_older_schema_is_503_until_bootstrapped(server: ServerProcess) -> None:
    last = schema.migrations()[-1]
    dsn = server.place.dsn
    await execute(dsn, f"DELETE FROM schema_migrations WHERE version = {last.version}")
    server.start(wait=False)
    wait_for(server, 503)
    found = checks(server)
    assert (found[""]["status"], found["migrations"]["pending_migrations"]) == (503, [last.name])
    assert f"this program needs {last.version} and misses {last.name}: run `dw-server bootstrap`" in server.log_tail()
    await execute(dsn, f"INSERT INTO schema_migrations (version, name) VALUES ({last.version}, '{last.name}')")
    wait_for(server, 201)


async def test_a_newer_schema_that_names_us_is_served(server: ServerProcess) -> None:
    await execute(server.place.dsn, NEWER.format(LATEST))
    done = run("bootstrap", env={"DW_DATABASE_URL": server.place.dsn})
    said = f"the schema has version 9001, newer than this program ({LATEST}) and open to it"
    assert (done.returncode, said in done.stderr) == (0, True), done.stderr
    server.start()
    wait_for(server, 201)
    assert said in server.log_tail()


async def test_a_newer_schema_that_needs_a_newer_program_is_refused(server: ServerProcess) -> None:
    await execute(server.place.dsn, NEWER.format("NULL"))
    begun = time.monotonic()
    done = run("bootstrap", env={"DW_DATABASE_URL": server.place.dsn, "DW_BOOTSTRAP_DELAY_SECONDS": "20"})
    assert time.monotonic() - begun < 20, "trying again is of no use"
    assert done.returncode == 1
    said = f"the schema has version 9001 and needs a program that knows version 9001 or later; this one knows {LATEST}"
    assert f"bootstrap refused: {said}: use a newer program" in done.stderr
    assert "Traceback" not in done.stderr
    server.start(wait=False)
    wait_for(server, 503)
    migrations = checks(server)["migrations"]
    assert migrations["status"] == "unavailable"
    assert "needs a program that knows version 9001" in str(migrations["message"])
    assert said in server.log_tail()


async def test_a_schema_changed_under_a_running_node_closes_and_opens_it(server: ServerProcess) -> None:
    server.start()
    wait_for(server, 201)
    await execute(server.place.dsn, NEWER.format("NULL"))
    wait_for(server, 503)
    assert "requests are refused: the schema has version 9001" in server.log_tail()
    await execute(server.place.dsn, f"UPDATE schema_migrations SET least_code = {LATEST} WHERE version = 9001")
    wait_for(server, 201)
