"""Children through the SDK: results, failures, retries, timeouts, other queues, continued children, and their parent's end.

Contract: engine-semantics 2.5, 8.1 to 8.5, 9.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest
from durable_workflow import ChildWorkflowRetryPolicy, ServerError, WorkflowHandle, WorkflowNotFound, activity, workflow
from durable_workflow.errors import ChildWorkflowFailed, WorkflowCancelled, WorkflowFailed, WorkflowTerminated
from durable_workflow.workflow import ContinueAsNew

from tests.sdk.features import TaskWatcher, completes_with, decoded, described, handle_of_run, run_handles, until, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types

pytestmark = pytest.mark.sdk

STARTED = ["ChildWorkflowScheduled", "ChildRunStarted"]


@activity.defn(name="echo")
async def echo(value: Any) -> Any:
    return value


@workflow.defn(name="parent")
class Parent:
    """Starts one child with these options; its failure is the result, as the SDK shows it to the workflow."""

    def run(self, ctx: Any, child: str, arguments: list[Any], options: dict[str, Any]) -> Any:
        options = dict(options)
        policy = options.pop("retry", None)
        if policy is not None:
            options["retry_policy"] = ChildWorkflowRetryPolicy(**policy)
        try:
            return (yield ctx.start_child_workflow(child, arguments, **options))
        except ChildWorkflowFailed as error:
            return {
                "kind": type(error).__name__,
                "message": str(error),
                "class": error.exception_class,
                "category": error.failure_category,
                "type": error.child_workflow_type,
            }


@workflow.defn(name="trusting-parent")
class TrustingParent:
    """Does not catch its child's failure."""

    def run(self, ctx: Any, child: str, arguments: list[Any]) -> Any:
        return (yield ctx.start_child_workflow(child, arguments))


@workflow.defn(name="double")
class Double:
    def run(self, ctx: Any, value: int) -> Any:
        doubled = yield ctx.schedule_activity("echo", [value * 2])
        return doubled


@workflow.defn(name="silent-child")
class SilentChild:
    """Takes nothing and returns nothing."""

    def run(self, ctx: Any) -> Any:
        yield ctx.start_timer(0)


@workflow.defn(name="failing-child")
class FailingChild:
    def run(self, ctx: Any, message: str, late: bool) -> Any:
        if late:
            yield ctx.start_timer(0)
        yield from ()
        raise LookupError(message)


@workflow.defn(name="waiting-child")
class WaitingChild:
    """Waits until it is told a value."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @workflow.signal("tell")
    def tell(self, value: Any) -> None:
        self.told.append(value)

    def run(self, ctx: Any) -> Any:
        yield ctx.wait_condition(lambda: bool(self.told), key="told")
        return self.told


@workflow.defn(name="continuing-child")
class ContinuingChild:
    """Runs several times in a row."""

    def run(self, ctx: Any, left: int) -> Any:
        echoed = yield ctx.schedule_activity("echo", [left])
        if left:
            return ContinueAsNew(arguments=[left - 1])
        return f"the last of them: {echoed}"


@workflow.defn(name="tree")
class Tree:
    """A child of a child of a child."""

    def run(self, ctx: Any, depth: int) -> Any:
        if depth == 0:
            return ["leaf"]
        below = yield ctx.start_child_workflow("tree", [depth - 1])
        return [depth, *below]


@workflow.defn(name="brood")
class Brood:
    """Many children at once."""

    def run(self, ctx: Any, count: int) -> Any:
        results = yield [ctx.start_child_workflow("double", [number]) for number in range(count)]
        return results


WORKFLOWS = [
    Parent,
    TrustingParent,
    Double,
    SilentChild,
    FailingChild,
    WaitingChild,
    ContinuingChild,
    Tree,
    Brood,
]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS, [echo])
    return scene


async def child_of(scene: SdkHarness, parent: WorkflowHandle, number: int = 0) -> WorkflowHandle:
    """The child's run that the parent started as its number-th; the parent's event may be there a moment earlier."""
    events = await recorded(parent, "ChildRunStarted", number + 1)
    started = of_type(events, "ChildRunStarted")[number]
    child = handle_of_run(scene, started["child_workflow_instance_id"], started["child_workflow_run_id"])

    async def exists() -> bool:
        try:
            await child.describe_run()
        except (WorkflowNotFound, ServerError) as missing:
            assert isinstance(missing, WorkflowNotFound) or missing.status == 404
            return False
        return True

    await until(exists, "the child's run")
    return child


def names_of(events: list[dict[str, Any]]) -> list[str]:
    """All event types; a child's run has no StartAccepted."""
    return [event["event_type"] for event in events]


