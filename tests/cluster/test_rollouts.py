"""Build ids on two nodes: what was answered holds on both, while workflows run and nodes freeze or die (operations 4.5)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from typing import Any

import orjson
import pytest

from actors.workers.rollouts import KNOWN_SECONDS
from tests.cluster.client import ClusterClient, raw_post
from tests.cluster.fleet import Fleet
from tests.cluster.harness import SHORT_LEASES
from tests.conftest import MakeCluster
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

POLLS = {"DW_WORKER_POLL_TIMEOUT": "2"}
LATE_SECONDS = 2.0  # how long an answer that was on its way may take to this process


class Queue:
    """One task queue, told to a node of one's choice."""

    def __init__(self, client: ClusterClient, name: str) -> None:
        self.client = client
        self.name = name

    async def post(self, path: str, at: ServerProcess, **body: Any) -> dict[str, Any]:
        reply = await self.client.post(path, body, at=at)
        assert reply.status in (200, 201), reply
        return reply.body

    async def change(self, operation: str, build_id: str, at: ServerProcess) -> None:
        await self.post(f"/api/task-queues/{self.name}/build-ids/{operation}", at, build_id=build_id)

    async def start(self, workflow_id: str, at: ServerProcess) -> Any:
        """Start a workflow; its build marker."""
        await self.post("/api/workflows", at, workflow_id=workflow_id, workflow_type="t", task_queue=self.name)
        return (await self.client.get(f"/api/workflows/{workflow_id}")).body["compatibility"]

    async def worker(self, build_id: str, at: ServerProcess) -> dict[str, Any]:
        """Register a worker; the body of its polls."""
        body = {"worker_id": f"{self.name}-{build_id}", "task_queue": self.name}
        await self.post("/api/worker/register", at, runtime="python", build_id=build_id, **body)
        return body


async def test_what_was_answered_holds_at_the_other_node(cluster: MakeCluster) -> None:
    made = cluster(2, env=POLLS)
    one, two = made.nodes
    client = ClusterClient(made.nodes)
    queue = Queue(client, "known")
    for number in range(30):
        build_id = f"v{number}"
        await queue.change("promote", build_id, made.nodes[number % 2])
        starts = [queue.start(f"w-{number}-{k}", made.nodes[(number + k) % 2]) for k in range(4)]
        assert await asyncio.gather(*starts) == [build_id] * 4
    drained = Queue(client, "drained")
    poll = await drained.worker("old", one)
    other = await drained.worker("new", one)
    path = "/api/worker/workflow-tasks/poll"
    for number in range(3):
        held = [await raw_post(node, path, poll) for node in (one, two) for _ in range(5)]
        await asyncio.sleep(0.3)
        await drained.change("drain", "old", made.nodes[number % 2])
        late = [await raw_post(node, path, poll) for node in (one, two)]
        await drained.start(f"d-{number}", one)
        answers = [orjson.loads((await each.answer).body) for each in [*held, *late]]
        assert [answer["task"] for answer in answers] == [None] * 12
        assert [answer.get("poll_status") for answer in answers] == ["draining"] * 12
        for each in [*held, *late]:
            each.connection.close()
        assert (await drained.post(path, two, **other))["task"]["workflow_id"] == f"d-{number}"
        waiting = await raw_post(two, path, poll)
        await asyncio.sleep(0.2)
        await drained.change("resume", "old", one)
        await drained.start(f"r-{number}", one)
        assert orjson.loads((await waiting.answer).body)["task"]["workflow_id"] == f"r-{number}"
        waiting.connection.close()
    client.close()


async def test_a_node_that_was_frozen_meanwhile(cluster: MakeCluster) -> None:
    """It is not waited for long, and goes by nothing old when it wakes up."""
    made = cluster(2, env=POLLS)
    one, two = made.nodes
    client = ClusterClient(made.nodes)
    queue = Queue(client, "frozen")
    poll = await queue.worker("old", one)
    await queue.worker("new", one)
    held = [await raw_post(two, "/api/worker/workflow-tasks/poll", poll) for _ in range(3)]
    await asyncio.sleep(0.3)
    two.signal(signal.SIGSTOP)
    try:
        before = time.monotonic()
        await queue.change("drain", "old", one)
        await queue.change("promote", "new", one)
        assert time.monotonic() - before < 2 * KNOWN_SECONDS + 6
        assert await asyncio.wait_for(queue.start("w-1", one), 60) == "new"
    finally:
        two.signal(signal.SIGCONT)
    assert await queue.start("w-2", two) == "new"
    for each in held:
        assert orjson.loads((await each.answer).body)["task"] is None
        each.connection.close()
    answer = await queue.post("/api/worker/workflow-tasks/poll", two, **poll)
    assert (answer["task"], answer["poll_status"]) == (None, "draining")
    client.close()


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
async def test_a_rollout_while_workflows_run(cluster: MakeCluster, killed: bool) -> None:
    """Promote the new build, drain the old one, resume it: no task lost, none on a drained build, each start marked right."""
    made = cluster(2, env={**POLLS, **SHORT_LEASES})
    async with Fleet(made.nodes, ["v1", "v2"]) as fleet:
        await fleet.change("promote", "v1")
        starts = asyncio.create_task(fleet.begin(200, per_second=20))
        await asyncio.sleep(2)
        promoting, promoted = await fleet.change("promote", "v2")
        if killed:
            made.nodes[1].kill()
        _, drained = await fleet.change("drain", "v1", at=made.nodes[0])
        await asyncio.sleep(4)
        if killed:
            made.nodes[1].start(wait=False)
            await made.nodes[1].ready()
        resuming, _ = await fleet.change("resume", "v1")
        await starts
        await fleet.all_closed()
        await fleet.histories()
        markers = await fleet.markers()

    marked = Counter(markers.values())
    assert set(marked) == {"v1", "v2"} and sum(marked.values()) == 200, marked
    for begun in fleet.begun.values():
        if begun.sent > promoted:
            assert markers[begun.run_id] == "v2", begun
        elif begun.answered < promoting:
            assert markers[begun.run_id] == "v1", begun
    for taken in fleet.taken:
        assert taken.build_id == markers[taken.run_id], taken
        assert taken.marker in (None, taken.build_id), taken
        if taken.build_id == "v1":
            assert not drained < taken.sent < taken.received < resuming, taken
            assert not drained + LATE_SECONDS < taken.received < resuming, taken


async def test_unmarked_work_leaves_a_drained_build(cluster: MakeCluster) -> None:
    """Both builds may take it, and do, but while one drains; drained and resumed again and again, nothing is lost."""
    made = cluster(2, env={**POLLS, **SHORT_LEASES})
    drained: list[tuple[float, float]] = []
    async with Fleet(made.nodes, ["v1", "v2"]) as fleet:
        starts = asyncio.create_task(fleet.begin(200, per_second=15))
        while not starts.done():
            _, begun = await fleet.change("drain", "v1")
            await asyncio.sleep(1.0)
            ended, _ = await fleet.change("resume", "v1")
            drained.append((begun, ended))
            await asyncio.sleep(0.5)
        await starts
        await fleet.all_closed()
        await fleet.histories()
    assert {taken.build_id for taken in fleet.taken} == {"v1", "v2"}
    for begun, ended in drained:
        for taken in fleet.taken:
            assert not (taken.build_id == "v1" and begun < taken.sent and taken.received < ended), taken
