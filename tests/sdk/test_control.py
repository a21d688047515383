"""Cancel, terminate, repair and archive through the SDK, and the run-targeted variants beside it.

Contract: engine-semantics 2.5, 4.5, 4.7, 5.5, 9; control-plane 5.10 to 5.13.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import ContinueAsNew, ServerError, WorkflowHandle, WorkflowNotFound, activity, workflow
from durable_workflow.errors import ActivityCancelled, WorkflowCancelled, WorkflowTerminated

from tests.sdk.features import TaskWatcher, decoded, handle_of_run, post, run_handles, until, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, scene_on, types
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.sdk

STOPS = [("cancel", "Cancel", "cancelled"), ("terminate", "Terminate", "terminated")]


@workflow.defn(name="long")
class Long:
    """Would take very long: an activity that beats, one that nobody takes, and timers."""

    def run(self, ctx: Any) -> Any:
        return (
            yield [
                ctx.schedule_activity("beating", [], heartbeat_timeout=60),
                ctx.start_timer(600),
                ctx.schedule_activity("beating", [], queue="nobody"),
                ctx.start_timer(900),
            ]
        )


@workflow.defn(name="quick")
class Quick:
    def run(self, ctx: Any, value: Any = None) -> Any:
        yield ctx.start_timer(0)
        return value


@workflow.defn(name="open")
class Open:
    """Waits, answers, changes, and goes on as another run."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    @workflow.signal("put")
    def put(self, value: Any) -> None:
        self.values.append(value)

    @workflow.query("values")
    def get_values(self) -> list[Any]:
        return self.values

    @workflow.update("add")
    def add(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values)

    def run(self, ctx: Any, again: bool) -> Any:
        yield ctx.wait_condition(lambda: "go" in self.values, key="go")
        return ContinueAsNew(arguments=[False]) if again else self.values


class Beating:
    """An activity that beats until it is told to stop, and remembers how it was told."""

    def __init__(self) -> None:
        self.cancelled: list[bool] = []
        self.stop = asyncio.Event()
        self.ended = asyncio.Event()

    def activity(self) -> Any:
        @activity.defn(name="beating")
        async def beating() -> str:
            context = activity.context()
            try:
                while not self.stop.is_set():
                    await context.heartbeat()
                    await asyncio.sleep(0.1)
                return "stopped by the test"
            except ActivityCancelled:
                self.cancelled.append(context.is_cancelled)
                raise
            finally:
                self.ended.set()

        return beating


@pytest.fixture
def beating() -> Iterator[Beating]:
    """Stopped at the end."""
    made = Beating()
    yield made
    made.stop.set()


@pytest.fixture
async def ready(scene: SdkHarness, beating: Beating) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work([Long, Quick, Open], [beating.activity()])
    return scene


async def waiting(scene: SdkHarness, again: bool = False) -> WorkflowHandle:
    handle = await scene.start("open", again)
    await recorded(handle, "ConditionWaitOpened")
    return handle


async def stop(handle: WorkflowHandle, verb: str, reason: str | None = None) -> None:
    await (handle.cancel(reason=reason) if verb == "cancel" else handle.terminate(reason=reason))


async def refused(attempt: Any, status: int, reason: str) -> None:
    """The command is refused, as the SDK shows it."""
    with pytest.raises(ServerError) as error:
        await attempt
    assert (error.value.status, error.value.reason()) == (status, reason)


# -- cancel and terminate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "word", "status"), STOPS)
async def test_stopping_a_run_with_everything_open(
    ready: SdkHarness, beating: Beating, verb: str, word: str, status: str
) -> None:
    handle = await ready.start("long")
    await recorded(handle, "ActivityHeartbeatRecorded")
    await stop(handle, verb, "customer withdrew")
    events = [event for event in await events_of(handle) if event["event_type"] != "ActivityHeartbeatRecorded"]
    scheduled = ["ActivityScheduled", "TimerScheduled", "ActivityScheduled", "TimerScheduled", "ActivityStarted"]
    cancelled = ["ActivityCancelled", "ActivityCancelled", "TimerCancelled", "TimerCancelled"]
    assert types(events) == [*scheduled, f"{word}Requested", *cancelled, f"Workflow{status.capitalize()}"]
    steps = [payload["sequence"] for payload in of_type(events, "ActivityCancelled")]
    assert steps == sorted(steps)
    (ended,) = of_type(events, f"Workflow{status.capitalize()}")
    assert (ended["reason"], ended["closed_reason"], ended["failure_category"]) == ("customer withdrew", status, status)
    assert ended["message"] == f"Workflow {status}: customer withdrew"
    with pytest.raises(WorkflowCancelled if verb == "cancel" else WorkflowTerminated, match="customer withdrew"):
        await result_of(handle)
    run = await handle.describe_run()
    assert (run.status, run.closed_reason, run.status_bucket) == (status, status, "failed")

    # The activity learns it from its next heartbeat, and what it reports changes nothing any more.
    async with asyncio.timeout(30):
        await beating.ended.wait()
    assert beating.cancelled == [True]
    await ready.drain()
    later = [event for event in await events_of(handle) if event["event_type"] != "ActivityHeartbeatRecorded"]
    assert types(later) == types(events)


