"""NATS and Postgres go away and come back under load: slower or 503 meanwhile, never wrong (architecture, rule 7)."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.cluster.client import ClusterClient
from tests.cluster.events import EventWatch
from tests.cluster.faults import cut_off_commits, take_each_other_for_dead
from tests.cluster.harness import SHORT_LEASES, Load
from tests.conftest import MakeCluster
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

NATS_AWAY_SECONDS = 10.0
STOP_SECONDS = 10.0


async def test_nats_stopped_for_ten_seconds_under_load(own_services: TestServices, cluster: MakeCluster) -> None:
    nodes = cluster(2, place=own_services.deployment(), env=SHORT_LEASES).nodes
    async with Load(nodes) as load:
        starting = asyncio.create_task(load.start(280, per_second=20))
        await asyncio.sleep(2)
        own_services.nats.kill()
        gone = time.monotonic()
        await asyncio.sleep(NATS_AWAY_SECONDS)
        assert len([step for step in load.progress if step.at > gone + 2 and step.what == "activity completed"]) > 20
        await asyncio.to_thread(own_services.nats.start)
        await starting
        await load.all_closed()
        assert not load.unanswered
        assert not load.client.gave_up, load.client.gave_up
        async with EventWatch(nodes[0].place) as watch:
            await load.check(watch)


async def _restart(services: TestServices) -> None:
    await asyncio.to_thread(services.postgres.stop)
    await asyncio.sleep(2)
    await asyncio.to_thread(services.postgres.start)


async def _crash(services: TestServices) -> None:
    await asyncio.to_thread(services.postgres.kill)
    await asyncio.sleep(2)
    await asyncio.to_thread(services.postgres.start)


@pytest.mark.parametrize("outage", [_restart, _crash], ids=["restarted", "killed"])
async def test_postgres_away_under_load(
    own_services: TestServices, cluster: MakeCluster, outage: Callable[[TestServices], Awaitable[None]]
) -> None:
    """Leases are long here: one whose commit was cut off, so that nobody has it, must not have to run out."""
    nodes = cluster(2, place=own_services.deployment()).nodes
    async with EventWatch(nodes[0].place) as watch, Load(nodes, activity_seconds=0.1, persistent=True) as load:
        starting = asyncio.create_task(load.start(120, per_second=25))
        await asyncio.sleep(2)
        away = asyncio.ensure_future(outage(own_services))
        refused = await _refusals(nodes[0], away)
        await away
        back = time.monotonic()
        await starting
        await load.start(50, per_second=25)
        await load.all_closed(30)
        await load.check(watch)
        assert refused, "nobody noticed that Postgres was away"
        assert all(answer == (503, "service_unavailable", b"1") for answer in refused), set(refused)
        assert load.progress_of(load.acknowledged.values(), back)
        assert len(load.acknowledged) > 80


async def _refusals(node: ServerProcess, away: asyncio.Future[None]) -> list[tuple[int, str, bytes]]:
    """Status, reason and retry hint of the starts that were refused while Postgres was away."""
    refused = []
    async with node.client() as client:
        while not away.done():
            body = {"workflow_type": "cluster.other", "task_queue": "nobody", "input": []}
            answer = await client.post("/api/workflows", json=body)
            if answer.status_code != 201:
                refused.append((answer.status_code, answer.json()["reason"], answer.headers.get("Retry-After", "").encode()))
            await asyncio.sleep(0.1)
    return refused


class Storm:
    """Everything that can happen to two services and some nodes short of losing them, again and again."""

    def __init__(self, services: TestServices, nodes: list[ServerProcess], connection: asyncpg.Connection) -> None:
        self._services = services
        self._nodes = nodes
        self._connection = connection
        self._chance = random.Random(4)

    async def blow(self) -> None:
        """Something, after a moment."""
        chance = self._chance
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        if chance.random() < 0.5:
            await take_each_other_for_dead(self._connection)
        if chance.random() < 0.5:
            await cut_off_commits(self._connection)
        if chance.random() < 0.15:
            await self.nats_is_killed()
        if chance.random() < 0.15:
            await self.a_node_hangs()

    async def nats_is_killed(self) -> None:
        self._services.nats.kill()
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        await asyncio.to_thread(self._services.nats.start)

    async def a_node_hangs(self) -> None:
        """Longer than its lease, mostly."""
        node = self._chance.choice(self._nodes)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(1, 4.5))
        node.signal(signal.SIGCONT)


async def test_a_storm_leaves_no_lease_that_nobody_has(own_services: TestServices, cluster: MakeCluster) -> None:
    """Leases are long here, too: a task leased to nobody would wait for a minute."""
    place = own_services.deployment()
    nodes = cluster(3, place=place).nodes
    async with EventWatch(place) as watch, Load(nodes, workers=3, activity_seconds=0.05, persistent=True) as load:
        starting = asyncio.create_task(load.start(500, per_second=40))
        connection = await asyncpg.connect(place.dsn)
        storm = Storm(own_services, nodes, connection)
        while not starting.done():
            await storm.blow()
        await starting
        await connection.close()
        await load.all_closed(30)
        await load.check(watch)
        assert len(load.acknowledged) > 400


async def test_a_node_starts_and_stops_while_its_services_are_away(own_services: TestServices, tmp_path: Path) -> None:
    """It serves when Postgres is there, and leaves in time when Postgres and NATS are gone."""
    place = own_services.deployment()
    await asyncio.to_thread(own_services.postgres.stop)
    server = ServerProcess(place, tmp_path)
    try:
        server.start(wait=False)
        client = ClusterClient([server])
        async with asyncio.timeout(20):
            while True:
                if (await client.get("/api/workflows")).status == 503:
                    break
                await asyncio.sleep(0.1)
        await asyncio.to_thread(own_services.postgres.start)
        await server.ready()
        async with Load([server]) as load:
            await load.start(5)
            await load.all_closed()
            assert not load.unanswered
        client.close()
        await asyncio.to_thread(own_services.postgres.stop)
        await asyncio.to_thread(own_services.nats.stop)
        began = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        assert time.monotonic() - began < STOP_SECONDS
        assert "did not stop" not in server.log_tail(200)
    finally:
        server.stop()
