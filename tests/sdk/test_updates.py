"""Updates through the SDK: accepted and completed waits, refusals, failures, repeats, closed runs, continue-as-new.

Contract: engine-semantics 7.3, control-plane 5.9.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_workflow import InvalidArgument, ServerError, UpdateRejected, WorkflowHandle, WorkflowNotFound, activity, workflow
from durable_workflow.workflow import ContinueAsNew

from tests.sdk.features import TaskWatcher, completes_with, decoded, handle_of_run, run_handles, until, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types

pytestmark = pytest.mark.sdk


class Counter:
    """A number that updates change."""

    def __init__(self) -> None:
        self.total = 0
        self.over = False

    @workflow.update("add")
    def add(self, amount: int) -> dict[str, int]:
        self.total += amount
        return {"total": self.total}

    @add.validator  # type: ignore[attr-defined]  # the decorator returns more than it is typed to
    def validate_add(self, amount: int) -> None:
        if not isinstance(amount, int) or amount < 0:
            raise ValueError("amount must be a natural number")

    @workflow.update("break")
    def break_down(self) -> None:
        raise LookupError("the handler broke down")

    @workflow.update("nothing")
    def nothing(self) -> None:
        return None

    @workflow.signal("finish")
    def finish(self) -> None:
        self.over = True


@workflow.defn(name="counter")
class WaitingCounter(Counter):
    """Lives until it is told to finish."""

    def run(self, ctx: Any) -> Any:
        yield ctx.wait_condition(lambda: self.over, key="over")
        return self.total


@workflow.defn(name="busy-counter")
class BusyCounter(Counter):
    """Lives as long as an activity."""

    def run(self, ctx: Any) -> Any:
        answer = yield ctx.schedule_activity("held", [])
        return [answer, self.total]


@workflow.defn(name="renewed-counter")
class RenewedCounter(Counter):
    """Continues as new once, right away, then waits."""

    def run(self, ctx: Any, generation: int) -> Any:
        if generation == 1:
            return ContinueAsNew(arguments=[2])
        yield ctx.wait_condition(lambda: self.total > 0, key="counted")
        return [generation, self.total]


@workflow.defn(name="short-lived")
class ShortLived(Counter):
    """Ends at its first task."""

    def run(self, ctx: Any, fail: bool) -> Any:
        if fail:
            raise RuntimeError("the end")
        yield from ()  # a workflow is a generator
        return "the end"


WORKFLOWS = [WaitingCounter, BusyCounter, RenewedCounter, ShortLived]
DONE = ["UpdateAccepted", "UpdateApplied", "UpdateCompleted"]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS)
    return scene


async def waiting(scene: SdkHarness) -> WorkflowHandle:
    """A counter that waits."""
    handle = await scene.start("counter")
    await recorded(handle, "ConditionWaitOpened")
    return handle


async def finished(handle: WorkflowHandle) -> Any:
    """Tell the counter to finish; its result."""
    await handle.signal("finish")
    return await result_of(handle)


async def test_an_update_that_is_waited_for(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    answer = await handle.update("add", [5], wait_for="completed")
    assert (answer["outcome"], answer["update_status"], answer["result"]) == ("update_completed", "completed", {"total": 5})
    assert decoded({"arguments": answer["result_envelope"]}) == {"total": 5}
    assert (answer["wait_for"], answer["wait_timed_out"]) == ("completed", False)
    assert answer["accepted_at"] <= answer["applied_at"] <= answer["closed_at"]
    await recorded(handle, "ConditionWaitOpened", 2)
    assert await finished(handle) == 5
    events = await completes_with(WaitingCounter, handle, 5)
    assert types(events) == [
        "ConditionWaitOpened",
        *DONE,
        "ConditionWaitOpened",
        "SignalReceived",
        "ConditionWaitSatisfied",
        "WorkflowCompleted",
    ]
    accepted, applied, completed = (of_type(events, name)[0] for name in DONE)
    assert {payload["update_id"] for payload in (accepted, applied, completed)} == {answer["update_id"]}
    assert decoded(accepted) == decoded(applied) == [5]
    assert accepted["ordering_state"] == "ready"
    assert "sequence" not in accepted
    assert applied["sequence"] == completed["sequence"] == answer["workflow_sequence"]
    assert decoded(completed, "result") == {"total": 5}


async def test_an_update_that_is_only_accepted(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    answer = await handle.update("add", [7])
    assert (answer["update_status"], answer["wait_for"], answer["result"]) == ("accepted", "accepted", None)
    assert answer["command_status"] == "accepted"
    await recorded(handle, "UpdateCompleted")
    assert await finished(handle) == 7


async def test_the_task_of_an_update(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, WORKFLOWS, interceptors=[watch])
    handle = await waiting(scene)
    answer = await handle.update("add", [5], wait_for="completed")
    await recorded(handle, "ConditionWaitOpened", 2)
    assert handle.run_id is not None
    first, of_update, follow_up = watch.of_run(handle.run_id)
    assert first["workflow_update_id"] is None
    assert of_update["workflow_update_id"] == answer["update_id"]
    assert of_update["workflow_wait_kind"] == "update"
    assert of_update["open_wait_id"] == f"update:{answer['update_id']}"
    assert (of_update["resume_source_kind"], of_update["resume_source_id"]) == ("workflow_update", answer["update_id"])
    assert of_update["workflow_command_id"] == answer["command_id"]
    assert follow_up["workflow_update_id"] is None
    assert follow_up["resume_source_kind"] is None


async def test_an_update_without_a_result(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    answer = await handle.update("nothing", wait_for="completed")
    assert (answer["update_status"], answer["result"]) == ("completed", None)


async def test_a_validator_refuses(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    with pytest.raises(UpdateRejected, match="amount must be a natural number"):
        await handle.update("add", [-1], wait_for="completed")
    assert (await handle.update("add", [2], wait_for="completed"))["result"] == {"total": 2}
    assert await finished(handle) == 2
    events = await completes_with(WaitingCounter, handle, 2)
    assert [name for name in types(events) if name.startswith("Update")] == ["UpdateAccepted", "UpdateCompleted", *DONE]
    refused, _ = of_type(events, "UpdateCompleted")
    assert refused["message"].startswith("update validator failed: ")
    assert refused["exception_type"] == "ValueError"


async def test_a_handler_fails(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    with pytest.raises(InvalidArgument, match="the handler broke down"):
        await handle.update("break", wait_for="completed")
    assert await finished(handle) == 0
    events = await completes_with(WaitingCounter, handle, 0)
    assert of_type(events, "UpdateApplied") == []
    (failed,) = of_type(events, "UpdateCompleted")
    assert failed["message"].startswith("update handler failed: ")
    assert (failed["exception_type"], failed["non_retryable"]) == ("LookupError", True)
    assert failed["failure_id"]


async def test_an_unknown_update_is_failed_by_the_worker(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    with pytest.raises(InvalidArgument, match="unknown update"):
        await handle.update("no-such-update", [1], wait_for="completed")
    assert await finished(handle) == 0
    await completes_with(WaitingCounter, handle, 0)


async def test_a_repeated_request_id_is_the_same_update(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    options: dict[str, Any] = {"wait_for": "completed", "request_id": "pay-once"}
    first = await handle.update("add", [3], **options)
    again = await handle.update("add", [3], **options)
    assert again["update_id"] == first["update_id"]
    assert (again["update_status"], again["result"]) == ("completed", {"total": 3})
    other = await handle.update("add", [3], wait_for="completed", request_id="pay-again")
    assert other["update_id"] != first["update_id"]
    assert other["result"] == {"total": 6}
    assert await finished(handle) == 6
    assert len(of_type(await events_of(handle), "UpdateAccepted")) == 2
    closed = await handle.update("add", [3], **options)  # a repeat is answered on a closed run, too
    assert (closed["update_status"], closed["result"]) == ("completed", {"total": 3})


async def test_repeats_at_the_same_moment(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    answers = await asyncio.gather(*(handle.update("add", [1], wait_for="completed", request_id="the-same") for _ in range(8)))
    assert len({answer["update_id"] for answer in answers}) == 1
    assert [answer["result"] for answer in answers] == [{"total": 1}] * 8
    assert await finished(handle) == 1


async def test_a_failed_update_stays_failed_when_repeated(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    for _ in range(2):
        with pytest.raises(UpdateRejected):
            await handle.update("add", [-1], wait_for="completed", request_id="bad")
    assert len(of_type(await events_of(handle), "UpdateAccepted")) == 1


async def test_many_updates_at_once(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    answers = await asyncio.gather(
        *(handle.update("add", [1], wait_for="completed", wait_timeout_seconds=30) for _ in range(15))
    )
    in_order = sorted(answers, key=lambda answer: answer["command_sequence"])
    assert [answer["result"]["total"] for answer in in_order] == list(range(1, 16))
    assert await finished(handle) == 15


async def test_updates_and_signals_together(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, WORKFLOWS, interceptors=[watch])
    handle = await waiting(scene)

    async def add() -> Any:
        return await handle.update("add", [1], wait_for="completed", wait_timeout_seconds=30)

    async def disturb() -> None:
        await handle.signal("nobody-listens")

    await asyncio.gather(*(part() for part in (add, disturb) * 10))
    assert await finished(handle) == 10
    assert handle.run_id is not None
    watch.of_run(handle.run_id)


async def test_an_update_before_the_first_task(scene: SdkHarness) -> None:
    handle = await scene.start("counter")
    early = asyncio.create_task(handle.update("add", [4], wait_for="completed", wait_timeout_seconds=30))
    await recorded(handle, "UpdateAccepted")
    await scene.work(WORKFLOWS)
    assert (await early)["result"] == {"total": 4}
    assert await finished(handle) == 4
    events = await events_of(handle)
    assert types(events)[:2] == ["UpdateAccepted", "ConditionWaitOpened"]


async def test_an_update_while_a_task_is_leased(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, WORKFLOWS, interceptors=[watch])
    handle = await scene.start("counter")
    await watch.held()
    pending = asyncio.create_task(handle.update("add", [4], wait_for="completed", wait_timeout_seconds=30))
    await recorded(handle, "UpdateAccepted")
    watch.release()
    assert (await pending)["result"] == {"total": 4}
    assert await finished(handle) == 4
    assert handle.run_id is not None
    watch.of_run(handle.run_id)


async def test_an_update_of_a_run_blocked_on_an_activity(scene: SdkHarness) -> None:
    gate = asyncio.Event()

    @activity.defn(name="held")
    async def held() -> str:
        await gate.wait()
        return "done"

    await scene.work(WORKFLOWS, [held])
    handle = await scene.start("busy-counter")
    await recorded(handle, "ActivityStarted")
    assert (await handle.update("add", [4], wait_for="completed"))["result"] == {"total": 4}
    gate.set()
    assert await result_of(handle) == ["done", 4]
    events = await completes_with(BusyCounter, handle, ["done", 4])
    assert types(events) == ["ActivityScheduled", "ActivityStarted", *DONE, "ActivityCompleted", "WorkflowCompleted"]


async def test_the_wait_runs_out_and_the_update_goes_on(scene: SdkHarness) -> None:
    handle = await scene.start("counter")
    answer = await handle.update("add", [4], wait_for="completed", wait_timeout_seconds=1, request_id="slow")
    assert (answer["update_status"], answer["wait_timed_out"], answer["outcome"]) == ("accepted", True, None)
    assert answer["wait_timeout_seconds"] == 1
    await scene.work(WORKFLOWS)
    again = await handle.update("add", [4], wait_for="completed", wait_timeout_seconds=30, request_id="slow")
    assert (again["update_id"], again["result"]) == (answer["update_id"], {"total": 4})
    assert await finished(handle) == 4


async def test_an_update_waits_across_continue_as_new(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, WORKFLOWS, interceptors=[watch])
    handle = await scene.start("renewed-counter", 1)
    await watch.held()
    pending = asyncio.create_task(handle.update("add", [9], wait_for="completed", wait_timeout_seconds=30))
    accepted = await recorded(handle, "UpdateAccepted")
    watch.release()
    answer = await pending
    assert (answer["update_status"], answer["result"]) == ("completed", {"total": 9})
    assert await result_of(handle_of_run(scene, handle.workflow_id)) == [2, 9]
    old, new = await run_handles(scene, handle.workflow_id)
    assert types(await events_of(old)) == ["UpdateAccepted", "WorkflowContinuedAsNew"]
    events = await events_of(new)
    assert [event["event_type"] for event in events][:2] == ["WorkflowStarted", "UpdateAccepted"]
    ids = {payload["update_id"] for payload in of_type([*accepted, *events], "UpdateAccepted")}
    assert ids == {answer["update_id"]}


@pytest.mark.parametrize("fail", [False, True])
async def test_the_run_closes_before_the_update_is_applied(scene: SdkHarness, fail: bool) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, WORKFLOWS, interceptors=[watch])
    handle = await scene.start("short-lived", fail)
    await watch.held()
    pending = asyncio.create_task(handle.update("add", [4], wait_for="completed", wait_timeout_seconds=30))
    await recorded(handle, "UpdateAccepted")
    watch.release()
    word = "failed" if fail else "completed"
    with pytest.raises(InvalidArgument, match=f"Workflow run closed as {word} before accepted update add could be applied."):
        await pending
    events = await events_of(handle)
    assert types(events) == ["UpdateAccepted", f"Workflow{word.capitalize()}", "UpdateCompleted"]
    (ended,) = of_type(events, "UpdateCompleted")
    assert ended["terminal_reason"] == word
    assert "sequence" not in ended


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_the_run_is_stopped_before_the_update_is_applied(scene: SdkHarness, how: str) -> None:
    handle = await scene.start("counter")
    pending = asyncio.create_task(handle.update("add", [4], wait_for="completed", wait_timeout_seconds=30))
    await recorded(handle, "UpdateAccepted")
    await (handle.cancel() if how == "cancel" else handle.terminate())
    with pytest.raises(InvalidArgument, match="before accepted update add could be applied"):
        await pending
    assert types(await events_of(handle))[-1] == "UpdateCompleted"


async def test_a_closed_run_takes_no_update(ready: SdkHarness) -> None:
    handle = await ready.start("short-lived", False)
    assert await result_of(handle) == "the end"
    before = await events_of(handle)
    with pytest.raises(ServerError) as refused:
        await handle.update("add", [1], wait_for="completed")
    assert (refused.value.status, refused.value.reason()) == (409, "run_not_active")
    assert await events_of(handle) == before


async def test_an_update_to_nobody(scene: SdkHarness) -> None:
    with pytest.raises(WorkflowNotFound):
        await scene.client.update_workflow("there-is-no-such-id", "add", args=[1])


async def test_bad_options(ready: SdkHarness) -> None:
    handle = await waiting(ready)
    with pytest.raises(InvalidArgument) as refused:
        await handle.update("add", [1], wait_for="some-day")
    assert refused.value.errors is not None
    assert "wait_for" in refused.value.errors
    with pytest.raises(InvalidArgument):
        await handle.update("add", [1], wait_for="completed", wait_timeout_seconds=0)

    async def quiet() -> bool:
        return of_type(await events_of(handle), "UpdateAccepted") == []

    assert await until(quiet, "no update")
