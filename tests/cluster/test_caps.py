"""Caps of task queues, on live nodes: what is leased never passes them, and everything gets done (operations 2.3, 2.4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.cluster.caps import LeaseWatch
from tests.cluster.client import ClusterClient
from tests.cluster.harness import SHORT_LEASES, WORKFLOW_TYPE, Load
from tests.cluster.parking import register, shares
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]


async def test_leases_of_a_queue_never_pass_its_caps(cluster: MakeCluster) -> None:
    caps = {"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "3", "DW_ACTIVITY_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "2"}
    made = cluster(1, env=SHORT_LEASES | caps)
    async with LeaseWatch(made.place) as watch, Load(made.nodes, pollers=8, activity_seconds=0.02) as load:
        await load.start(60)
        await load.all_closed()
        await load.histories()
        assert watch.most["default", load.queue, "workflow"] <= 3
        assert watch.most["default", load.queue, "activity"] == 2
        assert not watch.wrong
        await watch.look()
        assert not watch.leased_places
        assert not load.client.trouble, load.client.trouble


EVERY_LEASE_CAP = {
    "DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "4",
    "DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_NAMESPACE": "5",
    "DW_ACTIVITY_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "4",
    "DW_ACTIVITY_TASK_MAX_ACTIVE_LEASES_PER_NAMESPACE": "6",
}


async def test_caps_hold_with_three_nodes_200_pollers_and_a_killed_node(cluster: MakeCluster) -> None:
    """Queues under a cap each and one together, on nodes that host some each: never more live leases than a cap."""
    made = cluster(3, env=SHORT_LEASES | EVERY_LEASE_CAP)
    await shares(made.place, 3, 14)
    async with LeaseWatch(made.place) as watch, contextlib.AsyncExitStack() as stack:
        # Two kinds of polls, two workers, four queues: 208 polls.
        loads = [await stack.enter_async_context(Load(made.nodes, pollers=13, activity_seconds=0.02)) for _ in range(4)]
        began = time.monotonic()
        starting = [asyncio.create_task(load.start(100, per_second=40)) for load in loads]
        await asyncio.sleep(1.0)
        made.nodes[0].kill()
        for load in loads:
            load.client.nodes.remove(made.nodes[0])
        await asyncio.gather(*starting)
        await loads[0].all_closed(120)
        took = time.monotonic() - began
        for load in loads:
            await load.histories()
            for kind in ("workflow", "activity"):
                assert watch.most["default", load.queue, kind] <= 4
        assert watch.most_of_kind["default", "workflow"] <= 5
        assert watch.most_of_kind["default", "activity"] == 6
        assert not watch.wrong, watch.wrong[:3]
        assert watch.looks > 100
        await watch.look()
        assert not watch.leased_places, "a dead node's places are free once the leases have ended"
        print(f"{took:.1f} s, {watch.looks} looks, most {dict(watch.most_of_kind)}")


async def test_over_a_cap_polls_wait_and_the_next_free_place_is_theirs_at_once(cluster: MakeCluster) -> None:
    made = cluster(1, env=SHORT_LEASES | {"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "1"})
    client = ClusterClient(made.nodes)
    worker = await register(client, "one", made.nodes[0])

    async def start(name: str) -> None:
        body = {"workflow_id": name, "workflow_type": WORKFLOW_TYPE, "task_queue": "one"}
        assert (await client.post("/api/workflows", body)).status == 201

    async def poll() -> Any:
        reply = await client.post("/api/worker/workflow-tasks/poll", {"worker_id": worker, "task_queue": "one"})
        assert reply.status == 200
        return reply.body["task"]

    async with LeaseWatch(made.place) as watch:
        parked = asyncio.create_task(poll())
        await asyncio.sleep(0.2)
        await start("first")
        first = await parked
        assert first is not None, "leased in the commit of the start"
        await start("second")
        began = time.monotonic()
        assert await poll() is None
        assert time.monotonic() - began > 1.5, "it waited for its time"
        parked = asyncio.create_task(poll())
        await asyncio.sleep(0.3)
        body = {"lease_owner": first["lease_owner"], "workflow_task_attempt": first["workflow_task_attempt"]}
        done = {**body, "commands": [{"type": "complete_workflow", "result": None}]}
        reply = await client.post(f"/api/worker/workflow-tasks/{first['task_id']}/complete", done)
        assert reply.status == 200
        second = await parked
        assert second is not None and second["workflow_id"] == "second"
        assert await poll() is None
        # Its worker is lost: the place comes back with the end of the lease.
        found = None
        while found is None:
            found = await poll()
        assert (found["workflow_id"], found["workflow_task_attempt"]) == ("second", 2)
        assert watch.most["default", "one", "workflow"] == 1 and not watch.wrong
    client.close()


async def test_no_more_is_dispatched_in_a_minute_than_its_budgets(cluster: MakeCluster) -> None:
    """A budget per queue, one for a group of two queues, two nodes, and the minute turns twice meanwhile."""
    group = {"dispatch_budget_group": "psp", "max_dispatches_per_minute_per_budget_group": 8}
    env = {
        "DW_WORKFLOW_TASK_MAX_DISPATCHES_PER_MINUTE": "12",
        "DW_TASK_QUEUE_ADMISSION_OVERRIDES": json.dumps({"*": {"activity_tasks": group}}),
    }
    made = cluster(2, env=SHORT_LEASES | env)
    await shares(made.place, 2, 20)
    spent: dict[str, int] = {}
    async with contextlib.AsyncExitStack() as stack:
        watch = await stack.enter_async_context(LeaseWatch(made.place))
        loads = [await stack.enter_async_context(Load(made.nodes)) for _ in range(2)]
        await asyncio.gather(*[load.start(10) for load in loads])
        closing = asyncio.create_task(loads[0].all_closed(300))
        while not closing.done():
            await asyncio.sleep(0.1)
            counts = Counter(place.scope for place in watch.places if not place.ends)
            spent = {scope: max(spent.get(scope, 0), counts[scope]) for scope in spent.keys() | counts.keys()}
        await closing
        for load in loads:
            await load.histories()
    queues = [count for scope, count in spent.items() if ".q.workflow." in scope]
    groups = [count for scope, count in spent.items() if ".g.activity." in scope]
    assert max(queues) == 12 and sum(queues) == 40, spent
    assert max(groups) == 8 and sum(groups) == 20, spent