# -- results -----------------------------------------------------------------------------------------------------------


async def test_a_child_gives_its_result(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, WORKFLOWS, [echo], interceptors=[watch])
    handle = await scene.start("parent", "double", [21], {})
    assert await result_of(handle) == 42
    events = await completes_with(Parent, handle, 42)
    assert types(events) == [*STARTED, "ChildRunCompleted", "WorkflowCompleted"]
    scheduled, started, completed = (of_type(events, name)[0] for name in [*STARTED, "ChildRunCompleted"])
    same = ("sequence", "workflow_link_id", "child_call_id", "child_workflow_instance_id", "child_workflow_type")
    assert len({tuple(payload[name] for name in same) for payload in (scheduled, started, completed)}) == 1
    assert (started["child_workflow_type"], completed["child_status"]) == ("double", "completed")
    assert decoded(completed, "result") == decoded(completed, "output") == 42
    assert started.get("retry_policy") is started.get("timeout_policy") is None

    child = await child_of(scene, handle)
    own = await events_of(child)
    assert names_of(own) == [
        "WorkflowStarted",
        "ActivityScheduled",
        "ActivityStarted",
        "ActivityCompleted",
        "WorkflowCompleted",
    ]
    first = own[0]["payload"]
    assert (first["parent_workflow_instance_id"], first["parent_workflow_run_id"]) == (handle.workflow_id, handle.run_id)
    assert (first["parent_sequence"], first["child_call_id"]) == (scheduled["sequence"], scheduled["child_call_id"])
    await completes_with(Double, child, 42)
    run = await child.describe_run()
    assert (run.status, run.run_number, run.task_queue, run.output) == ("completed", 1, scene.queue, 42)
    assert handle.run_id is not None
    _, woken = watch.of_run(handle.run_id)
    assert (woken["workflow_wait_kind"], woken["child_call_id"]) == ("child", scheduled["child_call_id"])


async def test_a_child_without_arguments_and_result(ready: SdkHarness) -> None:
    handle = await ready.start("parent", "silent-child", [], {})
    assert await result_of(handle) is None
    events = await completes_with(Parent, handle, None)
    assert types(events) == [*STARTED, "ChildRunCompleted", "WorkflowCompleted"]


async def test_a_child_on_another_queue(scene: SdkHarness) -> None:
    await scene.work([Parent])
    elsewhere = f"{scene.queue}-elsewhere"
    handle = await scene.start("parent", "double", [4], {"task_queue": elsewhere})
    child = await child_of(scene, handle)
    assert (await child.describe()).status == "pending"
    await scene.work([Double], [echo], queue=elsewhere)
    assert await result_of(handle) == 8
    assert (await child.describe_run()).task_queue == elsewhere


async def test_a_child_of_a_child(ready: SdkHarness) -> None:
    handle = await ready.start("tree", 4)
    assert await result_of(handle) == [4, 3, 2, 1, "leaf"]
    below = handle
    for expected in ([4, 3, 2, 1, "leaf"], [3, 2, 1, "leaf"], [2, 1, "leaf"], [1, "leaf"]):
        await completes_with(Tree, below, expected)
        below = await child_of(ready, below)
    await completes_with(Tree, below, ["leaf"])


async def test_many_children_at_once(ready: SdkHarness) -> None:
    handle = await ready.start("brood", 20)
    assert await result_of(handle) == [number * 2 for number in range(20)]
    events = await events_of(handle)
    assert types(events)[:40] == STARTED * 20
    assert len(of_type(events, "ChildRunCompleted")) == 20
    assert len({payload["child_workflow_instance_id"] for payload in of_type(events, "ChildRunCompleted")}) == 20


