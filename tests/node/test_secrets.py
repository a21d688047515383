"""Credentials are shown nowhere: planted in every place a secret has, looked for in everything a node says and keeps.

Answers of all routes, good and bad, log at its most talkative, everything on NATS, every column of the database, and what
commands print.
"""

from __future__ import annotations

import asyncio
import base64
import re
import zlib
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import nats
import pytest

from api.routes import ROUTES
from node.config import table
from node.config.entry import SECRET
from tests.api.driver import Http
from tests.support.commands import run
from tests.support.server import ServerProcess
from tests.support.services import TestServices

MARK = "hunter2"
"""Part of every planted secret, and of nothing else."""

SECRETS = {row.name: f"{MARK}-{row.name.lower()}" for row in table() if row.kind is SECRET and not row.name.endswith("_URL")}
VERSIONS = {"X-Durable-Workflow-Control-Plane-Version": "2", "X-Durable-Workflow-Protocol-Version": "1.1"}
STRANGE = f"{MARK}-of-a-stranger"


def forms(secret: str) -> list[bytes]:
    """How a secret may look where it is kept."""
    plain = secret.encode()
    return [plain, plain.hex().encode(), base64.b64encode(plain).rstrip(b"="), base64.b64encode(b"x" + plain).rstrip(b"=")[2:]]


LOOKED_FOR = [form for secret in (*SECRETS.values(), STRANGE, MARK) for form in forms(secret)]


def shown_in(text: bytes) -> list[bytes]:
    """The secrets that a text shows, also packed."""
    texts = [text]
    for start in (found.start() for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", text)):
        try:
            texts.append(zlib.decompressobj().decompress(text[start:]))
        except zlib.error:
            pass
    return [form for form in LOOKED_FOR for each in texts if form in each]


@pytest.fixture(scope="module")
def server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    place = services.deployment()
    environment = {
        **SECRETS,
        # PostgreSQL trusts its socket, so a password is sent along that nobody needs
        "DW_DATABASE_URL": place.dsn.replace("@", f":{MARK}-database@", 1) if "@" in place.dsn else place.dsn,
        "DW_EXTERNAL_STORAGE_PROFILES": f'{{"p": {{"access_key_id": "{MARK}-id", "secret_access_key": "{MARK}-key"}}}}',
        "LOG_LEVEL": "debug",
        "DW_LOG_FORMAT": "json",
        "DW_NATS_PASSWORD": "",
        "DW_NATS_TOKEN": "",
    }
    assert MARK in environment["DW_DATABASE_URL"]
    process = ServerProcess(place, tmp_path_factory.mktemp("secrets"), env=environment)
    process.token = SECRETS["DW_AUTH_TOKEN"]
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def overheard(server: ServerProcess) -> Any:
    """Everything that is said on NATS meanwhile."""
    heard: list[bytes] = []

    async def keep(message: Any) -> None:
        heard.append(f"{message.subject} {message.headers}".encode() + message.data)

    client = await nats.connect(server.place.nats_url)
    await client.subscribe(">", cb=keep)
    await client.flush()
    yield heard
    await client.close()


CALLERS: list[dict[str, str]] = [
    *({"Authorization": f"Bearer {SECRETS[name]}"} for name in ("DW_WORKER_TOKEN", "DW_OPERATOR_TOKEN", "DW_ADMIN_TOKEN")),
    {"Authorization": f"Bearer {STRANGE}", "Cookie": f"session={STRANGE}", "X-Signature": STRANGE, "X-Api-Key": STRANGE},
    {"Authorization": f"Basic {base64.b64encode(STRANGE.encode()).decode()}", "Proxy-Authorization": STRANGE},
]
BODIES: list[bytes | None] = [None, b"{}", b"{", b'{"workflow_type": 3, "worker_id": [], "input": {"codec": 1}}']


async def ask_everything(client: httpx.AsyncClient) -> list[bytes]:
    """The answers of every route to every caller, with bodies that it likes and that it does not."""
    found = []
    for route in ROUTES:
        path = "/api" + re.sub(r"\{\w+\}", "w-1", route.template)
        for caller in CALLERS:
            for body in BODIES if route.method != "GET" else BODIES[:1]:
                headers = {**VERSIONS, **caller, **({} if body is None else {"Content-Type": "application/json"})}
                response = await client.request(route.method, path, content=body, headers=headers)
                found.append(response.content + str(response.headers).encode())
    for path in ("/api/nothing", "/api/worker/nothing", "/nothing"):
        for method in ("GET", "PATCH", "OPTIONS"):
            response = await client.request(method, path, headers=CALLERS[3])
            found.append(response.content + str(response.headers).encode())
    return found


async def work(server: ServerProcess) -> list[bytes]:
    """A workflow from start to end and all that is shown of it, under the credentials of their roles."""

    def client(name: str) -> httpx.AsyncClient:
        headers = {**VERSIONS, "Authorization": f"Bearer {SECRETS[name]}", "User-Agent": f"{MARK}-agent/1"}
        return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60)

    async with (
        client("DW_WORKER_TOKEN") as for_work,
        client("DW_OPERATOR_TOKEN") as operator,
        client("DW_ADMIN_TOKEN") as admin,
    ):
        worker, told = Http(for_work), Http(operator)
        worker.queue = told.queue
        await worker.register()
        run_id = (await told.start(workflow_id="w-1"))["run_id"]
        await worker.complete(await worker.poll(), {"type": "open_condition_wait", "condition_key": "go"})
        await told.post("/workflows/w-1/signal/go", 202)
        answers = []
        for path in (
            "/workflows", "/workflows/w-1", "/workflows/w-1/debug", f"/workflows/w-1/runs/{run_id}/history",
            f"/workflows/w-1/runs/{run_id}/debug", "/workers", "/cluster/info", "/namespaces",
        ):  # fmt: skip
            answers.append((await operator.get(f"/api{path}")).content)
        for path in ("/system/metrics", "/system/operator-metrics", "/cluster/info"):
            answers.append((await admin.get(f"/api{path}")).content)
        for path in ("/api/health", "/api/ready", "/metrics"):
            answers.append((await admin.get(path)).content)
        return answers


