"""More connections than descriptors: the server goes on serving, says so once, and recovers."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.edge.conftest import Running
from tests.edge.raw import Raw, ask, head, request
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.proof

CROWD = 400
LIMITS = {"DW_WORKER_POLL_TIMEOUT": "20", "DW_HTTP_UNREAD_SECONDS": "3", "DW_HTTP_MAX_UNREAD_BYTES": str(8 * 1024 * 1024)}


@pytest.fixture
def small(services: TestServices, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own, whose descriptors a test takes away."""
    process = ServerProcess(services.deployment(), tmp_path, env=LIMITS)
    try:
        yield process.start()
    finally:
        process.stop()
    assert "Traceback" not in process.log_file.read_text()


def _come(server: ServerProcess, count: int) -> list[Raw]:
    return [Raw(server) for _ in range(count)]


def _leave(crowd: list[Raw]) -> None:
    for each in crowd:
        each.socket.close()


@pytest.mark.parametrize("spare", [200, 30])
def test_idle_connections_make_room_when_descriptors_run_out(small: ServerProcess, spare: int) -> None:
    """`spare` descriptors above those in use: with few of them the bound on connections comes too late and accepting fails."""
    process = psutil.Process(small.pid)
    limit = process.num_fds() + spare
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (limit, 4096))
    crowd: list[Raw] = []
    try:
        for _ in range(CROWD // 40):
            crowd += _come(small, 40)
            assert ask(small, head("GET", "/api/health")).status == 200
            body = {"workflow_type": "edge", "task_queue": "edge"}
            assert ask(small, request("POST", "/api/workflows", body)).status == 201
        assert process.num_fds() <= limit
        log = small.log_file.read_text()
        assert 1 <= log.count("want of descriptors") <= 2, log
    finally:
        _leave(crowd)
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    crowd = _come(small, CROWD)
    try:
        time.sleep(1)
        assert all(each.send(head("GET", "/api/health")).answer().status == 200 for each in crowd)
    finally:
        _leave(crowd)


def test_clients_wait_while_every_connection_is_busy(small: ServerProcess) -> None:
    """Held polls are not pushed out: who comes then waits until one of them is over."""
    process = psutil.Process(small.pid)
    worker = {"worker_id": "busy", "task_queue": "busy"}
    assert ask(small, request("POST", "/api/worker/register", {**worker, "runtime": "python"})).status == 201
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (process.num_fds() + 20, 4096))
    crowd = _come(small, 60)
    late: list[Raw] = []
    try:
        for each in crowd:
            with contextlib.suppress(ConnectionError):
                each.send(request("POST", "/api/worker/workflow-tasks/poll", worker))
        time.sleep(1)
        late = _come(small, 1)
        late[0].send(head("GET", "/api/health"))
        assert late[0].silent(0.5)
        _leave(crowd)
        assert late[0].answer().status == 200
    finally:
        _leave(crowd + late)


def test_answers_that_nobody_reads_do_not_pile_up(small: ServerProcess) -> None:
    """300 connections ask for 2 MB each, again and again, and read nothing; one reads slowly."""
    run = Running(small)
    for _ in range(40):
        assert ask(small, request("POST", f"{run.path}/signal/go", {"input": ["x" * 55_000]})).status == 202
    ask_for_all = head("GET", f"{run.path}/runs/{run.run_id}/history?page_size=1000")
    size = len(ask(small, ask_for_all).body)
    assert size > 2_000_000
    process = psutil.Process(small.pid)
    memory = process.memory_info().rss
    most = connections = CROWD
    peak = 0
    crowd: list[Raw] = []
    try:
        for _ in range(3):
            for _ in range(100):
                crowd.append(Raw(small, receive_buffer=4096).send(ask_for_all * 20))
            time.sleep(2)
            peak = max(peak, process.memory_info().rss - memory)
        until = time.monotonic() + 60
        while time.monotonic() < until and connections > 5:
            assert ask(small, head("GET", "/api/nothing")).status == 404  # others are served meanwhile
            peak = max(peak, process.memory_info().rss - memory)
            connections = _connections(process)
            time.sleep(0.1)
        assert connections <= 5 < most, "they are still held"
    finally:
        _leave(crowd)
    print("peak", peak)
    assert peak < 450 * 1024 * 1024, peak  # all of them at once would take 850 MB
    with Raw(small, receive_buffer=4096) as reader:
        reader.send(ask_for_all * 2)
        for _ in range(2):
            time.sleep(1.5)
            assert len(reader.answer().body) == size


def _connections(process: psutil.Process) -> int:
    port = {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    return sum(each.laddr.port in port and each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))
