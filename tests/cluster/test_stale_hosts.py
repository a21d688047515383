"""A host whose memory of a run is out of date, as another node had the run meanwhile, neither refuses nor answers from it.

Two hosts on one database, each taking itself for the owner (architecture, rule 1).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from actors.hosting.host import Host
from actors.queue.query_types import Query
from actors.run import ids
from actors.run.commands.control import ReadForQuery, ReadUpdate, UpdateRun
from actors.run.commands.steps import CompleteUpdate, CompleteWorkflow, ContinueAsNew, WorkflowCommand
from actors.run.commands.worker import (
    ANY_ATTEMPT,
    ClaimTask,
    CompleteWorkflowTask,
    FailWorkflowTask,
    HeartbeatWorkflowTask,
    ReadHistoryPage,
    ReleaseClaim,
    RereadClaim,
)
from actors.run.replies import Done, HistoryPage, QueryView, Refused, RunReply, UpdateStatus, WorkflowTaskGrant
from actors.run.values import WorkerIdentity
from actors.workers.registry import WorkerRegistry
from actors.workflow_commands import WorkflowCommands
from store import instances, ready_tasks
from tests.cluster.run_host import LoneHost
from tests.support.defaults import STALE_AFTER_SECONDS
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

WORKER = WorkerIdentity("worker")


class Pair:
    """A run with an accepted update, in the memory of the host `stale`; `other` goes on with it."""

    def __init__(self, world: LoneHost, run_id: str, update_id: str, task_id: str) -> None:
        self.db = world.db
        self.stale = world.host
        self.other = world.new_host()
        self.run_key = ids.key_in(run_id)
        self.update_id = update_id
        self.task_id = task_id

    async def claim(self, at: Host) -> WorkflowTaskGrant:
        grant = await at.ask_run(self.run_key, ClaimTask(self.task_id, WORKER))
        assert isinstance(grant, WorkflowTaskGrant), grant
        return grant

    async def complete(self, at: Host, grant: WorkflowTaskGrant, *steps: WorkflowCommand) -> RunReply:
        attempt = grant.workflow_task_attempt
        return await at.ask_run(self.run_key, CompleteWorkflowTask(self.task_id, grant.lease_owner, attempt, list(steps)))

    async def end_elsewhere(self) -> WorkflowTaskGrant:
        """The run is claimed here and closed there: no write to it ever comes again."""
        grant = await self.claim(self.stale)
        await self.complete(self.other, grant, CompleteUpdate(self.update_id), CompleteWorkflow())
        return grant


@pytest.fixture
async def pair(services: TestServices) -> AsyncIterator[Pair]:
    async with LoneHost(services.deployment().dsn) as world:
        run_id = await world.start()
        update = await world.host.ask_run(ids.key_in(run_id), UpdateRun(name="put", request_id="one"))
        assert isinstance(update, UpdateStatus) and update.status == "accepted"
        (row,) = await ready_tasks.ready(world.db, "default", "queue", "workflow", 10)
        yield Pair(world, run_id, update.update_id, row.task_id)


async def test_an_update_that_ended_elsewhere_is_read_as_it_is(pair: Pair) -> None:
    await pair.end_elsewhere()
    update = await pair.stale.ask_run(pair.run_key, ReadUpdate(pair.update_id))
    assert isinstance(update, UpdateStatus) and update.status == "completed"


async def test_a_query_sees_what_was_recorded_elsewhere(pair: Pair) -> None:
    await pair.end_elsewhere()
    view = await pair.stale.ask_run(pair.run_key, ReadForQuery())
    assert isinstance(view, QueryView) and b"WorkflowCompleted" in view.history_events


async def test_a_lease_that_ended_elsewhere_is_not_given_again(pair: Pair) -> None:
    grant = await pair.end_elsewhere()
    again = await pair.stale.ask_run(pair.run_key, RereadClaim(pair.task_id, WORKER, grant.workflow_task_attempt))
    assert isinstance(again, Refused) and again.reason == "not_leased"


@pytest.mark.parametrize("attempt", [1, ANY_ATTEMPT])
async def test_a_lease_made_elsewhere_can_be_released_here(pair: Pair, attempt: int) -> None:
    assert (await pair.claim(pair.other)).workflow_task_attempt == 1
    assert not await ready_tasks.ready(pair.db, "default", "queue", "workflow", 10)
    assert await pair.stale.ask_run(pair.run_key, ReleaseClaim(pair.task_id, WORKER.worker_id, attempt)) == Done()
    assert [row.task_id for row in await ready_tasks.ready(pair.db, "default", "queue", "workflow", 10)] == [pair.task_id]


async def test_a_lease_made_elsewhere_is_known_here(pair: Pair) -> None:
    grant = await pair.claim(pair.other)
    owner, attempt = grant.lease_owner, grant.workflow_task_attempt
    page = await pair.stale.ask_run(pair.run_key, ReadHistoryPage(pair.task_id, owner, attempt, 0))
    assert isinstance(page, HistoryPage) and page.events == grant.history_events
    renewed = await pair.stale.ask_run(pair.run_key, HeartbeatWorkflowTask(pair.task_id, owner, attempt))
    assert not isinstance(renewed, Refused)
    failed = await pair.stale.ask_run(pair.run_key, FailWorkflowTask(pair.task_id, owner, attempt, "no"))
    assert not isinstance(failed, Refused)


async def test_a_query_is_for_the_run_that_goes_on(pair: Pair) -> None:
    """The workflow id's run is another one by now; `detail` names the run that was asked."""
    unserved = WorkerRegistry(pair.db, STALE_AFTER_SECONDS)
    grant = await pair.claim(pair.stale)
    await pair.complete(pair.other, grant, CompleteUpdate(pair.update_id), ContinueAsNew())
    assert pair.stale.current_run("parent") == grant.run_id
    workflows = WorkflowCommands(pair.db, pair.stale, cast(Any, None), cast(Any, None), cast(Any, None), unserved)
    refused = await workflows.query("default", "parent", Query("name"), None)
    instance = await instances.get(pair.db, "parent")
    assert instance is not None and instance.current_run_id != grant.run_id
    assert refused == Refused("query_worker_unavailable", {"run_id": instance.current_run_id})