@pytest.mark.parametrize(("verb", "word", "status"), STOPS)
async def test_stopping_without_a_reason(ready: SdkHarness, verb: str, word: str, status: str) -> None:
    handle = await waiting(ready)
    await stop(handle, verb)
    with pytest.raises(WorkflowCancelled if verb == "cancel" else WorkflowTerminated, match=f"workflow was {status}"):
        await result_of(handle)
    assert types(await events_of(handle)) == ["ConditionWaitOpened", f"{word}Requested", f"Workflow{status.capitalize()}"]


@pytest.mark.parametrize(("verb", "word", "status"), STOPS)
async def test_stopping_before_the_first_task(scene: SdkHarness, verb: str, word: str, status: str) -> None:
    handle = await scene.start("quick")
    await stop(handle, verb)
    await scene.work([Quick])
    other = await scene.start("quick", "another")
    assert await result_of(other) == "another"
    assert types(await events_of(handle)) == [f"{word}Requested", f"Workflow{status.capitalize()}"]


@pytest.mark.parametrize(("verb", "word", "status"), STOPS)
async def test_stopping_while_a_task_is_leased(scene: SdkHarness, verb: str, word: str, status: str) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, [Quick], interceptors=[watch])
    handle = await scene.start("quick")
    await watch.held()
    await stop(handle, verb)
    watch.release()
    other = await scene.start("quick", "another")  # the worker goes on with other work
    assert await result_of(other) == "another"
    await scene.drain()
    assert types(await events_of(handle)) == [f"{word}Requested", f"Workflow{status.capitalize()}"]


@pytest.mark.parametrize(("verb", "word", "status"), STOPS)
async def test_a_closed_run_cannot_be_stopped(ready: SdkHarness, verb: str, word: str, status: str) -> None:
    handle = await ready.start("quick", 1)
    assert await result_of(handle) == 1
    before = await events_of(handle)
    await refused(stop(handle, verb), 409, "run_not_active")
    assert await events_of(handle) == before


