"""Lists of activities, timers and children: any order of ending gives the results in list order.

Contract: engine-semantics 2.6 (V3), 3.2, 12.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from durable_workflow import ActivityRetryPolicy, activity, workflow
from durable_workflow.errors import ActivityFailed, ChildWorkflowFailed

from tests.sdk.features import TaskWatcher, completes_with, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types

pytestmark = pytest.mark.sdk


@workflow.defn(name="mixed-list")
class MixedList:
    """One of each kind twice; which ends first is up to the test."""

    def run(self, ctx: Any) -> Any:
        return (
            yield [
                ctx.schedule_activity("gated", ["a"]),
                ctx.start_child_workflow("gated-child", ["b"]),
                ctx.start_timer(0),
                ctx.schedule_activity("gated", ["c"]),
                ctx.start_child_workflow("gated-child", ["d"]),
                ctx.start_timer(1),
            ]
        )


@workflow.defn(name="gated-child")
class GatedChild:
    def run(self, ctx: Any, name: str) -> Any:
        return ["child", (yield ctx.schedule_activity("gated", [name]))]


@workflow.defn(name="rounds")
class Rounds:
    """List after list, each with the results of the one before."""

    def run(self, ctx: Any, width: int, rounds: int) -> Any:
        values = list(range(width))
        for _ in range(rounds):
            values = yield [ctx.schedule_activity("plus", [value]) for value in values]
            yield [ctx.start_timer(0), ctx.start_timer(0)]
        return values


@workflow.defn(name="failing-list")
class FailingList:
    """Two members fail; the workflow is told of the first in list order, once all have ended."""

    def run(self, ctx: Any) -> Any:
        retry = ActivityRetryPolicy(max_attempts=2, initial_interval_seconds=0)
        try:
            yield [
                ctx.schedule_activity("gated", ["a"]),
                ctx.start_child_workflow("failing", ["from a child"]),
                ctx.schedule_activity("fails", [], retry_policy=retry),
                ctx.schedule_activity("gated", ["b"]),
            ]
        except (ActivityFailed, ChildWorkflowFailed) as error:
            echoed = yield ctx.schedule_activity("plus", [1])
            return [type(error).__name__, str(error), echoed]


@workflow.defn(name="failing")
class Failing:
    def run(self, ctx: Any, message: str) -> Any:
        yield ctx.start_timer(0)
        raise ValueError(message)


@workflow.defn(name="empty-list")
class EmptyList:
    def run(self, ctx: Any) -> Any:
        nothing = yield []
        one = yield [ctx.schedule_activity("plus", [1])]
        return [nothing, one]


@workflow.defn(name="twins")
class Twins:
    """The same list twice in a row is two lists."""

    def run(self, ctx: Any) -> Any:
        first = yield [ctx.schedule_activity("plus", [1]), ctx.schedule_activity("plus", [2])]
        second = yield [ctx.schedule_activity("plus", [1]), ctx.schedule_activity("plus", [2])]
        return [first, second]


@workflow.defn(name="wide")
class Wide:
    def run(self, ctx: Any, count: int) -> Any:
        values = yield [ctx.schedule_activity("plus", [number]) for number in range(count)]
        return sum(values)


WORKFLOWS = [MixedList, GatedChild, Rounds, FailingList, Failing, EmptyList, Twins, Wide]


class Gates:
    """One gate a name, for the activity `gated`; the other activities stand open."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = {}
        self.started = 0
        self.calls = 0

    def __getitem__(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def open_all(self) -> None:
        for name in "abcd":
            self[name].set()

    def activities(self) -> list[Any]:
        @activity.defn(name="gated")
        async def gated(name: str) -> str:
            self.started += 1
            await self[name].wait()
            return name

        @activity.defn(name="plus")
        async def plus(value: int) -> int:
            self.calls += 1
            return value + 1

        @activity.defn(name="fails")
        async def fails() -> None:
            raise LookupError("from an activity")

        return [gated, plus, fails]


@pytest.fixture
def gates() -> Iterator[Gates]:
    """Opened at the end."""
    made = Gates()
    yield made
    made.open_all()


@pytest.fixture
def watch() -> TaskWatcher:
    """Sees the tasks of the module's worker."""
    return TaskWatcher()


@pytest.fixture
async def ready(scene: SdkHarness, gates: Gates, watch: TaskWatcher) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await work(scene, WORKFLOWS, gates.activities(), interceptors=[watch], max_concurrent_activity_tasks=20)
    return scene


@pytest.mark.parametrize("order", ["abcd", "dcba", "cadb", "bdac"])
async def test_a_mixed_list_in_any_order(ready: SdkHarness, gates: Gates, watch: TaskWatcher, order: str) -> None:
    handle = await ready.start("mixed-list")
    for number, name in enumerate(order):
        gates[name].set()
        ended = number + 1
        async with asyncio.timeout(60):
            while True:
                events = await events_of(handle)
                if len(of_type(events, "ActivityCompleted")) + len(of_type(events, "ChildRunCompleted")) >= ended:
                    break
                await asyncio.sleep(0.02)
    expected = ["a", ["child", "b"], None, "c", ["child", "d"], None]
    assert await result_of(handle) == expected
    events = await events_of(handle)
    names = types(events)
    assert names.count("ActivityScheduled") == names.count("ActivityCompleted") == 2
    assert names.count("ChildWorkflowScheduled") == names.count("ChildRunStarted") == names.count("ChildRunCompleted") == 2
    assert names.count("TimerScheduled") == names.count("TimerFired") == 2
    scheduled = [event["payload"]["sequence"] for event in events if event["event_type"].endswith("Scheduled")]
    assert scheduled == list(range(scheduled[0], scheduled[0] + 6))
    # What the worker was shown stands in the order of the list.
    assert handle.run_id is not None
    last = watch.of_run(handle.run_id)[-1]
    endings = ("ActivityCompleted", "ChildRunCompleted", "TimerFired")
    shown = [event["payload"]["sequence"] for event in last["history_events"] if event["event_type"] in endings]
    assert shown == scheduled


async def test_the_same_list_twice_is_two_lists(ready: SdkHarness, gates: Gates) -> None:
    handle = await ready.start("twins")
    assert await result_of(handle) == [[2, 3], [2, 3]]
    assert gates.calls == 4


async def test_lists_after_lists(ready: SdkHarness, gates: Gates) -> None:
    handle = await ready.start("rounds", 6, 4)
    assert await result_of(handle) == [number + 4 for number in range(6)]
    assert gates.calls == 24  # each activity once, however often the list was repeated
    names = types(await events_of(handle))
    assert (names.count("ActivityCompleted"), names.count("TimerFired")) == (24, 8)


async def test_a_list_with_failures_waits_for_all_and_tells_the_first(ready: SdkHarness, gates: Gates) -> None:
    handle = await ready.start("failing-list")
    await recorded(handle, "ActivityFailed")
    await recorded(handle, "ChildRunFailed")
    gates["b"].set()
    await recorded(handle, "ActivityCompleted")
    assert (await handle.describe()).status == "waiting"
    gates["a"].set()
    assert await result_of(handle) == ["ChildWorkflowFailed", "from a child", 2]
    names = types(await events_of(handle))
    assert (names.count("ActivityRetryScheduled"), names.count("ActivityFailed")) == (1, 1)


async def test_an_empty_list_and_a_list_of_one(ready: SdkHarness) -> None:
    handle = await ready.start("empty-list")
    assert await result_of(handle) == [[], [2]]
    await completes_with(EmptyList, handle, [[], [2]])


async def test_a_wide_list(ready: SdkHarness, gates: Gates) -> None:
    handle = await ready.start("wide", 200)
    assert await result_of(handle) == sum(range(1, 201))
    assert gates.calls == 200
    names = types(await events_of(handle))
    assert names.count("ActivityScheduled") == names.count("ActivityCompleted") == 200


async def test_a_list_over_several_workers(scene: SdkHarness, gates: Gates) -> None:
    for _ in range(3):
        await scene.work(WORKFLOWS, gates.activities())
    handles = [await scene.start("rounds", 5, 3) for _ in range(6)]
    results = await asyncio.gather(*(result_of(handle) for handle in handles))
    assert results == [[number + 3 for number in range(5)]] * 6
    assert gates.calls == 6 * 15
