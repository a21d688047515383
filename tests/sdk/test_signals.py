"""Signals through the SDK: before the first task, while a task is leased, many at once, unknown names, closed runs.

Contract: engine-semantics 2.5, 2.6, 6.2, 7.2.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_workflow import SignalFailed, WorkflowHandle, WorkflowNotFound, activity, workflow

from tests.sdk.features import TaskWatcher, completes_with, decoded, post, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types
from tests.support.server import ServerProcess

pytestmark = pytest.mark.sdk


class Seen:
    """Remembers what the signal `put` brought."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @workflow.signal("put")
    def put(self, value: Any) -> None:
        self.seen.append(value)


@workflow.defn(name="collector")
class Collector(Seen):
    """Waits until so many values have come."""

    def run(self, ctx: Any, count: int) -> Any:
        yield ctx.wait_condition(lambda: len(self.seen) >= count, key="enough")
        return self.seen


@workflow.defn(name="busy-collector")
class BusyCollector(Seen):
    """Is blocked on an activity while the values come."""

    def run(self, ctx: Any) -> Any:
        answer = yield ctx.schedule_activity("held", [])
        return [answer, *self.seen]


@workflow.defn(name="dispatcher")
class Dispatcher:
    """Signals of several shapes."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    @workflow.signal("nothing")
    def nothing(self) -> None:
        self.calls.append("nothing")

    @workflow.signal("pair")
    def pair(self, first: Any, second: Any) -> None:
        self.calls.append([first, second])

    @workflow.signal("order.approved/by-name")
    def dotted(self, value: Any) -> None:
        self.calls.append(value)

    def run(self, ctx: Any, count: int) -> Any:
        yield ctx.wait_condition(lambda: len(self.calls) >= count)
        return self.calls


class Gate:
    """An activity a test holds."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    def activity(self) -> Any:
        @activity.defn(name="held")
        async def held() -> str:
            await self.open.wait()
            return "done"

        return held


async def parked(scene: SdkHarness, workflow_type: str, *arguments: Any) -> WorkflowHandle:
    """A run that waits for its condition."""
    handle = await scene.start(workflow_type, *arguments)
    await recorded(handle, "ConditionWaitOpened")
    return handle


async def test_a_signal_wakes_a_waiting_run(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, [Collector], interceptors=[watch])
    handle = await parked(scene, "collector", 1)
    await handle.signal("put", [{"by": "ada"}])
    assert await result_of(handle) == [{"by": "ada"}]
    events = await completes_with(Collector, handle, [{"by": "ada"}])
    assert types(events) == ["ConditionWaitOpened", "SignalReceived", "ConditionWaitSatisfied", "WorkflowCompleted"]
    (received,) = of_type(events, "SignalReceived")
    assert received["signal_name"] == "put"
    assert decoded(received) == [{"by": "ada"}]
    assert "sequence" not in received
    (satisfied,) = of_type(events, "ConditionWaitSatisfied")
    assert satisfied["workflow_signal_id"] == received["signal_id"]
    assert satisfied["signal_name"] == "put"
    assert handle.run_id is not None
    first, second = watch.of_run(handle.run_id)
    assert first["resume_source_kind"] is None
    assert second["workflow_wait_kind"] == "signal"
    assert second["resume_source_kind"] == "workflow_signal"
    assert second["workflow_signal_id"] == received["signal_id"]
    assert second["open_wait_id"] == f"signal-application:{received['signal_id']}"


async def test_signals_before_the_first_task(scene: SdkHarness) -> None:
    handle = await scene.start("collector", 3)
    for value in range(3):
        await handle.signal("put", [value])
    assert types(await events_of(handle)) == ["SignalReceived"] * 3
    await scene.work([Collector])
    assert await result_of(handle) == [0, 1, 2]
    # One signal a task was shown, so history has the waits behind signals that did not end them yet: not the order of replay.
    names = types(await events_of(handle))
    assert names == ["SignalReceived"] * 3 + ["ConditionWaitOpened"] * 3 + ["ConditionWaitSatisfied", "WorkflowCompleted"]


async def test_signals_while_a_task_is_leased(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, [Collector], interceptors=[watch])
    handle = await scene.start("collector", 3)
    await watch.held()
    for value in "ab":
        await handle.signal("put", [value])
    assert types(await events_of(handle)) == ["SignalReceived"] * 2  # at once, before the task's own events
    watch.release()
    await recorded(handle, "ConditionWaitOpened", 3)  # a task for each of the two, and waiting again
    await handle.signal("put", ["c"])
    assert await result_of(handle) == ["a", "b", "c"]
    assert handle.run_id is not None
    watch.of_run(handle.run_id)
    await completes_with(Collector, handle, ["a", "b", "c"])