async def test_a_child_takes_signals_queries_and_a_parent_that_waits(ready: SdkHarness) -> None:
    handle = await ready.start("parent", "waiting-child", [], {})
    child = await child_of(ready, handle)
    await recorded(child, "ConditionWaitOpened")
    assert (await handle.describe()).status == "waiting"
    assert (await handle.describe_run()).wait_kind == "child"
    await child.signal("tell", ["news"])
    assert await result_of(handle) == ["news"]
    await completes_with(WaitingChild, child, ["news"])


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
async def test_a_failing_child(ready: SdkHarness, late: bool) -> None:
    handle = await ready.start("parent", "failing-child", ["not found", late], {})
    expected = {
        "kind": "ChildWorkflowFailed",
        "message": "not found",
        "class": "LookupError",
        "category": "child_workflow",
        "type": "failing-child",
    }
    assert await result_of(handle) == expected
    events = await completes_with(Parent, handle, expected)
    assert types(events) == [*STARTED, "ChildRunFailed", "WorkflowCompleted"]
    (failed,) = of_type(events, "ChildRunFailed")
    assert (failed["child_status"], failed["closed_reason"], failed["exception_type"]) == ("failed", "failed", "LookupError")
    assert not {"class", "file", "line", "trace", "properties"} & failed["exception"].keys()
    with pytest.raises(WorkflowFailed, match="not found"):
        await result_of(await child_of(ready, handle))


async def test_an_uncaught_failure_of_a_child_fails_the_parent(ready: SdkHarness) -> None:
    handle = await ready.start("trusting-parent", "trusting-parent", ["failing-child", ["deep down", False]])
    with pytest.raises(WorkflowFailed, match="deep down") as failed:
        await result_of(handle)
    assert failed.value.exception_class == "ChildWorkflowFailed"
    events = await events_of(handle)
    assert types(events) == [*STARTED, "ChildRunFailed", "WorkflowFailed"]


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_a_stopped_child(ready: SdkHarness, how: str) -> None:
    handle = await ready.start("parent", "waiting-child", [], {})
    child = await child_of(ready, handle)
    await recorded(child, "ConditionWaitOpened")
    await (child.cancel(reason="enough") if how == "cancel" else child.terminate(reason="enough"))
    word = "cancelled" if how == "cancel" else "terminated"
    result = await result_of(handle)
    assert (result["kind"], result["category"]) == (f"ChildWorkflow{word.capitalize()}", word)
    events = await completes_with(Parent, handle, result)
    assert types(events) == [*STARTED, f"ChildRun{word.capitalize()}", "WorkflowCompleted"]
    with pytest.raises(WorkflowCancelled if how == "cancel" else WorkflowTerminated, match="enough"):
        await result_of(child)


async def test_a_child_nobody_works_on_times_out(ready: SdkHarness) -> None:
    options = {"task_queue": f"{ready.queue}-nobody", "run_timeout_seconds": 1, "execution_timeout_seconds": 50}
    handle = await ready.start("parent", "double", [1], options)
    result = await result_of(handle)
    assert (result["kind"], result["category"]) == ("ChildWorkflowFailed", "timeout")
    assert "run deadline expired" in result["message"]
    events = await completes_with(Parent, handle, result)
    assert types(events) == [*STARTED, "ChildRunFailed", "WorkflowCompleted"]
    (started,) = of_type(events, "ChildRunStarted")
    assert (started["run_timeout_seconds"], started["execution_timeout_seconds"]) == (1, 50)
    assert started["timeout_policy"]["run_timeout_seconds"] == 1
    (failed,) = of_type(events, "ChildRunFailed")
    assert (failed["child_status"], failed["closed_reason"]) == ("failed", "timed_out")


# -- retries -----------------------------------------------------------------------------------------------------------


def attempts(failures: int) -> type:
    """A child whose first runs fail: its attempts are counted outside, in the worker."""
    made: list[int] = []

    @workflow.defn(name="trying-child")
    class Trying:
        def run(self, ctx: Any, value: str) -> Any:
            yield from ()
            made.append(1)
            if len(made) <= failures:
                raise ValueError(f"attempt {len(made)}")
            return f"{value} after {len(made)}"

    return Trying


RETRY = {"max_attempts": 3, "initial_interval_seconds": 1, "backoff_coefficient": 1}


