"""A caller for every test of the wire, a server whose leases are short, and both clients at a desk of their own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from durable_workflow import Client

from tests.support.server import ServerProcess
from tests.support.services import TestServices
from tests.wire.caller import Caller, caller_on
from tests.wire.request_fixtures import RequestFixtures

HASTY = {
    "DW_WORKFLOW_TASK_TIMEOUT": "1",
    "DW_ACTIVITY_TASK_TIMEOUT": "1",
    "DW_V2_TASK_REPAIR_REDISPATCH_AFTER_SECONDS": "1",
}


@pytest.fixture(scope="module")
def server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose polls end after one second: many tests here wait for an empty answer."""
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("wire"), env={"DW_WORKER_POLL_TIMEOUT": "1"})
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def caller(server: ServerProcess) -> AsyncIterator[Caller]:
    """Protocol calls on a queue of the test's own."""
    async with caller_on(server) as made:
        yield made


@pytest.fixture(scope="module")
def hasty_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose leases last one second, and whose failed workflow tasks come back after one, two, four ... seconds."""
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("hasty"), node_id="hasty", env=HASTY)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def hasty(hasty_server: ServerProcess) -> AsyncIterator[Caller]:
    """Protocol calls where leases are short."""
    async with caller_on(hasty_server) as made:
        yield made


@pytest.fixture(scope="module")
def paging_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose history pages hold two events unless asked otherwise."""
    env = {"DW_HISTORY_PAGE_SIZE_DEFAULT": "2", "DW_WORKER_POLL_TIMEOUT": "1"}
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("fixtures"), env=env)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def desk(paging_server: ServerProcess) -> AsyncIterator[RequestFixtures]:
    """Clients in a namespace of the test's own."""
    namespace = f"n-{secrets.token_hex(4)}"
    headers = {"X-Namespace": namespace}
    async with (
        paging_server.client(headers=headers) as raw,
        Client(paging_server.url, token=paging_server.token, namespace=namespace) as sdk,
    ):
        made = await raw.post("/api/namespaces", json={"name": namespace, "retention_days": 1})
        assert made.status_code == 201
        yield RequestFixtures(raw, sdk)
