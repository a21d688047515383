"""Views of task queues over two nodes: rates are those of both, leases those of all runs, whoever is asked."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

COUNT = 24


async def test_every_node_shows_what_all_nodes_did(cluster: MakeCluster) -> None:
    made = cluster(2)
    queue = f"seen-{secrets.token_hex(4)}"
    one, two = (node.client() for node in made.nodes)
    worker = {"worker_id": f"{queue}-w", "task_queue": queue}
    register = {**worker, "runtime": "python", "supported_workflow_types": ["job"]}
    assert (await one.post("/api/worker/register", json=register)).status_code == 201
    for number in range(COUNT):
        body = {"workflow_type": "job", "task_queue": queue, "workflow_id": f"{queue}-{number}"}
        assert (await (one, two)[number % 2].post("/api/workflows", json=body)).status_code == 201
    for number in range(COUNT // 2):
        polled = await (one, two)[number % 2].post("/api/worker/workflow-tasks/poll", json=worker)
        assert polled.json()["task"] is not None
    await asyncio.sleep(1.1)  # what is shown of leases may be a second old
    for client in (one, two):
        shown = (await client.get(f"/api/task-queues/{queue}")).json()
        assert shown["stats"]["workflow_tasks"] == {
            "ready_count": COUNT // 2,
            "leased_count": COUNT // 2,
            "expired_lease_count": 0,
            "added_last_minute": COUNT,
            "dispatched_last_minute": COUNT // 2,
        }
    made.nodes[1].kill()
    await asyncio.sleep(1.1)
    shown = (await one.get(f"/api/task-queues/{queue}")).json()
    assert shown["stats"]["workflow_tasks"]["leased_count"] == COUNT // 2  # counters are gone with a node, leases are not
    await one.aclose()
    await two.aclose()
