"""A thousand tasks of three classes on real nodes: leases follow the weights (contract operations 3)."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter

import httpx
import pytest

from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

WEIGHTS = {"gold": 5, "silver": 3, "bronze": 2}
TASKS = 1_000


class Scene:
    """One queue with a backlog, and workers at every node that take from it."""

    def __init__(self, clients: list[httpx.AsyncClient]) -> None:
        self.clients = clients
        self.queue = f"fair-{secrets.token_hex(4)}"
        self.classes: dict[str, str] = {}
        self.numbers: dict[str, int] = {}

    async def start(self, key: str, number: int) -> None:
        body = {
            "workflow_type": "job",
            "task_queue": self.queue,
            "workflow_id": f"{self.queue}-{key}-{number}",
            "fairness_key": f" {key.upper()} ",
            "fairness_weight": WEIGHTS[key],
        }
        client = self.clients[number % len(self.clients)]
        answer = await client.post("/api/workflows", json=body)
        assert answer.status_code == 201, answer.text
        self.classes[answer.json()["run_id"]] = key
        self.numbers[answer.json()["run_id"]] = number

    async def take(self, workers: int) -> list[str]:
        """The runs whose tasks were leased, in the order of the leases, until there are no more."""
        got: list[str] = []

        async def work(number: int) -> None:
            client = self.clients[number % len(self.clients)]
            worker = {"worker_id": f"{self.queue}-w{number}", "task_queue": self.queue}
            answer = await client.post(
                "/api/worker/register",
                json={**worker, "runtime": "python", "supported_workflow_types": ["job"], "supported_activity_types": []},
            )
            assert answer.status_code == 201, answer.text
            while True:
                polled = await client.post("/api/worker/workflow-tasks/poll", json=worker)
                assert polled.status_code == 200, polled.text
                task = polled.json()["task"]
                if task is None:
                    return
                got.append(task["run_id"])

        await asyncio.gather(*(work(number) for number in range(workers)))
        return got


@pytest.mark.parametrize("nodes", [1, 2])
async def test_a_thousand_tasks_of_three_classes_go_out_by_their_weights(cluster: MakeCluster, nodes: int) -> None:
    made = cluster(nodes, env={"DW_WORKER_POLL_TIMEOUT": "2", "DW_WORKFLOW_TASK_TIMEOUT": "300"})
    scene = Scene([node.client() for node in made.nodes])
    for key in sorted(WEIGHTS, key=lambda key: -WEIGHTS[key]):  # the heaviest stands in front, whole
        for first in range(0, TASKS * WEIGHTS[key] // 10, 20):
            await asyncio.gather(*(scene.start(key, first + n) for n in range(20)))
    assert len(scene.classes) == TASKS
    got = await scene.take(8)
    assert len(got) == len(set(got)) == TASKS
    for count in (100, 250, 500, 900):
        counted = Counter(scene.classes[run_id] for run_id in got[:count])
        for key, weight in WEIGHTS.items():
            assert abs(counted[key] - count * weight / 10) <= count * weight / 100 + 2, (count, counted)
    for client in scene.clients:
        await client.aclose()
