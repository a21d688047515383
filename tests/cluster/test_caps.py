"""Caps of task queues, on live nodes: what is leased never passes them, and everything gets done (operations 2.3, 2.4)."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.cluster.caps import LeaseWatch
from tests.cluster.harness import SHORT_LEASES, Load
from tests.cluster.parking import shares
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


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


@pytest.mark.proof
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
