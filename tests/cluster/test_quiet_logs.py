"""What a node writes to its log when it stops, and when a service goes away and comes back: a line for each, and no stack."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.cluster.harness import SHORT_LEASES, Load
from tests.conftest import MakeCluster
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

ENV = {**SHORT_LEASES, "PYTHONWARNINGS": "always::RuntimeWarning"}
NOISE = ("Traceback", "never retrieved", "never awaited", "has no attribute", " ERROR ", "Warning:")
GONE = "is gone"
HEARD = "heard"  # of other nodes: that they are not, or are again


class Log:
    """What a node writes from now on."""

    def __init__(self, node: ServerProcess) -> None:
        self._file = node.log_file
        self._begin = node.log_file.stat().st_size

    def lines(self) -> list[str]:
        """All of it but what is said of other nodes."""
        text = self._file.read_bytes()[self._begin :].decode()
        assert not [noise for noise in NOISE if noise in text], text
        return [line for line in text.splitlines() if GONE not in line and HEARD not in line]

    def says(self, *words: str) -> None:
        """One line with each of these words, in this order, and no other."""
        lines = self.lines()
        assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines, strict=True)), lines

    async def wait(self, word: str, seconds: float = 30.0) -> None:
        """Until a line has this word."""
        async with asyncio.timeout(seconds):
            while not any(word in line for line in self.lines()):
                await asyncio.sleep(0.05)


async def nothing(_services: TestServices) -> None:
    pass


async def without_nats(services: TestServices) -> None:
    services.nats.kill()


async def without_postgres(services: TestServices) -> None:
    await asyncio.to_thread(services.postgres.stop, immediately=True)


@pytest.mark.parametrize("seconds", [0.05, 1.5, 4.0])
@pytest.mark.parametrize(
    ("away", "said"),
    [(nothing, ()), (without_nats, ("NATS lost",)), (without_postgres, ("Postgres does not answer",))],
    ids=["all there", "NATS away", "Postgres away"],
)
async def test_a_stop_under_load_logs_one_line(
    own_services: TestServices,
    cluster: MakeCluster,
    away: Callable[[TestServices], Awaitable[None]],
    said: tuple[str, ...],
    seconds: float,
) -> None:
    nodes = cluster(2, place=own_services.deployment(), env=ENV).nodes
    async with Load(nodes, activity_seconds=0.1) as load:
        starting = asyncio.create_task(load.start(500, per_second=40))
        await asyncio.sleep(2)
        logs = [Log(node) for node in nodes]
        await away(own_services)
        await asyncio.sleep(seconds)
        for node in nodes:
            node.signal(signal.SIGTERM)
        for node in nodes:
            assert await asyncio.to_thread(node.wait, 30) == 0
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    for log in logs:
        log.says(*said, "stopped")


@pytest.mark.parametrize("seconds", [2.3, 2.8, 3.3])
async def test_a_stop_in_the_middle_of_a_takeover_logs_one_line(cluster: MakeCluster, seconds: float) -> None:
    nodes = cluster(3, env=ENV).nodes
    async with Load(nodes, activity_seconds=0.1) as load:
        starting = asyncio.create_task(load.start(500, per_second=40))
        await asyncio.sleep(2)
        logs = [Log(node) for node in nodes[:2]]
        nodes[2].kill()
        await asyncio.sleep(seconds)
        for node in nodes[:2]:
            node.signal(signal.SIGTERM)
        for node in nodes[:2]:
            assert await asyncio.to_thread(node.wait, 30) == 0
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    for log in logs:
        log.says("stopped")


@pytest.mark.parametrize("seconds", [0.2, 5.0])
async def test_an_outage_logs_when_it_begins_and_when_it_ends(
    own_services: TestServices, cluster: MakeCluster, seconds: float
) -> None:
    nodes = cluster(2, place=own_services.deployment(), env=ENV).nodes
    async with Load(nodes, activity_seconds=0.1, persistent=True) as load:
        starting = asyncio.create_task(load.start(800, per_second=30))
        await asyncio.sleep(2)
        logs = [Log(node) for node in nodes]
        own_services.nats.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(own_services.nats.start)
        for log in logs:
            await log.wait("connected to NATS")
        await asyncio.sleep(2)
        await asyncio.to_thread(own_services.postgres.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(own_services.postgres.start)
        for log in logs:
            await log.wait("answers again")
        await asyncio.sleep(4)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await load.all_closed()
    for log in logs:
        log.says("connection to NATS lost", "connected to NATS", "Postgres does not answer", "Postgres answers again")


async def test_a_frozen_node_thaws_without_a_stack(cluster: MakeCluster) -> None:
    """Everything it waited for has ended meanwhile, and most of those who waited have left."""
    nodes = cluster(2, env=ENV).nodes
    async with Load(nodes, activity_seconds=0.05) as load:
        starting = asyncio.create_task(load.start(600, per_second=40))
        logs = [Log(node) for node in nodes]
        for _ in range(2):
            await asyncio.sleep(2)
            nodes[0].signal(signal.SIGSTOP)
            await asyncio.sleep(5)
            nodes[0].signal(signal.SIGCONT)
        await asyncio.sleep(2)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    for log in logs:
        log.lines()
