"""A caller for every test of the wire, and a server whose leases are short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.server import ServerProcess
from tests.support.services import TestServices
from tests.wire.caller import Caller, caller_on

HASTY = {
    "DW_WORKFLOW_TASK_TIMEOUT": "1",
    "DW_ACTIVITY_TASK_TIMEOUT": "1",
    "DW_V2_TASK_REPAIR_REDISPATCH_AFTER_SECONDS": "1",
}


@pytest.fixture
async def caller(server: ServerProcess) -> AsyncIterator[Caller]:
    """Protocol calls on a queue of the test's own."""
    async with caller_on(server) as made:
        yield made


@pytest.fixture(scope="module")
def hasty_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose leases last one second, and whose failed workflow tasks come back after one, two, four ... seconds."""
    process = ServerProcess(services.place(), tmp_path_factory.mktemp("hasty"), node_id="hasty", env=HASTY)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def hasty(hasty_server: ServerProcess) -> AsyncIterator[Caller]:
    """Protocol calls where leases are short."""
    async with caller_on(hasty_server) as made:
        yield made
