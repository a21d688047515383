"""Condition waits through the SDK: with and without timeout, several in a row, re-opened, satisfied by updates.

Contract: engine-semantics 2.5, 6.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import activity, workflow

from tests.sdk.features import TaskWatcher, completes_with, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, scene_on, types
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.sdk


@activity.defn(name="echo")
async def echo(value: Any) -> Any:
    return value


class Inbox:
    """Values come in by signal `put` and update `place`."""

    def __init__(self) -> None:
        self.inbox: list[Any] = []

    @workflow.signal("put")
    def put(self, value: Any) -> None:
        self.inbox.append(value)

    @workflow.update("place")
    def place(self, value: Any) -> int:
        self.inbox.append(value)
        return len(self.inbox)


@workflow.defn(name="one-wait")
class OneWait(Inbox):
    """One wait with these options, then an activity."""

    def run(self, ctx: Any, timeout: float | None, wanted: Any) -> Any:
        in_time = yield ctx.wait_condition(lambda: wanted in self.inbox, key="wanted", timeout=timeout)
        echoed = yield ctx.schedule_activity("echo", [in_time])
        return {"in_time": in_time, "echoed": echoed, "inbox": self.inbox}


@workflow.defn(name="stages")
class Stages(Inbox):
    """Waits of different keys with work in between."""

    def run(self, ctx: Any) -> Any:
        log: list[Any] = []
        for stage in ("first", "second", "third"):
            yield ctx.wait_condition(lambda: len(self.inbox) > len(log), key=stage)
            log.append((yield ctx.schedule_activity("echo", [[stage, self.inbox[-1]]])))
        return log


@workflow.defn(name="back-to-back")
class BackToBack(Inbox):
    """Waits directly one after the other, some of which time out."""

    def run(self, ctx: Any) -> Any:
        outcomes = []
        outcomes.append((yield ctx.wait_condition(lambda: False, key="never", timeout=1)))
        outcomes.append((yield ctx.wait_condition(lambda: "go" in self.inbox, key="go")))
        outcomes.append((yield ctx.wait_condition(lambda: False, key="nor-this", timeout=1)))
        return outcomes


@workflow.defn(name="consumer")
class Consumer(Inbox):
    """The same wait again and again, each time for the next value."""

    def run(self, ctx: Any, count: int) -> Any:
        taken: list[Any] = []
        while len(taken) < count:
            yield ctx.wait_condition(lambda: bool(self.inbox), key="next")
            taken.append(self.inbox.pop(0))
        return taken


@workflow.defn(name="keyless")
class Keyless(Inbox):
    """A wait without a key or timeout that is true already when it is reached, as the last thing."""

    def run(self, ctx: Any) -> Any:
        yield ctx.schedule_activity("echo", [0])
        yield ctx.wait_condition(lambda: True)
        return "went on"


WORKFLOWS = [OneWait, Stages, BackToBack, Consumer, Keyless]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS, [echo])
    return scene


WORKED = ["ActivityScheduled", "ActivityStarted", "ActivityCompleted", "WorkflowCompleted"]


def same_wait(*payloads: dict[str, Any]) -> None:
    """The events speak of one wait: the same id, key, fingerprint and step."""
    keys = ("condition_wait_id", "condition_key", "condition_definition_fingerprint", "sequence")
    assert len({tuple(payload[key] for key in keys) for payload in payloads}) == 1
    assert all(payloads[0][key] for key in keys)


async def test_a_wait_without_timeout(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", None, "x")
    await recorded(handle, "ConditionWaitOpened")
    described = await ready.client._request("GET", f"/workflows/{handle.workflow_id}")
    assert (described["status"], described["wait_kind"]) == ("waiting", "condition")
    await handle.signal("put", ["x"])
    result = await result_of(handle)
    assert result == {"in_time": True, "echoed": True, "inbox": ["x"]}
    events = await completes_with(OneWait, handle, result)
    assert types(events) == ["ConditionWaitOpened", "SignalReceived", "ConditionWaitSatisfied", *WORKED]
    (opened,), (satisfied,) = of_type(events, "ConditionWaitOpened"), of_type(events, "ConditionWaitSatisfied")
    same_wait(opened, satisfied)
    assert opened["condition_key"] == "wanted"
    assert opened.get("timeout_seconds") is None


async def test_a_wait_that_times_out(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 1, "x")
    result = await result_of(handle)
    events = await completes_with(OneWait, handle, result)
    assert result == {"in_time": False, "echoed": False, "inbox": []}
    assert types(events) == ["ConditionWaitOpened", "TimerScheduled", "TimerFired", "ConditionWaitTimedOut", *WORKED]
    (opened,), (timed_out,) = of_type(events, "ConditionWaitOpened"), of_type(events, "ConditionWaitTimedOut")
    (scheduled,), (fired,) = of_type(events, "TimerScheduled"), of_type(events, "TimerFired")
    same_wait(opened, scheduled, fired, timed_out)
    assert scheduled["timer_kind"] == fired["timer_kind"] == "condition_timeout"
    assert timed_out["timer_id"] == scheduled["timer_id"]
    assert datetime.fromisoformat(events[4]["timestamp"]) - datetime.fromisoformat(events[2]["timestamp"]) >= timedelta(
        seconds=1
    )


async def test_the_task_of_a_timeout_names_the_wait(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, WORKFLOWS, [echo], interceptors=[watch])
    result, events = await scene.run("one-wait", 1, "x")
    assert result["in_time"] is False
    (opened,), (fired,) = of_type(events, "ConditionWaitOpened"), of_type(events, "TimerFired")
    task = watch.tasks[1]
    assert task["workflow_wait_kind"] == "condition"
    assert task["open_wait_id"] == task["condition_wait_id"] == opened["condition_wait_id"]
    assert (task["resume_source_kind"], task["resume_source_id"]) == ("timer", fired["timer_id"])
    assert task["timer_id"] == fired["timer_id"]
    assert task["workflow_event_type"] == "TimerFired"
    assert task["condition_key"] == "wanted"


async def test_a_wait_with_zero_timeout(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 0, "x")
    result = await result_of(handle)
    assert result == {"in_time": False, "echoed": False, "inbox": []}
    events = await completes_with(OneWait, handle, result)
    assert types(events) == ["ConditionWaitOpened", "ConditionWaitTimedOut", *WORKED]


async def test_a_wait_satisfied_in_time(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 600, "x")
    await recorded(handle, "ConditionWaitOpened")
    await handle.signal("put", ["x"])
    result = await result_of(handle)
    assert result == {"in_time": True, "echoed": True, "inbox": ["x"]}
    events = await completes_with(OneWait, handle, result)
    assert types(events) == [
        "ConditionWaitOpened",
        "TimerScheduled",
        "SignalReceived",
        "ConditionWaitSatisfied",
        "TimerCancelled",
        *WORKED,
    ]
    assert of_type(events, "TimerCancelled")[0]["timer_id"] == of_type(events, "TimerScheduled")[0]["timer_id"]


async def test_a_signal_that_does_not_satisfy_reopens_the_wait_and_its_timeout(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 600, "x")
    await recorded(handle, "ConditionWaitOpened")
    await handle.signal("put", ["something else"])
    await recorded(handle, "ConditionWaitOpened", 2)
    await handle.signal("put", ["x"])
    result = await result_of(handle)
    assert result == {"in_time": True, "echoed": True, "inbox": ["something else", "x"]}
    events = await completes_with(OneWait, handle, result)
    assert types(events) == [
        *["ConditionWaitOpened", "TimerScheduled", "SignalReceived"] * 2,
        "ConditionWaitSatisfied",
        "TimerCancelled",
        *WORKED,
    ]
    first, second = of_type(events, "ConditionWaitOpened")
    assert first["condition_wait_id"] != second["condition_wait_id"]
    assert first["sequence"] < second["sequence"]
    same_wait(second, of_type(events, "ConditionWaitSatisfied")[0], of_type(events, "TimerScheduled")[1])


async def test_a_superseded_timeout_never_fires(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 2, "x")
    events = await recorded(handle, "ConditionWaitOpened")
    await handle.signal("put", ["something else"])
    result = await result_of(handle)
    assert result == {"in_time": False, "echoed": False, "inbox": ["something else"]}
    events = await completes_with(OneWait, handle, result)
    first, second = of_type(events, "TimerScheduled")
    (fired,) = of_type(events, "TimerFired")
    assert fired["timer_id"] == second["timer_id"] != first["timer_id"]


async def test_waits_in_a_row_with_work_in_between(ready: SdkHarness) -> None:
    handle = await ready.start("stages")
    for number, value in enumerate("abc", start=1):
        await recorded(handle, "ConditionWaitOpened", number)
        await handle.signal("put", [value])
    result = await result_of(handle)
    assert result == [["first", "a"], ["second", "b"], ["third", "c"]]
    events = await completes_with(Stages, handle, result)
    stage = ["ConditionWaitOpened", "SignalReceived", "ConditionWaitSatisfied", *WORKED[:-1]]
    assert types(events) == [*stage * 3, "WorkflowCompleted"]
    keys = [payload["condition_key"] for payload in of_type(events, "ConditionWaitOpened")]
    assert keys == ["first", "second", "third"]


async def test_waits_back_to_back(ready: SdkHarness) -> None:
    handle = await ready.start("back-to-back")
    await recorded(handle, "ConditionWaitOpened", 2)
    await handle.signal("put", ["go"])
    assert await result_of(handle) == [False, True, False]
    events = await completes_with(BackToBack, handle, [False, True, False])
    timed_out = ["ConditionWaitOpened", "TimerScheduled", "TimerFired", "ConditionWaitTimedOut"]
    passed = ["ConditionWaitOpened", "SignalReceived", "ConditionWaitSatisfied"]
    assert types(events) == [*timed_out, *passed, *timed_out, "WorkflowCompleted"]


async def test_the_same_wait_in_a_loop(ready: SdkHarness) -> None:
    handle = await ready.start("consumer", 4)
    for value in range(4):
        await recorded(handle, "ConditionWaitOpened", value + 1)
        await handle.signal("put", [value])
    assert await result_of(handle) == [0, 1, 2, 3]
    await completes_with(Consumer, handle, [0, 1, 2, 3])


async def test_the_same_wait_in_a_loop_with_everything_at_once(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, WORKFLOWS, [echo], interceptors=[watch])
    handle = await scene.start("consumer", 5)
    await watch.held()
    for value in range(5):
        await handle.signal("put", [value])
    watch.release()
    assert await result_of(handle) == [0, 1, 2, 3, 4]
    assert handle.run_id is not None
    watch.of_run(handle.run_id)


async def test_a_wait_that_is_true_when_reached(ready: SdkHarness) -> None:
    handle = await ready.start("keyless")
    assert await result_of(handle) == "went on"
    events = await completes_with(Keyless, handle, "went on")
    assert types(events) == WORKED


async def test_an_update_satisfies_a_wait(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 600, "x")
    await recorded(handle, "ConditionWaitOpened")
    answer = await handle.update("place", ["x"], wait_for="completed")
    assert answer["result"] == 1
    result = await result_of(handle)
    assert result == {"in_time": True, "echoed": True, "inbox": ["x"]}
    events = await completes_with(OneWait, handle, result)
    assert types(events) == [
        "ConditionWaitOpened",
        "TimerScheduled",
        "UpdateAccepted",
        "UpdateApplied",
        "UpdateCompleted",
        "ConditionWaitSatisfied",
        "TimerCancelled",
        *WORKED,
    ]
    (satisfied,) = of_type(events, "ConditionWaitSatisfied")
    assert satisfied.get("workflow_signal_id") is None


async def test_an_update_that_does_not_satisfy_reopens_the_wait(ready: SdkHarness) -> None:
    handle = await ready.start("one-wait", 600, "x")
    await recorded(handle, "ConditionWaitOpened")
    assert (await handle.update("place", ["y"], wait_for="completed"))["result"] == 1
    await recorded(handle, "ConditionWaitOpened", 2)
    assert (await handle.update("place", ["x"], wait_for="completed"))["result"] == 2
    result = await result_of(handle)
    assert result["inbox"] == ["y", "x"]
    await completes_with(OneWait, handle, result)


@pytest.fixture
def own_server(services: TestServices, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of this test, to be killed and started again."""
    process = ServerProcess(services.deployment(), tmp_path)
    try:
        yield process.start()
    finally:
        process.stop()


async def test_a_wait_and_its_timeout_outlive_the_server(own_server: ServerProcess) -> None:
    async with scene_on(own_server) as scene:
        await scene.work(WORKFLOWS, [echo])
        timed = await scene.start("one-wait", 3, "x")
        signalled = await scene.start("one-wait", 600, "x")
        for handle in (timed, signalled):
            await recorded(handle, "TimerScheduled")
        own_server.kill()
        own_server.start(wait=False)
        await own_server.ready()
        await signalled.signal("put", ["x"])
        assert (await result_of(signalled))["in_time"] is True
        assert (await result_of(timed))["in_time"] is False
        for handle in (timed, signalled):
            await completes_with(OneWait, handle, await result_of(handle))
            assert types(await events_of(handle))[:2] == ["ConditionWaitOpened", "TimerScheduled"]
