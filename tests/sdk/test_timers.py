"""Timers, restarts, failing workflows, and the deadlines of runs and executions, through the SDK."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import activity, workflow
from durable_workflow.errors import WorkflowFailed

from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, replays_to, result_of, scene_on, types
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.sdk


@activity.defn(name="note")
async def note(value: str) -> str:
    return f"noted {value}"


@activity.defn(name="never")
async def never() -> None:
    await asyncio.Event().wait()


@workflow.defn(name="sleeper")
class Sleeper:
    """Sleeps, then works; its clock is the start's."""

    def run(self, ctx: Any, seconds: int) -> Any:
        yield ctx.start_timer(seconds)
        result = yield ctx.schedule_activity("note", ["after the timer"])
        return result


@workflow.defn(name="napper")
class Napper:
    """Some timers in a row, among them one that fires at once."""

    def run(self, ctx: Any) -> Any:
        yield ctx.sleep(0)
        yield ctx.sleep(0.4)
        yield ctx.start_timer(0)
        return ctx.now().isoformat()


@workflow.defn(name="together")
class Together:
    def run(self, ctx: Any) -> Any:
        results = yield [ctx.start_timer(2), ctx.start_timer(1), ctx.start_timer(0)]
        return results


@workflow.defn(name="failing")
class Failing:
    def run(self, ctx: Any, early: bool) -> Any:
        if early:
            raise ValueError("wrong from the start")
        yield ctx.schedule_activity("note", ["before the end"])
        raise LookupError("nothing there")


@workflow.defn(name="waiting")
class Waiting:
    """Waits for much longer than its deadline."""

    def run(self, ctx: Any) -> Any:
        yield [ctx.start_timer(600), ctx.schedule_activity("never", []), ctx.schedule_activity("note", ["x"], queue="nobody")]


WORKFLOWS = [Sleeper, Napper, Together, Failing, Waiting]
ACTIVITIES = [note, never]

SLEPT = ["TimerScheduled", "TimerFired", "ActivityScheduled", "ActivityStarted", "ActivityCompleted", "WorkflowCompleted"]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS, ACTIVITIES)
    return scene


def fired_in_time(events: list[dict[str, Any]], seconds: int) -> None:
    """The timer fired at or after its time, which is counted from its own transition."""
    (scheduled,) = of_type(events, "TimerScheduled")
    (fired,) = of_type(events, "TimerFired")
    assert scheduled["delay_seconds"] == seconds
    assert scheduled["timer_id"] == fired["timer_id"]
    fire_at = datetime.fromisoformat(scheduled["fire_at"])
    at = {event["event_type"]: datetime.fromisoformat(event["timestamp"]) for event in events}
    assert abs(fire_at - at["TimerScheduled"] - timedelta(seconds=seconds)) <= timedelta(seconds=1)
    assert at["TimerFired"] - at["TimerScheduled"] >= timedelta(seconds=seconds)
    assert datetime.fromisoformat(fired["fired_at"]) >= fire_at


async def test_a_timer(ready: SdkHarness) -> None:
    result, events = await ready.run("sleeper", 1)
    assert result == "noted after the timer"
    assert types(events) == SLEPT
    fired_in_time(events, 1)
    replays_to(Sleeper, events, result)


async def test_timers_in_a_row(ready: SdkHarness) -> None:
    result, events = await ready.run("napper")
    assert types(events) == ["TimerScheduled", "TimerFired"] * 3 + ["WorkflowCompleted"]
    assert [timer["delay_seconds"] for timer in of_type(events, "TimerScheduled")] == [0, 1, 0]
    started = datetime.fromisoformat(of_type(events, "WorkflowStarted")[0]["timestamp"])
    assert datetime.fromisoformat(result) == started
    replays_to(Napper, events, result)


async def test_timers_fire_in_the_order_of_their_times(ready: SdkHarness) -> None:
    result, events = await ready.run("together")
    assert result == [None, None, None]
    steps = [timer["sequence"] for timer in of_type(events, "TimerScheduled")]
    assert [timer["sequence"] for timer in of_type(events, "TimerFired")] == steps[::-1]