async def rows_of(dsn: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, as bytes."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = []
        for name in (row["name"] for row in names):
            for row in await connection.fetch(f"SELECT * FROM {name}"):
                values = [value if isinstance(value, bytes) else str(value).encode() for value in row.values()]
                found += [(name, value) for value in values]
        return iter(found)
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.proof
async def test_no_secret_is_shown_anywhere(server: ServerProcess, overheard: list[bytes]) -> None:
    answers = await work(server)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answers += await ask_everything(client)
    assert len(answers) > 300
    assert [(answer, shown) for answer in answers if (shown := shown_in(answer))] == []

    rows = list(await rows_of(server.place.dsn))
    assert any(b"role:operator" in value for _, value in rows), "who started the workflow is kept"
    assert [(name, shown) for name, value in rows if (shown := shown_in(value))] == []

    async with asyncio.timeout(60):
        while not any(b"SignalReceived" in message for message in overheard):
            await asyncio.sleep(0.1)
    assert [message for message in overheard if shown_in(message)] == []

    server.stop()
    log = server.log_file.read_bytes()
    assert b'"level":"info"' in log and shown_in(log) == []


BROKEN = [
    ("bootstrap", {"DW_DATABASE_URL": f"postgresql://u:{MARK}-a@127.0.0.1:1/d", "DW_BOOTSTRAP_RETRIES": "1"}),
    ("bootstrap", {"DW_DATABASE_URL": f"postgresql://u:{MARK}-a@127.0.0.1:1/d?sslmode=none", "DW_BOOTSTRAP_RETRIES": "1"}),
    ("bootstrap", {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "DB_PASSWORD": f"{MARK}-/@#a", "DW_BOOTSTRAP_RETRIES": "1"}),
    ("serve", {"DW_DATABASE_URL": f"mysql://u:{MARK}-a@h/d"}),
    ("serve", {"DW_DATABASE_URL": "postgresql://h/d", "DW_NATS_URL": f"nats://u:{MARK}-a@h:x"}),
    ("env-audit", {"DW_DATABASE_URL": f"mysql://u:{MARK}-a@h/d", **SECRETS}),
]


@pytest.mark.parametrize(("command", "environment"), BROKEN)
def test_commands_that_fail_show_none(command: str, environment: dict[str, str]) -> None:
    done = run(command, env={**SECRETS, **environment}, seconds=120)
    assert done.returncode == (0 if command == "env-audit" else 1)
    assert shown_in((done.stdout + done.stderr).encode()) == []


def test_the_search_finds_what_it_looks_for() -> None:
    for secret in (STRANGE, SECRETS["DW_AUTH_TOKEN"]):
        for text in (secret.encode(), secret.encode().hex().encode(), b"ab" + zlib.compress(b"cd" + secret.encode())):
            assert shown_in(b"before" + text + b"behind")
