"""Two nodes, one cluster: any node serves any call, and a poll parked on one is woken by work made on the other."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.cluster.client import raw_post
from tests.cluster.events import EventWatch
from tests.cluster.harness import WORKFLOW_TYPE, Load
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

WAKE_SAMPLES = 60
WAKE_SECONDS = 0.05
LOOK_AGAIN_SECONDS = 1.0  # a busy machine may take its time, a poll that nobody woke takes longer


async def test_start_on_one_poll_on_the_other_complete_on_the_first(cluster: MakeCluster) -> None:
    nodes = cluster(2).nodes
    async with EventWatch(nodes[0].place) as watch, Load(nodes) as load:
        await load.start(60)
        await load.check(watch)
        assert not load.unanswered
        assert not load.client.trouble


async def test_a_poll_parked_on_one_node_is_woken_by_work_made_on_the_other(cluster: MakeCluster) -> None:
    first, second = cluster(2, env={"DW_WORKER_POLL_TIMEOUT": "20"}).nodes
    waits: list[float] = []
    async with Load([first, second], pollers=0, workers=1) as load:
        for number in range(WAKE_SAMPLES):
            # Queues and runs of many names, so that every combination of owners is met.
            queue = f"{load.queue}-{number}"
            worker_id = f"{queue}-worker"
            body = {"worker_id": worker_id, "task_queue": queue, "runtime": "python"}
            assert (await load.client.post("/api/worker/register", body, at=second)).status in (200, 201)
            parked = await raw_post(second, "/api/worker/workflow-tasks/poll", {"worker_id": worker_id, "task_queue": queue})
            await asyncio.sleep(0.03)
            assert not parked.answer.done()
            before = time.perf_counter()
            started = await load.client.post(
                "/api/workflows",
                {"workflow_id": f"{queue}-w", "workflow_type": WORKFLOW_TYPE, "task_queue": queue, "input": [1]},
                at=first,
            )
            assert started.status == 201, started
            answer = await asyncio.wait_for(parked.answer, 20)
            waits.append(time.perf_counter() - before)
            assert started.body["run_id"].encode() in answer.body
            parked.connection.close()
    waits.sort()
    assert waits[len(waits) // 4] < WAKE_SECONDS and waits[len(waits) // 2] < LOOK_AGAIN_SECONDS, waits
