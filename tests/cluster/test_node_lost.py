"""Nodes join, leave and die under load: nothing acknowledged is lost, nothing is applied twice, the event stream has no gap."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from actors.run import ids
from tests.cluster.events import EventWatch
from tests.cluster.harness import SHORT_LEASES, Load
from tests.cluster.parking import (
    shards_by_node,
    shares,
)
from tests.conftest import MakeCluster
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

RESUME_SECONDS = 10.0


async def test_a_node_joins_and_another_leaves_while_work_goes_on(cluster: MakeCluster) -> None:
    made = cluster(2, env=SHORT_LEASES)
    nodes = made.nodes
    await shares(made.place, 2, 20)
    async with EventWatch(made.place) as watch, Load(nodes) as load:
        starting = asyncio.create_task(load.start(240, per_second=40))
        await asyncio.sleep(1)
        third = await asyncio.to_thread(made.add)
        load.client.nodes.append(third)
        await shares(made.place, 3, 14)
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(nodes[0].stop) == 0
        await shares(made.place, 2, 20)
        await starting
        await load.check(watch)
        assert not load.unanswered
        assert not load.client.gave_up, load.client.gave_up


async def test_kill_of_a_node_with_200_workflows_in_flight(cluster: MakeCluster) -> None:
    made = cluster(2, env=SHORT_LEASES)
    survivor, victim = made.nodes
    held = await shares(made.place, 2, 20)
    async with EventWatch(made.place) as watch, Load(made.nodes, pollers=10, activity_seconds=0.3) as load:
        await load.start(200)
        victim.kill()
        killed = time.monotonic()
        dead = [run for run in load.acknowledged.values() if ids.shard_of_id(run) in held[victim.node_id]]
        open_then = set(dead) - {step.run_id for step in load.progress if step.what == "workflow task completed"}
        await load.check(watch)
        assert not load.unanswered
        assert len(dead) > 40 and len(open_then) > 10, (len(dead), len(open_then))
        first = min(step.at for step in load.progress_of(dead, killed))
        assert first - killed < RESUME_SECONDS
        assert (await shards_by_node(made.place)).keys() == {survivor.node_id}


async def test_kill_and_restart_of_a_node_before_its_lease_ends(cluster: MakeCluster) -> None:
    """The others notice that a new process bears the name: nothing waits for answers of the old one."""
    made = cluster(2, env={**SHORT_LEASES, "DW_WORKER_POLL_TIMEOUT": "60"})
    await shares(made.place, 2, 20)
    async with EventWatch(made.place) as watch, Load(made.nodes, pollers=4) as load:
        await load.start(40)
        await load.all_closed()
        made[1].kill()
        await asyncio.to_thread(made[1].start)
        begun = time.monotonic()
        await load.start(40)
        await load.check(watch)
        assert time.monotonic() - begun < 40


async def test_kill_and_restart_of_the_only_node(services: TestServices, tmp_path: Path) -> None:
    server = ServerProcess(services.deployment(), tmp_path, env=SHORT_LEASES)
    try:
        server.start()
        async with EventWatch(server.place) as watch, Load([server], activity_seconds=0.05) as load:
            for _ in range(2):
                enough = len(load.acknowledged) + 30
                starting = asyncio.create_task(load.start(60, per_second=60))
                while len(load.acknowledged) < enough and not starting.done():
                    await asyncio.sleep(0.01)
                server.kill()
                await asyncio.to_thread(server.start)
                await starting
            await load.check(watch)
            assert len(load.acknowledged) >= 60
    finally:
        server.stop()
