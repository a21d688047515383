"""What commands and questions raise while the database is away: `Unavailable`, and nothing of the store's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from actors.cluster.router import Router
from actors.errors import Unavailable
from actors.queue.query_types import Query
from actors.run.commands.control import ReadForQuery, SignalRun, StartRun, UpdateRun
from actors.run.ids import RunId
from actors.workers.registry import WorkerRegistry
from actors.workflow_commands import WorkflowCommands
from tests.cluster.run_host import ARGUMENTS, LoneHost
from tests.support.defaults import RULES, STALE_AFTER_SECONDS
from tests.support.services import TestServices

pytestmark = pytest.mark.proof


class Alone:
    """A cluster of one node, whose lease runs."""

    lease_valid = True

    def owner(self, _shard: int) -> str | None:
        return "alone"

    def owns(self, _shard: int) -> bool:
        return True

    async def wait_lease(self, _timeout_seconds: float) -> bool:
        return True


Asks = Callable[[WorkflowCommands, Router, str], Awaitable[Any]]
START = StartRun("default", "other", RunId(""), "type", "queue", ARGUMENTS)
ASKS: dict[str, Asks] = {
    "start": lambda workflows, _runs, _task: workflows.start(START),
    "signal": lambda workflows, _runs, _task: workflows.command("default", "parent", SignalRun(name="s")),
    "signal to a run": lambda workflows, _runs, task: workflows.command("default", "parent", SignalRun(name="s"), task),
    "update": lambda workflows, _runs, _task: workflows.update("default", "parent", UpdateRun(name="u", request_id="r")),
    "query": lambda workflows, _runs, _task: workflows.query("default", "parent", Query("q"), None),
    "task": lambda _workflows, runs, task: runs.ask_task("default", task, ReadForQuery()),
}


@pytest.mark.parametrize("what", ASKS)
async def test_a_command_raises_one_family(services: TestServices, what: str) -> None:
    nobody = cast(Any, None)
    async with LoneHost(services.deployment().dsn) as world:
        run_id = await world.start()
        cold = world.new_host()
        router = Router("alone", Alone(), nobody, cold, RULES.shards)
        workflows = WorkflowCommands(world.db, cold, nobody, router, nobody, WorkerRegistry(world.db, STALE_AFTER_SECONDS))
        await world.lose_database()
        with pytest.raises(Unavailable):
            await ASKS[what](workflows, router, run_id)
