"""Many parked polls: the node stays healthy, a vanished client swallows no task, and leaving answers them all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.client import ClusterClient, Raw
from tests.cluster.harness import WORKFLOW_TYPE
from tests.cluster.parking import (
    LONG_POLLS,
    park,
    register,
)
from tests.conftest import MakeCluster
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

STOP_SECONDS = 10.0


@pytest.fixture
def patient(services: TestServices, tmp_path: Path) -> Iterator[ServerProcess]:
    """One node with long polls."""
    server = ServerProcess(services.deployment(), tmp_path, env=LONG_POLLS)
    try:
        yield server.start()
    finally:
        server.stop()


async def test_health_answers_with_500_parked_polls_and_sigterm_answers_them_empty(patient: ServerProcess) -> None:
    client = ClusterClient([patient])
    polls: list[Raw] = []
    for number in range(10):
        worker_id = await register(client, f"idle-{number}", patient)
        polls += await park(patient, worker_id, f"idle-{number}", 25, "workflow")
        polls += await park(patient, worker_id, f"idle-{number}", 25, "activity")
    await asyncio.sleep(0.5)
    assert not any(poll.answer.done() for poll in polls)
    for _ in range(20):
        assert (await client.get("/api/health")).status == 200
        assert (await client.get("/api/ready")).status == 200
    children = psutil.Process(patient.pid).children(recursive=True)
    began = time.monotonic()
    patient.signal(signal.SIGTERM)
    answers = await asyncio.wait_for(asyncio.gather(*(poll.answer for poll in polls)), STOP_SECONDS)
    assert {(answer.status, b'"task":null' in answer.body) for answer in answers} == {(200, True)}
    assert await asyncio.to_thread(patient.wait, STOP_SECONDS) == 0
    assert time.monotonic() - began < STOP_SECONDS
    assert not [child for child in children if child.is_running()]
    assert "did not stop" not in patient.log_tail(200)
    client.close()


async def test_polls_parked_at_other_nodes_are_answered_when_their_node_leaves(cluster: MakeCluster) -> None:
    """Whichever node hosts the queues: the leaving node's clients get empty answers, the others' wait on and get their task."""
    leaving, staying = cluster(2, env=LONG_POLLS).nodes
    client = ClusterClient([staying])
    queues = [f"mixed-{number}" for number in range(16)]
    there, here = [], []
    for queue in queues:
        worker_id = await register(client, queue, staying)
        there += await park(leaving, worker_id, queue, 2)
        here += await park(staying, worker_id, queue, 1)
    await asyncio.sleep(0.5)
    began = time.monotonic()
    leaving.signal(signal.SIGTERM)
    answers = await asyncio.wait_for(asyncio.gather(*(poll.answer for poll in there)), STOP_SECONDS)
    assert {(answer.status, b'"task":null' in answer.body) for answer in answers} == {(200, True)}
    assert await asyncio.to_thread(leaving.wait, STOP_SECONDS) == 0
    assert time.monotonic() - began < STOP_SECONDS
    assert "did not stop" not in leaving.log_tail(200)
    assert not any(poll.answer.done() for poll in here)
    await start_on_each(client, queues)
    tasks = await asyncio.wait_for(asyncio.gather(*(poll.answer for poll in here)), 15)
    assert all(b'"task":{' in task.body for task in tasks)
    for poll in here:
        poll.connection.close()
    client.close()


async def test_a_killed_node_swallows_no_task_of_its_parked_polls(cluster: MakeCluster) -> None:
    """Its clients' polls wait in queues of other nodes for a while: what is granted to them is handed back at once."""
    victim, survivor = cluster(2, env=LONG_POLLS).nodes
    client = ClusterClient([survivor])
    queues = [f"orphan-{number}" for number in range(16)]
    for queue in queues:
        worker_id = await register(client, queue, survivor)
        await park(victim, worker_id, queue, 4)
    await asyncio.sleep(0.5)
    victim.kill()
    await start_on_each(client, queues)
    began = time.monotonic()
    polls = [poll for queue in queues for poll in await park(survivor, f"{queue}-worker", queue, 1)]
    answers = await asyncio.wait_for(asyncio.gather(*(poll.answer for poll in polls)), 40)
    assert all(b'"task":{' in answer.body for answer in answers)
    assert time.monotonic() - began < 15  # far less than the lease
    client.close()


async def test_clients_that_leave_while_parked_swallow_no_task(cluster: MakeCluster) -> None:
    nodes = cluster(2, env=LONG_POLLS).nodes
    client = ClusterClient(nodes)
    queues = [f"left-{number}" for number in range(16)]
    for queue in queues:
        worker_id = await register(client, queue, nodes[0])
        for poll in [*await park(nodes[0], worker_id, queue, 3), *await park(nodes[1], worker_id, queue, 3)]:
            asyncio.get_running_loop().call_later(0.3, poll.connection.close)
            poll.answer.add_done_callback(lambda done: done.exception())
    await asyncio.sleep(0.6)
    await start_on_each(client, queues)
    polls = [poll for queue in queues for poll in await park(nodes[1], f"{queue}-worker", queue, 1)]
    answers = await asyncio.wait_for(asyncio.gather(*(poll.answer for poll in polls)), 15)
    assert all(b'"task":{' in answer.body for answer in answers)
    client.close()


async def start_on_each(client: ClusterClient, queues: list[str]) -> None:
    """One workflow per queue."""
    for queue in queues:
        body = {"workflow_id": f"{queue}-w", "workflow_type": WORKFLOW_TYPE, "task_queue": queue, "input": []}
        reply = await client.post("/api/workflows", body)
        assert reply.status == 201, reply
