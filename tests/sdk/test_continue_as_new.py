"""Chains of runs through the SDK: continue-as-new with other arguments, types and queues, what moves on and what stays.

Contract: engine-semantics 2.5, 7.2, 8.4, 9.3; sdk-expectations 5.1.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_workflow import ContinueAsNew, WorkflowFailed, activity, workflow

from tests.sdk.features import TaskWatcher, completes_with, decoded, described, handle_of_run, replayed, run_handles, work
from tests.sdk.harness import RESULT_SECONDS, SdkHarness, events_of, of_type, recorded, result_of, types

pytestmark = pytest.mark.sdk


@activity.defn(name="poll-source")
async def poll_source(iteration: int) -> dict[str, Any]:
    return {"done": iteration >= 3, "iteration": iteration}


@workflow.defn(name="polling")
class Polling:
    """The guide's example: polls a source, a run an iteration."""

    def run(self, ctx: Any, *args: Any) -> Any:
        iteration = args[0] if args else 0
        result = yield ctx.schedule_activity("poll-source", [iteration])
        if result.get("done"):
            return result
        return ContinueAsNew(arguments=[iteration + 1])


@workflow.defn(name="at-once")
class AtOnce:
    """A long chain of runs without a step."""

    def run(self, ctx: Any, left: int) -> Any:
        if left:
            return ctx.continue_as_new(left - 1)
        yield from ()
        return "end of the chain"


@workflow.defn(name="yielding")
class Yielding:
    """Yields its continuation in place of returning it."""

    def run(self, ctx: Any, again: bool) -> Any:
        value = yield ctx.side_effect(lambda: 7)
        yield ctx.start_timer(0)
        if again:
            yield ctx.continue_as_new(False)
        return value


@workflow.defn(name="caterpillar")
class Caterpillar:
    """Becomes another type on another queue."""

    def run(self, ctx: Any, queue: str) -> Any:
        yield ctx.start_timer(0)
        return ctx.continue_as_new({"was": "caterpillar"}, workflow_type="butterfly", task_queue=queue)


@workflow.defn(name="butterfly")
class Butterfly:
    def run(self, ctx: Any, before: dict[str, str]) -> Any:
        yield ctx.start_timer(0)
        return {**before, "is": "butterfly"}


@workflow.defn(name="mailbox")
class Mailbox:
    """Continues as new while signals come in; counts what it has seen in all its runs."""

    def __init__(self) -> None:
        self.letters: list[Any] = []

    @workflow.signal("letter")
    def letter(self, value: Any) -> None:
        self.letters.append(value)

    def run(self, ctx: Any, seen: list[Any], count: int) -> Any:
        if seen == []:
            yield ctx.schedule_activity("gate", [])
            return ContinueAsNew(arguments=[["first run over"], count])
        yield ctx.wait_condition(lambda: len(self.letters) >= count, key="letters")
        return [*seen, *self.letters]


@workflow.defn(name="endless")
class Endless:
    """Never ends by itself, a second a run."""

    def run(self, ctx: Any) -> Any:
        yield ctx.start_timer(1)
        return ContinueAsNew()


@workflow.defn(name="falling")
class Falling:
    """Fails in its third run."""

    def run(self, ctx: Any, number: int) -> Any:
        yield ctx.start_timer(0)
        if number == 3:
            raise ValueError("third run")
        return ContinueAsNew(arguments=[number + 1])


WORKFLOWS = [Polling, AtOnce, Yielding, Caterpillar, Mailbox, Endless, Falling]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS, [poll_source])
    return scene


async def test_a_chain_ends_with_the_result_of_its_last_run(ready: SdkHarness) -> None:
    handle = await ready.start("polling", memo={"who": "ada"}, search_attributes={"Tier": "gold"})
    newest = handle_of_run(ready, handle.workflow_id)
    assert await result_of(newest) == {"done": True, "iteration": 3}
    assert await result_of(handle) is None  # the handle of the first run: nothing ended there, as this SDK sees it
    runs = await run_handles(ready, handle.workflow_id)
    assert len(runs) == 4
    assert runs[0].run_id == handle.run_id
    worked = ["ActivityScheduled", "ActivityStarted", "ActivityCompleted"]
    for number, run in enumerate(runs):
        events = await events_of(run)
        names = [event["event_type"] for event in events]
        ending = "WorkflowCompleted" if number == 3 else "WorkflowContinuedAsNew"
        assert names == [*(["StartAccepted"] if number == 0 else []), "WorkflowStarted", *worked, ending]
        (started,) = of_type(events, "WorkflowStarted")
        assert decoded(started) == ([number] if number else [])
        assert (started["memo"], started["search_attributes"]) == ({"who": "ada"}, {"Tier": "gold"})
        assert started.get("continued_from_run_id") == (runs[number - 1].run_id if number else None)
        (command,) = replayed(Polling, events)
        assert type(command).__name__ == ("CompleteWorkflow" if number == 3 else "ContinueAsNew")
        if number < 3:
            (left,) = of_type(events, "WorkflowContinuedAsNew")
            assert (left["continued_to_run_id"], left["continued_to_run_number"]) == (runs[number + 1].run_id, number + 2)
            assert left["closed_reason"] == "continued"
        shown = await run.describe_run()
        assert (shown.status, shown.run_number, shown.run_count) == ("completed", number + 1, 4)
        assert (shown.closed_reason, shown.is_current_run) == ("completed" if number == 3 else "continued", number == 3)
        assert (shown.memo, shown.search_attributes) == ({"who": "ada"}, {"Tier": "gold"})
    await completes_with(Polling, runs[-1], {"done": True, "iteration": 3})


