"""Steps that resolve at once, through the SDK: side effects, version markers, and the deterministic helpers of the context.

Contract: engine-semantics 2.5, 3.1, 12.2.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from datetime import datetime
from typing import Any

import pytest
from durable_workflow import activity, workflow

from tests.sdk.features import TaskWatcher, completes_with, decoded, replayed, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types

pytestmark = pytest.mark.sdk

_fresh = itertools.count()


@activity.defn(name="echo")
async def echo(value: Any) -> Any:
    return value


@workflow.defn(name="side-effects")
class SideEffects:
    """Captures values that differ at every call, between steps that make it replay."""

    def run(self, ctx: Any) -> Any:
        first = yield ctx.side_effect(lambda: f"value {next(_fresh)}")
        echoed = yield ctx.schedule_activity("echo", [first])
        second = yield ctx.side_effect(lambda: {"random": random.random(), "nested": [None, 1.5]})
        third = yield ctx.side_effect(lambda: None)
        yield ctx.start_timer(0)
        return {"first": first, "echoed": echoed, "second": second, "third": third}


@workflow.defn(name="only-side-effects")
class OnlySideEffects:
    def run(self, ctx: Any, count: int) -> Any:
        values = []
        for number in range(count):
            values.append((yield ctx.side_effect(lambda number=number: number * 2)))
        return values


@workflow.defn(name="helpers")
class Helpers:
    """Uses every helper before and after steps; the echoes are what the first pass of the code saw."""

    def run(self, ctx: Any) -> Any:
        first = [str(ctx.uuid4()), str(ctx.uuid7()), ctx.random().random(), ctx.now().isoformat()]
        echoed = yield ctx.schedule_activity("echo", [first])
        second = [str(ctx.uuid4()), str(ctx.uuid7()), ctx.random().randint(1, 10**9), ctx.now().isoformat()]
        echoed_again = yield ctx.schedule_activity("echo", [second])
        return {"now": [first, second], "then": [echoed, echoed_again]}


@workflow.defn(name="all-at-once")
class AllAtOnce:
    """A completion with one command of each immediate kind before its activity."""

    def run(self, ctx: Any) -> Any:
        value = yield ctx.side_effect(lambda: "captured")
        version = yield ctx.get_version("layout", 1, 3)
        yield ctx.upsert_search_attributes({"Tier": "gold"})
        return [value, version, (yield ctx.schedule_activity("echo", ["x"]))]


def versioned(newest: int | None) -> type:
    """The same workflow as deployed at some version; None: before there was one."""

    @workflow.defn(name="versioned")
    class Versioned:
        def run(self, ctx: Any) -> Any:
            seen = []
            if newest is not None:
                seen.append((yield ctx.get_version("change", 1, newest)))
            seen.append((yield ctx.schedule_activity("held", [])))
            return seen

    return Versioned


@workflow.defn(name="patched")
class Patched:
    def run(self, ctx: Any) -> Any:
        patched = yield ctx.patched("new-branch")
        result = yield ctx.schedule_activity("echo", ["new" if patched else "old"])
        deprecated = yield ctx.deprecate_patch("older-branch")
        yield ctx.start_timer(0)
        return [patched, result, deprecated]


@workflow.defn(name="talkative")
class Talkative:
    """Logs where the code has gone beyond what history holds: this SDK's logger speaks only after a step that is new."""

    def run(self, ctx: Any) -> Any:
        yield ctx.side_effect(lambda: 1)
        ctx.logger.warning("after the first step")
        yield ctx.schedule_activity("echo", [1])
        yield ctx.side_effect(lambda: 2)
        ctx.logger.warning("after the last step")
        return None


WORKFLOWS = [SideEffects, OnlySideEffects, Helpers, AllAtOnce, Patched, Talkative]
WORKED = ["ActivityScheduled", "ActivityStarted", "ActivityCompleted"]
TIMED = ["TimerScheduled", "TimerFired"]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS, [echo])
    return scene


async def test_side_effects_are_captured_once(ready: SdkHarness) -> None:
    handle = await ready.start("side-effects")
    result = await result_of(handle)
    assert result["first"] == result["echoed"]
    assert result["second"]["nested"] == [None, 1.5]
    assert result["third"] is None
    events = await completes_with(SideEffects, handle, result)
    assert types(events) == [
        "SideEffectRecorded",
        *WORKED,
        "SideEffectRecorded",
        "SideEffectRecorded",
        *TIMED,
        "WorkflowCompleted",
    ]
    values = [decoded(payload, "result") for payload in of_type(events, "SideEffectRecorded")]
    assert values == [result["first"], result["second"], None]
    steps = [payload["sequence"] for payload in of_type(events, "SideEffectRecorded")]
    assert steps == sorted(set(steps))


