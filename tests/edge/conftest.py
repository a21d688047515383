"""A server whose limits are small enough to be met within a test, and workflows to send requests to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.edge.raw import ask, request
from tests.support.server import ServerProcess
from tests.support.services import TestServices

PAYLOAD_BYTES = 256 * 1024
SMALL = {
    "DW_MAX_PAYLOAD_BYTES": str(PAYLOAD_BYTES),
    "DW_HTTP_HEAD_SECONDS": "2",
    "DW_HTTP_BODY_SECONDS": "3",
    "DW_HTTP_IDLE_SECONDS": "4",
    "DW_HTTP_UNREAD_SECONDS": "3",
    "DW_HTTP_LINGER_SECONDS": "3",
    "DW_HTTP_MAX_UNREAD_BYTES": str(8 * 1024 * 1024),
    "DW_WORKER_POLL_TIMEOUT": "8",
}

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def edge(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running node with the small limits above. Its log holds no traceback at the end, whatever was sent."""
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("edge"), env=SMALL)
    try:
        yield process.start()
    finally:
        process.stop()
    assert "Traceback" not in process.log_file.read_text()


def events_of(server: ServerProcess, workflow_id: str, run_id: str) -> list[dict[str, Any]]:
    """The history of a run."""
    found: list[dict[str, Any]] = ask(
        server, request("GET", f"/api/workflows/{workflow_id}/runs/{run_id}/history?page_size=1000")
    ).json["events"]
    return found


class Running:
    """A workflow that waits for whatever comes."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.id = f"edge-{next(_numbers)}"
        self.path = f"/api/workflows/{self.id}"
        started = ask(server, request("POST", "/api/workflows", start(self.id)))
        assert started.status == 201, started
        self.run_id: str = started.json["run_id"]

    def types(self) -> list[str]:
        """The types of its events."""
        return [event["event_type"] for event in events_of(self.server, self.id, self.run_id)]

    def signals(self) -> list[Any]:
        """What the signals of its history carry."""
        return [
            event["payload"]
            for event in events_of(self.server, self.id, self.run_id)
            if event["event_type"] == "SignalReceived"
        ]


def start(workflow_id: str, **fields: Any) -> dict[str, Any]:
    """The body of a start."""
    return {"workflow_id": workflow_id, "workflow_type": "edge", "task_queue": "edge", **fields}


@pytest.fixture
def running(edge: ServerProcess) -> Callable[[], Running]:
    """`running()` starts a workflow nobody works on."""
    return lambda: Running(edge)
