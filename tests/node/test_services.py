"""Every service of a node keeps the contract of `base.service`, on a real database and a real NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from actors.clock import Clock
from base.observability.metrics import NO_METRICS
from base.service import Service
from node.config import Config
from node.schema_watch import SchemaWatch
from node.wiring import Parts
from store.errors import StoreError
from tests.support.services import TestServices


def runs(service: Service) -> bool:
    return service.running


PARTS: dict[str, Callable[[Parts], Service]] = {
    "bus": lambda parts: parts.bus,
    "commits": lambda parts: parts.committer,
    "dispatch": lambda parts: parts.dispatch,
    "events": lambda parts: parts.events,
    "maintenance": lambda parts: parts.maintenance,
    "placement": lambda parts: parts.placement,
    "repair": lambda parts: parts.repair,
    "removal": lambda parts: parts.removal,
    "republisher": lambda parts: parts.republisher,
    "retention": lambda parts: parts.retention,
    "schedule commits": lambda parts: parts.schedule_committer,
    "rollouts": lambda parts: parts.workers.rollouts,
    "schema": lambda parts: SchemaWatch(parts.services),
    "workers": lambda parts: parts.workers,
    "writes": lambda parts: parts.writes,
}
NEEDS_DATABASE: dict[str, Callable[[Parts], Service]] = {
    "commits": lambda parts: parts.committer,
    "schema": lambda parts: SchemaWatch(parts.services),
}


def make_parts(dsn: str, nats: str) -> Parts:
    config = Config.read({"DW_NATS_URL": nats, "DW_AUTH_TOKEN": "t"}, host_name="host")
    return Parts(config, dsn, "http://node", Clock(), None, NO_METRICS)


@pytest.fixture
async def parts(services: TestServices) -> AsyncIterator[Parts]:
    """The parts of a node; its database can be reached, and nothing else of it was started."""
    parts = make_parts(services.deployment().dsn, services.nats.url)
    await parts.pools.start()
    await parts.build_engine()
    yield parts
    parts.stop_actors()
    await parts.pools.stop()


def kinds(cls: type[Service]) -> set[type[Service]]:
    """The classes below one that have none below them, those of tests left out."""
    below = [each for each in cls.__subclasses__() if not each.__module__.startswith("tests.")]
    return set().union(*map(kinds, below)) if below else {cls}


async def at_rest() -> set[asyncio.Task[object]]:
    """The tasks there are, when those that end by themselves have."""
    for _ in range(50):
        await asyncio.sleep(0.01)
    return asyncio.all_tasks()


def test_the_list_is_whole() -> None:
    """Whoever adds a service adds it here."""

    ours = {cls.__name__ for cls in kinds(Service)}
    assert ours == {
        "Bus", "Dispatch", "EventStream", "GroupCommit", "Maintenance", "NamespaceRemoval", "Placement", "Republisher",
        "Retention", "Rollouts", "ScheduleCommit", "SchemaWatch", "StreamRepair", "WorkerRegistry", "WriteWatch",
    }  # fmt: skip
    assert len(ours) == len(PARTS)


@pytest.mark.parametrize("name", PARTS)
async def test_a_service_keeps_the_contract(parts: Parts, name: str) -> None:
    service = PARTS[name](parts)
    before = await at_rest()
    await service.stop()
    assert not runs(service), "a stop before a start has no effect"

    for _ in range(2):  # it may be started again
        await service.start()
        running = asyncio.all_tasks() - before
        assert runs(service) and running
        kept = set(service._kept)
        await service.start()
        assert set(service._kept) == kept, "a second start has no effect"

        await asyncio.gather(service.stop(), service.stop())
        assert not runs(service) and not service._kept
        assert await at_rest() <= before, "a stopped service leaves nothing running"
        await service.stop()


@pytest.mark.parametrize("name", NEEDS_DATABASE)
async def test_a_start_without_its_database_leaves_nothing(services: TestServices, name: str) -> None:
    parts = make_parts("postgresql://nobody@127.0.0.1:1/none", services.nats.url)
    service = NEEDS_DATABASE[name](parts)
    before = await at_rest()
    for _ in range(2):
        with pytest.raises(StoreError):
            await service.start()
        assert not runs(service) and not service._kept and await at_rest() <= before
    await service.stop()
