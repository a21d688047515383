"""Fixtures that several modules of this folder use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bus.ask import Ask
from bus.connection import Bus
from tests.cluster.asking import MakeAsk
from tests.support.defaults import make_bus_options
from tests.support.services import TestServices


@pytest.fixture
async def make(services: TestServices) -> AsyncIterator[MakeAsk]:
    place = services.deployment()
    buses: list[Bus] = []

    async def make_ask(node_id: str) -> tuple[Bus, Ask]:
        bus = Bus(make_bus_options(servers=(place.nats_url,), prefix=place.prefix), node_id)
        buses.append(bus)
        ask = Ask(bus)
        await bus.start()
        assert await bus.wait_connected(20)
        return bus, ask

    yield make_ask
    for bus in buses:
        await bus.stop()
