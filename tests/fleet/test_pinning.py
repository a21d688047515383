"""A run is marked where it is created: with what is selected for its queue at that moment (operations 4.5)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import Unavailable
from actors.run import ids
from actors.run.commands.control import StartRun
from actors.run.ids import RunId
from actors.run.replies import Started
from store import runs
from tests.cluster.run_host import ARGUMENTS, LoneHost
from tests.support.defaults import RULES
from tests.support.services import TestServices


class Selecting(LoneHost):
    """A host that hears of selections what the test says."""

    answer: str | Exception | None = None

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.asked: list[tuple[str, str]] = []

    def selected(self, namespace: str, task_queue: str) -> str | None:
        self.asked.append((namespace, task_queue))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def start(workflow_id: str, queue: str | None = "queue", compatibility: str | None = None) -> StartRun:
    run_id = ids.new_run_id(1_800_000_000_000, ids.new_run_key(ids.shard_of("default", workflow_id, RULES.shards)))
    return StartRun("default", workflow_id, RunId(run_id), "type", queue, ARGUMENTS, compatibility=compatibility)


@pytest.mark.parametrize(
    ("selected", "configured", "marker"),
    [
        (None, None, None),
        (None, "everywhere", "everywhere"),  # DW_V2_CURRENT_COMPATIBILITY
        ("v1", None, "v1"),
        ("v1", "everywhere", "v1"),
        ("", None, None),
        ("", "everywhere", None),
    ],
)
async def test_the_marker(services: TestServices, selected: str | None, configured: str | None, marker: str | None) -> None:
    async with Selecting(services.deployment().dsn) as world:
        world.answer = selected
        command = start("w", compatibility=configured)
        assert isinstance(await world.host.start_run(command), Started)
        stored = await runs.load(world.db, command.run_id)
        assert stored is not None and stored.identity.compatibility == marker
        assert world.asked == [("default", "queue")]


async def test_a_start_without_a_queue_is_one_on_the_default_queue(services: TestServices) -> None:
    async with Selecting(services.deployment().dsn) as world:
        assert isinstance(await world.host.start_run(start("w", queue=None)), Started)
        assert world.asked == [("default", "default")]


async def test_while_it_is_not_certain_nothing_is_created(services: TestServices) -> None:
    async with Selecting(services.deployment().dsn) as world:
        world.answer = Unavailable("being read")
        command = start("w")
        with pytest.raises(Unavailable):
            await world.host.start_run(command)
        assert await runs.load(world.db, command.run_id) is None
        world.answer = "v1"
        reply: Any = await world.host.start_run(command)
        assert reply.outcome == "started_new"
