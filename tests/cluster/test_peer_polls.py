"""Polls whose queue another node hosts: which tasks they get there, and never two."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import asyncpg
import orjson
import pytest

from actors.run import ids
from tests.cluster.client import ClusterClient, Raw, raw_post
from tests.cluster.harness import WORKFLOW_TYPE
from tests.cluster.parking import LONG_POLLS, park, register, shares
from tests.conftest import MakeCluster
from tests.support.server import Cluster, ServerProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

SHARDS = 64


class Placed:
    """Two nodes with all shards placed, and names that belong to the one or the other."""

    def __init__(self, cluster: Cluster, holders: dict[int, str]) -> None:
        self.nodes = cluster.nodes
        self.place = cluster.place
        self._holders = holders
        self._numbers = itertools.count()

    def name(self, node: ServerProcess, word: str) -> str:
        """A fresh name of a queue or workflow that this node hosts."""
        while True:
            name = f"{word}-{next(self._numbers)}"
            if self._holders[ids.shard_of("default", name, SHARDS)] == node.node_id:
                return name

    async def versions(self) -> dict[str, int]:
        """How often each run was committed, by workflow id."""
        connection = await asyncpg.connect(self.place.dsn)
        try:
            rows = await connection.fetch("SELECT workflow_id, version FROM runs")
        finally:
            await connection.close()
        return {row["workflow_id"]: row["version"] for row in rows}


async def placed(make: MakeCluster) -> Placed:
    """Two nodes, once each has its share of the shards."""
    cluster = make(2, env=LONG_POLLS)
    held = await shares(cluster.place, 2, SHARDS // 4 + 1)
    holders = {shard: node_id for node_id, shards in held.items() for shard in shards}
    await asyncio.sleep(1.5)  # both have heard of it by their next heartbeats
    return Placed(cluster, holders)


async def start(client: ClusterClient, at: ServerProcess, workflow_id: str, queue: str) -> str:
    """Start a workflow; its run id."""
    body = {"workflow_id": workflow_id, "workflow_type": WORKFLOW_TYPE, "task_queue": queue, "input": [1]}
    reply = await client.post("/api/workflows", body, at=at)
    assert reply.status == 201, reply
    return str(reply.body["run_id"])


async def task_of(poll: Raw) -> dict[str, object]:
    """What a poll got."""
    answer = await asyncio.wait_for(poll.answer, 25)
    assert answer.status == 200
    task = orjson.loads(answer.body)["task"]
    assert task is not None
    return dict(task)


def close(polls: Iterator[Raw] | list[Raw]) -> None:
    for poll in polls:
        poll.connection.close()


async def test_a_task_of_the_queues_host_is_leased_by_the_commit_that_makes_it(cluster: MakeCluster) -> None:
    """One commit starts the run and leases its task to a poll of another node; tasks of other runs need two."""
    scene = await placed(cluster)
    near, far = scene.nodes
    client = ClusterClient(scene.nodes)
    for run_node, commits in ((far, 1), (near, 2)):
        queue, workflow_id = scene.name(far, "queue"), scene.name(run_node, "workflow")
        worker_id = await register(client, queue, near)
        polls = await park(near, worker_id, queue, 1)
        await asyncio.sleep(0.5)
        run_id = await start(client, near, workflow_id, queue)
        task = await task_of(polls[0])
        assert (task["run_id"], task["workflow_task_attempt"]) == (run_id, 1)
        assert (await scene.versions())[workflow_id] == commits
        close(polls)
    client.close()


async def test_a_repeated_poll_gets_the_same_lease_wherever_it_comes(cluster: MakeCluster) -> None:
    scene = await placed(cluster)
    near, far = scene.nodes
    client = ClusterClient(scene.nodes)
    for run_node in (near, far):
        queue, workflow_id = scene.name(far, "queue"), scene.name(run_node, "workflow")
        worker_id = await register(client, queue, near)
        body = {"worker_id": worker_id, "task_queue": queue, "poll_request_id": f"poll of {queue}"}
        first = await raw_post(near, "/api/worker/workflow-tasks/poll", body)
        await asyncio.sleep(0.5)
        waiting = await raw_post(far, "/api/worker/workflow-tasks/poll", body)  # while the first one waits
        await asyncio.sleep(0.2)
        await start(client, near, workflow_id, queue)
        task = await task_of(first)
        later = [await raw_post(node, "/api/worker/workflow-tasks/poll", body) for node in (far, near)]
        for repeated in (waiting, *later):
            again = await task_of(repeated)
            assert (again["task_id"], again["workflow_task_attempt"]) == (task["task_id"], task["workflow_task_attempt"])
        close([first, waiting, *later])
    client.close()


async def test_tasks_and_polls_of_both_nodes_meet_once_each(cluster: MakeCluster) -> None:
    """As many polls as tasks, made on both nodes at once: every poll gets a task, every task its first attempt."""
    scene = await placed(cluster)
    client = ClusterClient(scene.nodes)
    queues = [scene.name(node, "queue") for node in scene.nodes for _ in range(3)]
    polls: list[Raw] = []
    for queue in queues:
        worker_id = await register(client, queue, scene.nodes[0])
        for node in scene.nodes:
            polls += await park(node, worker_id, queue, 20)
    await asyncio.sleep(0.5)
    starts = [
        start(client, started_at, scene.name(run_node, "workflow"), queue)
        for queue in queues
        for run_node in scene.nodes
        for started_at in scene.nodes
        for _ in range(10)
    ]
    run_ids = await asyncio.gather(*starts)
    tasks = await asyncio.gather(*(task_of(poll) for poll in polls))
    assert sorted(str(task["run_id"]) for task in tasks) == sorted(run_ids)
    assert {task["workflow_task_attempt"] for task in tasks} == {1}
    close(polls)
    client.close()


async def test_polls_of_a_queue_that_moves_get_their_tasks(cluster: MakeCluster) -> None:
    """A third node joins and takes its share of queues while polls wait and tasks come."""
    made = cluster(2, env=LONG_POLLS)
    client = ClusterClient(made.nodes)
    queues = [f"moving-{number}" for number in range(24)]
    polls: list[Raw] = []
    for queue in queues:
        worker_id = await register(client, queue, made.nodes[0])
        for node in made.nodes:
            polls += await park(node, worker_id, queue, 2)
    joining = made.add(wait=False)
    run_ids: list[str] = []
    for turn in range(4):
        for number, queue in enumerate(queues):
            at = made.nodes[(turn + number) % 2]
            run_ids.append(await start(client, at, f"{queue}-{turn}", queue))
        await asyncio.sleep(0.7)
    await asyncio.to_thread(joining.wait_ready)
    tasks = await asyncio.gather(*(task_of(poll) for poll in polls))
    assert sorted(str(task["run_id"]) for task in tasks) == sorted(run_ids)
    close(polls)
    client.close()