async def test_a_workflow_of_side_effects_only(ready: SdkHarness) -> None:
    handle = await ready.start("only-side-effects", 20)
    result = await result_of(handle)
    assert result == [number * 2 for number in range(20)]
    events = await completes_with(OnlySideEffects, handle, result)
    assert types(events) == ["SideEffectRecorded"] * 20 + ["WorkflowCompleted"]


async def test_helpers_are_the_same_at_every_replay(ready: SdkHarness) -> None:
    handle = await ready.start("helpers")
    result = await result_of(handle)
    assert result["now"] == result["then"]
    (first, second) = result["now"]
    started = datetime.fromisoformat((await events_of(handle))[1]["timestamp"])
    for moment in (first[3], second[3]):
        assert datetime.fromisoformat(moment) == started
    assert uuid.UUID(first[0]).version == 4
    assert uuid.UUID(first[1]).version == 7
    assert uuid.UUID(first[1]).int >> 80 == int(started.timestamp() * 1000)
    assert len({*first[:2], *second[:2]}) == 4
    await completes_with(Helpers, handle, result)


async def test_helpers_differ_from_run_to_run(ready: SdkHarness) -> None:
    results = await asyncio.gather(*[result_of(await ready.start("helpers")) for _ in range(3)])
    assert len({result["now"][0][0] for result in results}) == 3


async def test_immediate_steps_stand_before_the_activity(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, WORKFLOWS, [echo], interceptors=[watch])
    handle = await scene.start("all-at-once")
    assert await result_of(handle) == ["captured", 3, "x"]
    events = await completes_with(AllAtOnce, handle, ["captured", 3, "x"])
    assert types(events) == [
        "SideEffectRecorded",
        "VersionMarkerRecorded",
        "SearchAttributesUpserted",
        *WORKED,
        "WorkflowCompleted",
    ]
    steps = [event["payload"]["sequence"] for event in events[2:6]]
    assert steps == list(range(steps[0], steps[0] + 4))
    assert handle.run_id is not None
    assert len(watch.of_run(handle.run_id)) == 2


async def test_patches(ready: SdkHarness) -> None:
    handle = await ready.start("patched")
    result = await result_of(handle)
    assert result[:2] == [True, "new"]
    events = await completes_with(Patched, handle, result)
    first, second = of_type(events, "VersionMarkerRecorded")
    assert (first["change_id"], first["version"], first["min_supported"], first["max_supported"]) == ("new-branch", 1, -1, 1)
    assert second["change_id"] == "older-branch"


async def test_a_run_keeps_the_version_it_began_with(scene: SdkHarness) -> None:
    gate = asyncio.Event()

    @activity.defn(name="held")
    async def held() -> str:
        await gate.wait()
        return "done"

    older = await scene.work([versioned(1)], [held])
    handle = await scene.start("versioned")
    await recorded(handle, "ActivityStarted")
    # The newer code is deployed while the activity runs on the older worker, which answers no workflow task any more.
    older.workflows.update({"versioned": versioned(2)})
    gate.set()
    assert await result_of(handle) == [1, "done"]
    await completes_with(versioned(2), handle, [1, "done"])
    fresh = await scene.start("versioned")
    assert await result_of(fresh) == [2, "done"]
    assert of_type(await events_of(fresh), "VersionMarkerRecorded")[0]["version"] == 2


async def test_replay_finds_changed_code(ready: SdkHarness) -> None:
    handle = await ready.start("all-at-once")
    await result_of(handle)
    events = await events_of(handle)

    @workflow.defn(name="all-at-once")
    class Changed:
        def run(self, ctx: Any) -> Any:
            yield ctx.schedule_activity("echo", ["moved to the front"])
            return (yield ctx.side_effect(lambda: "captured"))

    with pytest.raises(Exception, match="yielded"):
        replayed(Changed, events)


async def test_replay_logs_nothing_twice(ready: SdkHarness, caplog: pytest.LogCaptureFixture) -> None:
    handle = await ready.start("talkative")
    await result_of(handle)
    said = [record.getMessage() for record in caplog.records if record.name == "durable_workflow.workflow.replay"]
    assert said == ["after the first step", "after the last step"]