async def test_many_signals_at_once(scene: SdkHarness) -> None:
    count = 40
    watch = TaskWatcher()
    await work(scene, [Collector], interceptors=[watch])
    handle = await parked(scene, "collector", count)
    await asyncio.gather(*(handle.signal("put", [value]) for value in range(count)))
    result = await result_of(handle)
    events = await events_of(handle)
    received = of_type(events, "SignalReceived")
    assert sorted(result) == list(range(count))
    assert result == [decoded(payload)[0] for payload in received]  # applied in the order of acceptance
    assert len({payload["signal_id"] for payload in received}) == count
    assert handle.run_id is not None
    watch.of_run(handle.run_id)


async def test_rapid_signals_keep_their_order(scene: SdkHarness) -> None:
    count = 30
    await scene.work([Collector])
    handle = await scene.start("collector", count)
    for value in range(count):
        await handle.signal("put", [value])
    assert await result_of(handle) == list(range(count))


async def test_signals_to_many_runs(scene: SdkHarness) -> None:
    await scene.work([Collector])
    handles = [await scene.start("collector", 2) for _ in range(10)]
    for value in range(2):
        await asyncio.gather(*(handle.signal("put", [[number, value]]) for number, handle in enumerate(handles)))
    results = await asyncio.gather(*(result_of(handle) for handle in handles))
    assert results == [[[number, 0], [number, 1]] for number in range(10)]


async def test_an_unknown_signal_is_recorded_and_ignored(scene: SdkHarness) -> None:
    await scene.work([Collector])
    handle = await parked(scene, "collector", 1)
    await handle.signal("nobody-listens", ["x"])
    await recorded(handle, "ConditionWaitOpened", 2)  # woken, and waiting again
    await handle.signal("put", ["y"])
    assert await result_of(handle) == ["y"]
    events = await completes_with(Collector, handle, ["y"])
    assert types(events) == [
        "ConditionWaitOpened",
        "SignalReceived",
        "ConditionWaitOpened",
        "SignalReceived",
        "ConditionWaitSatisfied",
        "WorkflowCompleted",
    ]


async def test_signals_without_and_with_several_arguments(scene: SdkHarness) -> None:
    await scene.work([Dispatcher])
    handle = await parked(scene, "dispatcher", 3)
    await handle.signal("nothing")
    await recorded(handle, "ConditionWaitOpened", 2)
    await handle.signal("pair", [{"n": 1.5}, [None, True, "ü"]])
    await recorded(handle, "ConditionWaitOpened", 3)
    await handle.signal("order.approved%2Fby-name", ["dotted"])
    expected = ["nothing", [{"n": 1.5}, [None, True, "ü"]], "dotted"]
    assert await result_of(handle) == expected
    events = await completes_with(Dispatcher, handle, expected)
    names = [payload["signal_name"] for payload in of_type(events, "SignalReceived")]
    assert names == ["nothing", "pair", "order.approved/by-name"]


async def test_a_run_blocked_on_an_activity_sees_signals_with_its_result(scene: SdkHarness) -> None:
    gate, watch = Gate(), TaskWatcher()
    await work(scene, [BusyCollector], [gate.activity()], interceptors=[watch])
    handle = await scene.start("busy-collector")
    await recorded(handle, "ActivityStarted")
    for value in (1, 2):
        await handle.signal("put", [value])
    events = await events_of(handle)
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "SignalReceived", "SignalReceived"]
    gate.open.set()
    assert await result_of(handle) == ["done", 1, 2]
    assert handle.run_id is not None
    assert len(watch.of_run(handle.run_id)) == 2  # the signals caused no task
    events = await completes_with(BusyCollector, handle, ["done", 1, 2])
    assert types(events)[-2:] == ["ActivityCompleted", "WorkflowCompleted"]


async def test_a_closed_run_takes_no_signal(scene: SdkHarness) -> None:
    await scene.work([Collector])
    handle = await scene.start("collector", 0)
    assert await result_of(handle) == []
    before = await events_of(handle)
    with pytest.raises(SignalFailed) as refused:
        await handle.signal("put", ["too late"])
    assert (refused.value.status, refused.value.reason) == (409, "run_not_active")
    assert await events_of(handle) == before


async def test_a_signal_to_nobody(scene: SdkHarness) -> None:
    with pytest.raises(WorkflowNotFound):
        await scene.client.signal_workflow("there-is-no-such-id", "put", args=[1])


async def test_a_repeated_request_id_is_not_deduplicated(scene: SdkHarness, server: ServerProcess) -> None:
    await scene.work([Collector])
    handle = await parked(scene, "collector", 2)
    body = {"input": ["again"], "request_id": "same"}
    async with server.client() as client:
        answers = [await post(client, f"/workflows/{handle.workflow_id}/signal/put", body) for _ in range(2)]
    assert [status for status, _ in answers] == [202, 202]
    first, second = (answer for _, answer in answers)
    assert first["outcome"] == second["outcome"] == "signal_received"
    assert first["signal_name"] == "put"
    assert second["command_sequence"] == first["command_sequence"] + 1
    assert await result_of(handle) == ["again", "again"]