# -- restarts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_server(services: TestServices, tmp_path: Path) -> Any:
    """A server of this test, to be killed and started again."""
    process = ServerProcess(services.deployment(), tmp_path)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.mark.parametrize("how", ["restarted", "killed", "away when it is due"])
async def test_a_timer_outlives_the_server(own_server: ServerProcess, how: str) -> None:
    seconds = 4 if how != "away when it is due" else 1
    async with scene_on(own_server) as scene:
        await scene.work(WORKFLOWS, ACTIVITIES)
        handle = await scene.start("sleeper", seconds)
        events = await recorded(handle, "TimerScheduled")
        due = datetime.fromisoformat(of_type(events, "TimerScheduled")[0]["fire_at"])
        if how == "restarted":
            assert await asyncio.to_thread(own_server.stop) == 0
        else:
            await asyncio.to_thread(own_server.kill)
        if how == "away when it is due":
            await asyncio.sleep((due - datetime.now(due.tzinfo)).total_seconds() + 0.1)
        own_server.start(wait=False)
        await own_server.ready()
        assert await result_of(handle) == "noted after the timer"
        events = await events_of(handle)
        assert types(events) == SLEPT
        fired_in_time(events, seconds)
        replays_to(Sleeper, events, "noted after the timer")


# -- endings -----------------------------------------------------------------------------------------------------------


async def test_a_workflow_that_fails(ready: SdkHarness) -> None:
    handle = await ready.start("failing", False)
    with pytest.raises(WorkflowFailed, match="nothing there") as raised:
        await result_of(handle)
    assert raised.value.exception_class == "LookupError"
    events = await events_of(handle)
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityCompleted", "WorkflowFailed"]
    (failed,) = of_type(events, "WorkflowFailed")
    assert (failed["failure_category"], failed["exception_type"]) == ("application", "LookupError")
    described = await handle.describe()
    assert described.status == "failed"


async def test_a_workflow_that_fails_at_once(ready: SdkHarness) -> None:
    handle = await ready.start("failing", True)
    with pytest.raises(WorkflowFailed, match="wrong from the start"):
        await result_of(handle)
    assert types(await events_of(handle)) == ["WorkflowFailed"]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"run_timeout_seconds": 2}, "run_timeout"),
        ({"execution_timeout_seconds": 2, "run_timeout_seconds": 2}, "execution_timeout"),
    ],
)
async def test_deadlines_of_runs(ready: SdkHarness, options: dict[str, int], kind: str) -> None:
    handle = await ready.start("waiting", **options)
    await recorded(handle, "ActivityStarted")
    with pytest.raises(WorkflowFailed, match="deadline expired at"):
        await result_of(handle)
    events = await events_of(handle)
    assert types(events) == [
        "TimerScheduled",
        "ActivityScheduled",
        "ActivityScheduled",
        "ActivityStarted",
        "ActivityCancelled",
        "ActivityCancelled",
        "TimerCancelled",
        "WorkflowFailed",
        "WorkflowTimedOut",
    ]
    (failed,), (ended,) = of_type(events, "WorkflowFailed"), of_type(events, "WorkflowTimedOut")
    assert (failed["failure_category"], ended["failure_category"]) == ("timeout", "timeout")
    assert failed["failure_id"] == ended["failure_id"]
    assert ended["timeout_kind"] == kind
    assert ended["message"].startswith(f"Workflow {kind.removesuffix('_timeout')} deadline expired at ")
    started = datetime.fromisoformat(events[1]["timestamp"])
    assert datetime.fromisoformat(events[-1]["timestamp"]) - started >= timedelta(seconds=2)
    described = await handle.describe()
    assert described.status == "failed"


async def test_a_run_nobody_works_on_times_out_by_itself(scene: SdkHarness) -> None:
    handle = await scene.start("waiting", run_timeout_seconds=1)
    with pytest.raises(WorkflowFailed, match="Workflow run deadline expired at"):
        await result_of(handle)
    assert types(await events_of(handle)) == ["WorkflowFailed", "WorkflowTimedOut"]