async def test_two_stops_at_once(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    outcomes = await asyncio.gather(
        *(stop(handle, verb) for verb in ("cancel", "terminate") for _ in range(5)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    names = types(await events_of(handle))
    assert len(names) == 3
    assert names[2] in ("WorkflowCancelled", "WorkflowTerminated")


async def test_commands_to_nobody(scene: SdkHarness) -> None:
    nobody = handle_of_run(scene, "there-is-no-such-id")
    for attempt in (nobody.cancel(), nobody.terminate(), nobody.repair(), nobody.archive()):
        with pytest.raises(WorkflowNotFound):
            await attempt


# -- repair ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def slow_to_retry(services: TestServices, tmp_path: Path) -> AsyncIterator[SdkHarness]:
    """A scene on a server that waits long before it offers a failed workflow task again."""
    env = {"DW_V2_TASK_REPAIR_REDISPATCH_AFTER_SECONDS": "60"}
    process = ServerProcess(services.deployment(), tmp_path, env=env)
    try:
        await process.start(wait=False).ready()
        async with scene_on(process) as made:
            yield made
    finally:
        await asyncio.to_thread(process.stop)


async def test_repair_ends_the_backoff_of_a_blocked_run(slow_to_retry: SdkHarness) -> None:
    scene = slow_to_retry

    class Deployed:
        broken = True

    @workflow.defn(name="mended")
    class Mended:
        """Its first deployment cannot be replayed at all."""

        def run(self, ctx: Any) -> Any:
            if Deployed.broken:
                raise RuntimeError("this deployment is broken")
            return self._run(ctx)

        def _run(self, ctx: Any) -> Any:
            yield ctx.start_timer(0)
            return "healed"

    await scene.work([Mended])
    handle = await scene.start("mended")

    async def blocked() -> bool:
        shown = await scene.client._request("GET", f"/workflows/{handle.workflow_id}/debug")
        return "broken" in str(shown)

    await until(blocked, "the failure in debug")
    assert types(await events_of(handle)) == []
    Deployed.broken = False
    repaired = await handle.repair()
    assert (repaired.outcome, repaired.command_status) == ("repair_dispatched", "accepted")
    assert repaired.command_id
    assert await result_of(handle) == "healed"
    events = await events_of(handle)
    assert types(events) == ["RepairRequested", "TimerScheduled", "TimerFired", "WorkflowCompleted"]
    assert of_type(events, "RepairRequested")[0]["outcome"] == "repair_dispatched"


async def test_a_healthy_run_needs_no_repair(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    repaired = await handle.repair()
    assert (repaired.workflow_id, repaired.outcome) == (handle.workflow_id, "repair_not_needed")
    assert types(await events_of(handle)) == ["ConditionWaitOpened", "RepairRequested"]
    await handle.signal("put", ["go"])
    assert await result_of(handle) == ["go"]


async def test_a_held_lease_is_left_alone(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, [Quick], interceptors=[watch])
    handle = await scene.start("quick", 5)
    await watch.held()
    assert (await handle.repair()).outcome == "repair_not_needed"
    watch.release()
    assert await result_of(handle) == 5
    assert handle.run_id is not None
    assert len(watch.of_run(handle.run_id)) == 2


async def test_a_closed_run_takes_no_repair(ready: SdkHarness) -> None:
    handle = await ready.start("quick")
    await result_of(handle)
    await refused(handle.repair(), 409, "run_not_active")


# -- archive -----------------------------------------------------------------------------------------------------------


async def test_archiving(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    await refused(handle.archive(), 409, "run_not_closed")
    await handle.signal("put", ["go"])
    assert await result_of(handle) == ["go"]
    first = await handle.archive(reason="tidy")
    assert (first.workflow_id, first.outcome, first.command_status) == (handle.workflow_id, "archived", "accepted")
    again = await handle.archive()
    assert again.outcome == "archive_not_needed"
    assert again.command_id != first.command_id
    events = await events_of(handle)
    assert types(events)[-4:] == ["WorkflowCompleted", "ArchiveRequested", "WorkflowArchived", "ArchiveRequested"]
    requested = of_type(events, "ArchiveRequested")
    assert [payload["outcome"] for payload in requested] == ["archived", "archive_not_needed"]
    assert requested[0]["reason"] == "tidy"
    # An archived run stays readable.
    assert await result_of(handle) == ["go"]
    assert (await handle.query("values"))["result"] == ["go"]
    assert (await handle.describe_run()).status == "completed"


async def test_a_stopped_run_can_be_archived(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    await handle.cancel()
    assert (await handle.archive()).outcome == "archived"
    with pytest.raises(WorkflowCancelled):
        await result_of(handle)


# -- run-targeted ------------------------------------------------------------------------------------------------------


async def test_commands_to_the_current_run(ready: SdkHarness, server: ServerProcess) -> None:
    handle = await waiting(ready)
    path = f"/workflows/{handle.workflow_id}/runs/{handle.run_id}"
    async with server.client() as client:
        status, signalled = await post(client, f"{path}/signal/put", {"input": ["by run"]})
        assert (status, signalled["outcome"], signalled["requested_run_id"]) == (202, "signal_received", handle.run_id)
        await recorded(handle, "ConditionWaitOpened", 2)
        status, asked = await post(client, f"{path}/query/values")
        assert (status, asked["result"], asked["run_id"]) == (200, ["by run"], handle.run_id)
        status, updated = await post(client, f"{path}/update/add", {"input": ["more"], "wait_for": "completed"})
        assert (status, updated["result"], updated["run_id"]) == (200, 2, handle.run_id)
        status, stopped = await post(client, f"{path}/cancel", {"reason": "by run"})
        assert (status, stopped["outcome"], stopped["requested_run_id"]) == (200, "cancelled", handle.run_id)
        status, late = await post(client, f"{path}/terminate")
        assert (status, late["reason"]) == (409, "run_not_active")
    with pytest.raises(WorkflowCancelled, match="by run"):
        await result_of(handle)
    signals = of_type(await events_of(handle), "SignalReceived")
    assert [decoded(payload) for payload in signals] == [["by run"]]


async def test_terminating_the_current_run(ready: SdkHarness, server: ServerProcess) -> None:
    handle = await waiting(ready)
    async with server.client() as client:
        path = f"/workflows/{handle.workflow_id}/runs/{handle.run_id}/terminate"
        status, body = await post(client, path, {"reason": "by run"})
    assert (status, body["outcome"]) == (200, "terminated")
    with pytest.raises(WorkflowTerminated, match="by run"):
        await result_of(handle)


async def test_commands_to_a_run_that_is_over(ready: SdkHarness, server: ServerProcess) -> None:
    handle = await waiting(ready, again=True)
    await handle.signal("put", ["go"])
    await recorded(handle, "WorkflowContinuedAsNew")
    before = await events_of(handle)
    async with server.client() as client:
        for verb in ("signal/put", "query/values", "update/add", "cancel", "terminate"):
            status, body = await post(client, f"/workflows/{handle.workflow_id}/runs/{handle.run_id}/{verb}")
            assert (status, body["reason"]) == (409, "historical_run_command_rejected")
    assert await events_of(handle) == before
    newest = handle_of_run(ready, handle.workflow_id)
    await newest.signal("put", ["go"])
    assert await result_of(newest) == ["go"]
    assert len(await run_handles(ready, handle.workflow_id)) == 2
