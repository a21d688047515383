"""Real NATS and buses on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bus.connection import Bus, BusOptions
from tests.bus.nats_server import NatsServer
from tests.support.defaults import make_bus_options

MakeBus = Callable[..., Awaitable[Bus]]


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A running server."""
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def make_bus(nats: NatsServer) -> AsyncIterator[MakeBus]:
    """`await make_bus("node-id")`: a started bus, connected unless `connected=False`."""
    made: list[Bus] = []

    async def make(node_id: str, *, connected: bool = True, options: BusOptions | None = None) -> Bus:
        bus = Bus(options or make_bus_options(servers=(nats.url,)), node_id)
        made.append(bus)
        await bus.start()
        if connected:
            assert await bus.wait_connected(5), bus.last_error
        return bus

    yield make
    for bus in made:
        await bus.stop()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, fail the test after the time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)