async def test_a_failing_child_is_retried(scene: SdkHarness) -> None:
    await scene.work([Parent, attempts(2)])
    handle = await scene.start("parent", "trying-child", ["done"], {"retry": RETRY})
    assert await result_of(handle) == "done after 3"
    events = await completes_with(Parent, handle, "done after 3")
    assert types(events) == [*STARTED, "ChildRunStarted", "ChildRunStarted", "ChildRunCompleted", "WorkflowCompleted"]
    started = of_type(events, "ChildRunStarted")
    assert started[0]["retry_policy"]["max_attempts"] == 3
    assert started[0].get("retry_attempt") is None
    assert [payload["retry_attempt"] for payload in started[1:]] == [2, 3]
    assert [payload["retry_backoff_seconds"] for payload in started[1:]] == [1, 1]
    runs = [payload["child_workflow_run_id"] for payload in started]
    assert [payload["retry_of_child_workflow_run_id"] for payload in started[1:]] == runs[:2]
    assert of_type(events, "ChildRunCompleted")[0]["child_workflow_run_id"] == runs[2]
    handles = await run_handles(scene, started[0]["child_workflow_instance_id"])
    assert [each.run_id for each in handles] == runs
    for number, each in enumerate(handles):
        own = await events_of(each)
        assert names_of(own) == ["WorkflowStarted", "WorkflowFailed" if number < 2 else "WorkflowCompleted"]
        if number:
            before = (await events_of(handles[number - 1]))[-1]["timestamp"]
            waited = datetime.fromisoformat(own[-1]["timestamp"]) - datetime.fromisoformat(before)
            assert waited.total_seconds() >= 1
            assert own[0]["payload"]["retry_of_child_workflow_run_id"] == runs[number - 1]


async def test_attempts_of_a_child_run_out(scene: SdkHarness) -> None:
    await scene.work([Parent, attempts(9)])
    retry = {"max_attempts": 2, "initial_interval_seconds": 0}
    handle = await scene.start("parent", "trying-child", ["x"], {"retry": retry})
    result = await result_of(handle)
    assert (result["kind"], result["message"], result["class"]) == ("ChildWorkflowFailed", "attempt 2", "ValueError")
    events = await completes_with(Parent, handle, result)
    assert types(events) == [*STARTED, "ChildRunStarted", "ChildRunFailed", "WorkflowCompleted"]
    last = of_type(events, "ChildRunStarted")[-1]["child_workflow_run_id"]
    assert of_type(events, "ChildRunFailed")[0]["child_workflow_run_id"] == last


async def test_a_listed_error_type_of_a_child_is_not_retried(scene: SdkHarness) -> None:
    await scene.work([Parent, attempts(9)])
    retry = {"max_attempts": 5, "initial_interval_seconds": 0, "non_retryable_error_types": ["ValueError"]}
    handle = await scene.start("parent", "trying-child", ["x"], {"retry": retry})
    assert (await result_of(handle))["message"] == "attempt 1"
    assert types(await events_of(handle)) == [*STARTED, "ChildRunFailed", "WorkflowCompleted"]


async def test_a_timed_out_child_is_retried(scene: SdkHarness) -> None:
    await scene.work([Parent])
    elsewhere = f"{scene.queue}-late"
    retry = {"max_attempts": 2, "initial_interval_seconds": 0}
    options = {"task_queue": elsewhere, "run_timeout_seconds": 2, "retry": retry}
    handle = await scene.start("parent", "double", [3], options)
    child = await child_of(scene, handle, 1)  # the second attempt
    await child.terminate(reason="seen")
    assert (await result_of(handle))["kind"] == "ChildWorkflowTerminated"
    events = await events_of(handle)
    assert types(events) == [*STARTED, "ChildRunStarted", "ChildRunTerminated", "WorkflowCompleted"]
    (first, _) = await run_handles(scene, child.workflow_id)
    assert names_of(await events_of(first)) == ["WorkflowStarted", "WorkflowFailed", "WorkflowTimedOut"]


async def test_a_stopped_child_is_not_retried(ready: SdkHarness) -> None:
    handle = await ready.start("parent", "waiting-child", [], {"retry": RETRY})
    child = await child_of(ready, handle)
    await child.cancel()
    assert (await result_of(handle))["kind"] == "ChildWorkflowCancelled"
    assert len(await run_handles(ready, child.workflow_id)) == 1


