"""Messages between runs whose receiver is not there yet, goes on as another run, or is begun twice (architecture, rule 4).

A host on a real database, whose messages leave it only when the test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from actors.hosting.run_actor import InstanceTaken
from actors.run import ids
from actors.run.commands.control import ReadForQuery, SignalRun
from actors.run.commands.messages import ChildClosed, ChildRestarted
from actors.run.commands.steps import CompleteWorkflow, ContinueAsNew, FailWorkflow, StartChild, WorkflowCommand
from actors.run.replies import CommandAnswered, QueryView
from actors.run.values import RetryPolicy
from store import instances
from tests.cluster.run_host import (
    LoneHost,
)
from tests.support.services import TestServices

pytestmark = pytest.mark.cluster


@pytest.fixture
async def world(services: TestServices) -> AsyncIterator[LoneHost]:
    async with LoneHost(services.deployment().dsn) as made:
        yield made


async def test_the_end_of_a_parent_that_comes_before_the_child_has_begun_waits_for_it(world: LoneHost) -> None:
    begin, end = await world.family()
    world.delivery.deliver([end])
    await asyncio.sleep(0.2)
    assert await world.messages() == [begin.message_id, end.message_id]
    await world.delivered()
    assert await world.status(begin.workflow_id) == "terminated"


@pytest.mark.parametrize(
    ("step", "retry"),
    [(ContinueAsNew(), None), (FailWorkflow("no"), RetryPolicy(max_attempts=2))],
    ids=["continued", "tried again"],
)
async def test_the_end_of_a_parent_reaches_a_child_that_just_goes_on_as_another_run(
    world: LoneHost, step: WorkflowCommand, retry: RetryPolicy | None
) -> None:
    begin, end = await world.family(retry)
    child_key = ids.key_in(begin.run_id)
    await world.host.ask_run(child_key, begin.command, None, begin.message_id)
    goes_on = world.complete(await world.claim(begin.run_id), step)
    # The child was its current run when the message was read; when it is decided, that run is closed.
    late = world.host.ask_run(child_key, end.command, None, end.message_id)
    await asyncio.gather(goes_on, late)
    assert await world.status(begin.workflow_id) == "pending"
    await world.delivered()
    assert await world.status(begin.workflow_id) == "terminated"


async def test_the_end_of_a_parent_is_dropped_when_its_child_is_closed_for_good(world: LoneHost) -> None:
    begin, end = await world.family()
    await world.host.ask_run(ids.key_in(begin.run_id), begin.command, None, begin.message_id)
    await world.complete(await world.claim(begin.run_id), CompleteWorkflow())
    assert end.message_id in await world.messages()
    await world.delivered()
    assert await world.status(begin.workflow_id) == "completed"


async def test_a_child_begun_twice_fails_nothing_but_the_second_beginning(world: LoneHost) -> None:
    begin, _ = await world.family()
    child_key = ids.key_in(begin.run_id)
    await world.host.ask_run(child_key, begin.command, None, begin.message_id)
    other = world.new_host()
    begins = [other.ask_run(child_key, begin.command, None, begin.message_id) for _ in range(2)]
    # While the first one is committed, the second one and the signal gather.
    signal = other.ask_run(child_key, SignalRun(name="late"), "default")
    assert all(isinstance(end, InstanceTaken) for end in await asyncio.gather(*begins, return_exceptions=True))
    answer = await signal
    assert isinstance(answer, CommandAnswered) and answer.rejection is None, answer
    other.stop()


async def test_the_end_of_a_child_that_overtakes_the_start_of_its_last_run_waits_for_it(world: LoneHost) -> None:
    parent = await world.start()
    await world.complete(await world.claim(parent), StartChild("type"))
    (begin,) = world.announced
    await world.delivered()
    await world.complete(await world.claim(begin.run_id), ContinueAsNew())
    instance = await instances.get(world.db, begin.workflow_id)
    assert instance is not None
    await world.complete(await world.claim(instance.current_run_id), CompleteWorkflow())
    _, restarted, closed = world.announced
    assert isinstance(restarted.command, ChildRestarted) and isinstance(closed.command, ChildClosed)
    world.delivery.deliver([closed])
    await asyncio.sleep(0.2)
    assert await world.messages() == [restarted.message_id, closed.message_id]
    await world.delivered()
    view = await world.ask_run(parent, ReadForQuery())
    assert isinstance(view, QueryView)
    types = [event["event_type"] for event in orjson.loads(view.history_events)]
    assert types.count("ChildRunStarted") == 2 and types.count("ChildRunCompleted") == 1
