"""Cluster and task queues as the SDK guide shows them: list and describe, with backlog, pollers and leases."""

from __future__ import annotations

import asyncio

import pytest
from durable_workflow import TaskQueueDescription, activity, workflow

from tests.sdk.harness import SdkHarness

pytestmark = pytest.mark.sdk

entered = asyncio.Event()
leave = asyncio.Event()


@activity.defn(name="queue-held")
async def held() -> str:
    entered.set()
    await leave.wait()
    return "done"


@workflow.defn(name="queue-view")
class View:
    def run(self, ctx):  # type: ignore[no-untyped-def]
        return (yield ctx.schedule_activity("queue-held", []))


async def described(scene: SdkHarness, name: str) -> TaskQueueDescription:
    found = await scene.client.describe_task_queue(name)
    assert found.name == name and found.stats is not None
    return found


async def test_a_queue_shows_its_backlog_its_workers_and_what_they_hold(scene: SdkHarness) -> None:
    empty = await described(scene, f"{scene.queue}/none")
    assert empty.stats is not None and empty.stats["approximate_backlog_count"] == 0 and empty.pollers == []

    handle = await scene.start("queue-view", priority=1, fairness_key="tenant-a", fairness_weight=5)
    waiting = await described(scene, scene.queue)
    assert waiting.stats is not None
    assert waiting.stats["workflow_tasks"]["ready_count"] == 1
    assert waiting.stats["oldest_ready_task"]["workflow_id"] == handle.workflow_id

    await scene.work([View], [held])
    await asyncio.wait_for(entered.wait(), 60)
    await asyncio.sleep(1.1)  # what is shown of leases may be a second old
    busy = await described(scene, scene.queue)
    assert busy.current_leases is not None and busy.pollers is not None and busy.stats is not None
    (lease,) = busy.current_leases
    (poller,) = busy.pollers
    assert (lease["task_type"], lease["workflow_id"]) == ("activity", handle.workflow_id)
    assert lease["lease_owner"] == poller["worker_id"] and poller["supported_activity_types"] == ["queue-held"]
    assert busy.stats["tasks_dispatched_last_minute"] >= 2

    listed = await scene.client.list_task_queues()
    assert scene.queue in [queue.name for queue in listed.task_queues]
    leave.set()
    assert await handle.result(timeout=60) == "done"