# -- continue-as-new ---------------------------------------------------------------------------------------------------


async def test_a_child_that_continues_as_new(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    await work(scene, WORKFLOWS, [echo], interceptors=[watch])
    handle = await scene.start("parent", "continuing-child", [3], {})
    assert await result_of(handle) == "the last of them: 0"
    events = await completes_with(Parent, handle, "the last of them: 0")
    assert types(events) == [*STARTED, *["ChildRunStarted"] * 3, "ChildRunCompleted", "WorkflowCompleted"]
    started = of_type(events, "ChildRunStarted")
    assert len({payload["child_workflow_instance_id"] for payload in started}) == 1
    runs = await run_handles(scene, started[0]["child_workflow_instance_id"])
    assert [payload["child_workflow_run_id"] for payload in started] == [run.run_id for run in runs]
    assert of_type(events, "ChildRunCompleted")[0]["child_workflow_run_id"] == runs[-1].run_id
    for number, run in enumerate(runs):
        own = await events_of(run)
        assert names_of(own)[-1] == ("WorkflowContinuedAsNew" if number < 3 else "WorkflowCompleted")
        assert own[0]["payload"]["parent_workflow_run_id"] == handle.run_id
    assert handle.run_id is not None
    assert len(watch.of_run(handle.run_id)) == 2  # the parent was not woken in between


# -- the parent's end --------------------------------------------------------------------------------------------------


@workflow.defn(name="leaving-parent")
class LeavingParent:
    """Starts a child of each policy, and a timer that never fires."""

    def run(self, ctx: Any, policies: list[str]) -> Any:
        yield [
            *(ctx.start_child_workflow("waiting-child", [], parent_close_policy=policy) for policy in policies),
            ctx.start_timer(600),
        ]


@pytest.mark.parametrize("ending", ["cancelled", "terminated", "timed_out"])
async def test_what_a_parents_end_does_to_its_children(scene: SdkHarness, ending: str) -> None:
    await scene.work([LeavingParent, WaitingChild])
    policies = ["terminate", "abandon", "request_cancel"]
    options = {"run_timeout_seconds": 3} if ending == "timed_out" else {}
    handle = await scene.start("leaving-parent", policies, **options)
    children = [await child_of(scene, handle, number) for number in range(3)]
    await asyncio.gather(*(recorded(child, "ConditionWaitOpened") for child in children))
    if ending == "cancelled":
        await handle.cancel(reason="no more")
    elif ending == "terminated":
        await handle.terminate(reason="no more")
    await described(handle, "failed" if ending == "timed_out" else ending)
    terminated, abandoned, cancelled = children
    await described(terminated, "terminated")
    await described(cancelled, "cancelled")
    told = "Parent workflow closed ({}); parent-close policy: {}."
    with pytest.raises(WorkflowTerminated) as ended:
        await result_of(terminated)
    assert str(ended.value) == told.format(ending, "terminate")
    with pytest.raises(WorkflowCancelled) as stopped:
        await result_of(cancelled)
    assert str(stopped.value) == told.format(ending, "request_cancel")
    assert names_of(await events_of(terminated))[-2:] == ["TerminateRequested", "WorkflowTerminated"]
    assert names_of(await events_of(cancelled))[-2:] == ["CancelRequested", "WorkflowCancelled"]

    assert (await abandoned.describe()).status == "waiting"
    await abandoned.signal("tell", ["alone"])
    assert await result_of(abandoned) == ["alone"]

    events = await events_of(handle)
    assert types(events)[-2:] == ["ParentClosePolicyApplied"] * 2
    applied = of_type(events, "ParentClosePolicyApplied")
    assert [payload["policy"] for payload in applied] == ["terminate", "request_cancel"]
    assert [payload["child_run_id"] for payload in applied] == [terminated.run_id, cancelled.run_id]
    assert not {"ChildRunCompleted", "ChildRunTerminated", "ChildRunCancelled"} & set(types(events))


class Redeployed:
    """A parent whose newer code ends with its children unresolved: this SDK lets code that did not change do that nowhere."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.newer = False

    def activity(self) -> Any:
        @activity.defn(name="held")
        async def held() -> None:
            await self.gate.wait()

        return held

    def workflow(self) -> type:
        deployed = self

        @workflow.defn(name="redeployed")
        class Deployed:
            def run(self, ctx: Any, policies: list[str | None], ending: str) -> Any:
                if ending == "renewed":
                    yield ctx.start_timer(0)
                    return "the second run"
                if not deployed.newer:
                    options = [{"parent_close_policy": policy} if policy else {} for policy in policies]
                    children = [ctx.start_child_workflow("waiting-child", [], **option) for option in options]
                    yield [*children, ctx.schedule_activity("held", [])]
                if ending == "fail":
                    raise ValueError("out of patience")
                yield ContinueAsNew(arguments=[policies, "renewed"])

        return Deployed


async def test_a_failing_parent_ends_its_children(scene: SdkHarness) -> None:
    deployed = Redeployed()
    await scene.work([deployed.workflow(), WaitingChild], [deployed.activity()])
    handle = await scene.start("redeployed", ["terminate", None, "request_cancel"], "fail")
    terminated, left, cancelled = [await child_of(scene, handle, number) for number in range(3)]
    await asyncio.gather(*(recorded(child, "ConditionWaitOpened") for child in (terminated, left, cancelled)))
    deployed.newer = True
    deployed.gate.set()
    with pytest.raises(WorkflowFailed, match="out of patience"):
        await result_of(handle)
    await described(terminated, "terminated")
    await described(cancelled, "cancelled")
    events = await events_of(handle)
    assert types(events)[-4:] == ["ActivityCompleted", "WorkflowFailed", *["ParentClosePolicyApplied"] * 2]
    reasons = [payload["reason"] for payload in of_type(events, "ParentClosePolicyApplied")]
    assert reasons == [
        "Parent workflow closed (failed); parent-close policy: terminate.",
        "Parent workflow closed (failed); parent-close policy: request_cancel.",
    ]
    # Without a policy a child is abandoned.
    assert of_type(events, "ChildWorkflowScheduled")[1]["parent_close_policy"] == "abandon"
    await left.signal("tell", ["alone"])
    assert await result_of(left) == ["alone"]
    assert await events_of(handle) == events


async def test_a_parent_that_continues_as_new_leaves_its_children_alone(scene: SdkHarness) -> None:
    deployed = Redeployed()
    await scene.work([deployed.workflow(), WaitingChild], [deployed.activity()])
    handle = await scene.start("redeployed", ["terminate"], "continue")
    child = await child_of(scene, handle)
    await recorded(child, "ConditionWaitOpened")
    deployed.newer = True
    deployed.gate.set()
    assert await result_of(handle_of_run(scene, handle.workflow_id)) == "the second run"
    assert (await child.describe()).status == "waiting"
    await child.signal("tell", ["orphan"])
    assert await result_of(child) == ["orphan"]
    old, new = await run_handles(scene, handle.workflow_id)
    assert types(await events_of(old))[-2:] == ["ActivityCompleted", "WorkflowContinuedAsNew"]
    assert "ChildRunCompleted" not in names_of(await events_of(new))


async def test_a_closing_reaches_grandchildren(scene: SdkHarness) -> None:
    @workflow.defn(name="chain-of-command")
    class Chain:
        def run(self, ctx: Any, depth: int) -> Any:
            if depth == 0:
                yield ctx.start_timer(600)
            yield ctx.start_child_workflow("chain-of-command", [depth - 1], parent_close_policy="terminate")

    await scene.work([Chain])
    handle = await scene.start("chain-of-command", 3)
    chain = [handle]
    for _ in range(3):
        chain.append(await child_of(scene, chain[-1]))
    await recorded(chain[-1], "TimerScheduled")
    await handle.terminate(reason="from above")
    for below in chain:
        await described(below, "terminated")
    for below in chain[:-1]:
        assert names_of(await events_of(below))[-2:] == ["WorkflowTerminated", "ParentClosePolicyApplied"]
    assert names_of(await events_of(chain[-1]))[-3:] == ["TerminateRequested", "TimerCancelled", "WorkflowTerminated"]