async def test_a_long_chain(ready: SdkHarness) -> None:
    # A describe between two runs never takes the end of the first for the end of the workflow.
    handle = await ready.start("at-once", 25)
    newest = handle_of_run(ready, handle.workflow_id)
    assert await newest.result(poll_interval=0, timeout=RESULT_SECONDS) == "end of the chain"
    runs = await run_handles(ready, handle.workflow_id)
    assert len({run.run_id for run in runs}) == 26
    listed = await ready.client.list_workflows(workflow_type="at-once", query=handle.workflow_id)
    assert [execution.workflow_id for execution in listed.executions].count(handle.workflow_id) >= 1
    assert (await newest.describe()).run_id == runs[-1].run_id


async def test_a_yielded_continuation(ready: SdkHarness) -> None:
    handle = await ready.start("yielding", True)
    assert await result_of(handle_of_run(ready, handle.workflow_id)) == 7
    first, _ = await run_handles(ready, handle.workflow_id)
    assert types(await events_of(first)) == ["SideEffectRecorded", "TimerScheduled", "TimerFired", "WorkflowContinuedAsNew"]


async def test_another_type_on_another_queue(scene: SdkHarness) -> None:
    await scene.work([Caterpillar])
    elsewhere = f"{scene.queue}-air"
    handle = await scene.start("caterpillar", elsewhere)
    await recorded(handle, "WorkflowContinuedAsNew")
    newest = handle_of_run(scene, handle.workflow_id)
    pending = await newest.describe()
    assert (pending.status, pending.workflow_type) == ("pending", "butterfly")
    await scene.work([Butterfly], queue=elsewhere)
    assert await result_of(newest) == {"was": "caterpillar", "is": "butterfly"}
    first, last = await run_handles(scene, handle.workflow_id)
    assert ((await first.describe_run()).workflow_type, (await last.describe_run()).workflow_type) == (
        "caterpillar",
        "butterfly",
    )
    assert (await last.describe_run()).task_queue == elsewhere


async def test_signals_that_no_task_has_seen_move_on(scene: SdkHarness) -> None:
    gate = asyncio.Event()

    @activity.defn(name="gate")
    async def held() -> None:
        await gate.wait()

    watch = TaskWatcher()
    await work(scene, [Mailbox], [held], interceptors=[watch])
    handle = await scene.start("mailbox", [], 3)
    await recorded(handle, "ActivityStarted")
    await handle.signal("letter", ["seen by the first run"])
    watch.hold()
    gate.set()
    await watch.held()  # the task that continues as new is leased, and shows the first letter
    for number in (1, 2):
        await handle.signal("letter", [number])
    watch.release()
    await recorded(handle, "WorkflowContinuedAsNew")
    newest = handle_of_run(scene, handle.workflow_id)
    await newest.signal("letter", [3])
    assert await result_of(newest) == ["first run over", 1, 2, 3]
    old, new = await run_handles(scene, handle.workflow_id)
    sent = of_type(await events_of(old), "SignalReceived")
    assert [decoded(payload) for payload in sent] == [["seen by the first run"], [1], [2]]
    events = await events_of(new)
    assert [event["event_type"] for event in events][:3] == ["WorkflowStarted", "SignalReceived", "SignalReceived"]
    moved = of_type(events, "SignalReceived")[:2]
    assert [payload["signal_id"] for payload in moved] == [payload["signal_id"] for payload in sent[1:]]
    assert {payload["workflow_run_id"] for payload in moved} == {new.run_id}


async def test_the_execution_deadline_spans_the_chain(ready: SdkHarness) -> None:
    handle = await ready.start("endless", execution_timeout_seconds=3, run_timeout_seconds=2)
    newest = handle_of_run(ready, handle.workflow_id)
    with pytest.raises(WorkflowFailed, match="Workflow execution deadline expired at"):
        await result_of(newest)
    runs = await run_handles(ready, handle.workflow_id)
    assert len(runs) >= 2  # each within its own deadline
    deadlines = [of_type(await events_of(run), "WorkflowStarted")[0] for run in runs]
    assert len({payload["execution_deadline_at"] for payload in deadlines}) == 1
    assert len({payload["run_deadline_at"] for payload in deadlines}) > 1
    shown = await runs[-1].describe_run()
    assert (shown.status, shown.closed_reason) == ("failed", "timed_out")


async def test_a_chain_that_fails(ready: SdkHarness) -> None:
    handle = await ready.start("falling", 1)
    newest = handle_of_run(ready, handle.workflow_id)
    with pytest.raises(WorkflowFailed, match="third run"):
        await result_of(newest)
    assert [(await run.describe_run()).status for run in await run_handles(ready, handle.workflow_id)] == [
        "completed",
        "completed",
        "failed",
    ]


async def test_a_chain_is_cancelled_at_its_present_run(ready: SdkHarness) -> None:
    handle = await ready.start("endless")
    await recorded(handle, "WorkflowContinuedAsNew")
    newest = handle_of_run(ready, handle.workflow_id)
    await newest.cancel(reason="no end in sight")
    await described(newest, "cancelled")
    runs = await run_handles(ready, handle.workflow_id)
    assert [event["event_type"] for event in await events_of(runs[-1])][-1] == "WorkflowCancelled"
    reasons = [(await run.describe_run()).closed_reason for run in runs]
    assert reasons == [*["continued"] * (len(runs) - 1), "cancelled"]


async def test_the_id_of_a_chain_is_taken_until_it_ends(ready: SdkHarness) -> None:
    handle = await ready.start("endless")
    await recorded(handle, "WorkflowContinuedAsNew")
    again = await ready.start("endless", workflow_id=handle.workflow_id, duplicate_policy="use-existing")
    assert again.run_id in {run.run_id for run in await run_handles(ready, handle.workflow_id)}
    assert again.run_id != handle.run_id
    await handle.terminate()
