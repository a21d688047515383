"""What goes wrong, and as which exception of the SDK it reaches the caller or the workflow.

Contract: sdk-expectations 3, 5.1, 6.4, 6.5; engine-semantics 4.5, 10. Refused signals, queries and updates: see their features.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_workflow import (
    Client,
    InvalidArgument,
    NonRetryableError,
    ServerError,
    WorkflowAlreadyStarted,
    WorkflowFailed,
    WorkflowNotFound,
    activity,
    workflow,
)
from durable_workflow.errors import ActivityFailed, ChildWorkflowFailed, NamespaceNotFound, Unauthorized

from tests.sdk.features import completes_with, registered, until
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of, types
from tests.support.server import ServerProcess

pytestmark = pytest.mark.sdk


class CardDeclined(NonRetryableError):
    """A failure type of the application's own."""


@activity.defn(name="charge")
async def charge(amount: int) -> str:
    if amount > 100:
        raise CardDeclined(f"card declined for {amount}")
    return f"charged {amount}"


@activity.defn(name="refund")
async def refund(receipt: str) -> str:
    return f"refunded: {receipt}"


@activity.defn(name="silent")
async def silent() -> None:
    raise ValueError


@activity.defn(name="opaque")
async def opaque() -> Any:
    return object()


@workflow.defn(name="saga")
class Saga:
    """Takes back what it has done when a later step fails."""

    def run(self, ctx: Any, amounts: list[int]) -> Any:
        done = []
        try:
            for amount in amounts:
                done.append((yield ctx.schedule_activity("charge", [amount])))
        except ActivityFailed as error:
            refunds = []
            for receipt in reversed(done):
                refunds.append((yield ctx.schedule_activity("refund", [receipt])))
            return {
                "error": [str(error), error.exception_type, error.exception_class, error.failure_category],
                "ids": [bool(error.failure_id), bool(error.activity_execution_id), bool(error.activity_attempt_id)],
                "non_retryable": error.non_retryable,
                "refunds": refunds,
            }
        return done


@workflow.defn(name="careless")
class Careless:
    """Lets an activity's failure through."""

    def run(self, ctx: Any, name: str, arguments: list[Any]) -> Any:
        return (yield ctx.schedule_activity(name, arguments))


@workflow.defn(name="converting")
class Converting:
    """Turns its child's failure into one of its own."""

    def run(self, ctx: Any) -> Any:
        try:
            yield ctx.start_child_workflow("careless", ["charge", [500]])
        except ChildWorkflowFailed as error:
            raise RuntimeError(f"order failed: {error}") from error


@workflow.defn(name="two-arguments")
class TwoArguments:
    def run(self, ctx: Any, first: int, second: int) -> Any:
        yield ctx.start_timer(0)
        return first + second


@workflow.defn(name="opaque-result")
class OpaqueResult:
    """Its first deployment returns what no codec can encode."""

    answer: Any = object()

    def run(self, ctx: Any) -> Any:
        yield ctx.start_timer(0)
        return OpaqueResult.answer


@workflow.defn(name="messages")
class Messages:
    """Fails with a message of the caller's."""

    def run(self, ctx: Any, message: str) -> Any:
        yield ctx.start_timer(0)
        raise KeyError(message) if message == "key" else Exception(message)


WORKFLOWS = [Saga, Careless, Converting, TwoArguments, OpaqueResult, Messages]
ACTIVITIES = [charge, refund, silent, opaque]
WORKED = ["ActivityScheduled", "ActivityStarted", "ActivityCompleted"]


@pytest.fixture
async def ready(scene: SdkHarness) -> SdkHarness:
    """A scene with a worker that serves everything of this module."""
    await scene.work(WORKFLOWS, ACTIVITIES)
    return scene


# -- calls of the client -----------------------------------------------------------------------------------------------


async def test_an_id_that_is_taken(ready: SdkHarness) -> None:
    handle = await ready.start("saga", [1])
    with pytest.raises(WorkflowAlreadyStarted):
        await ready.start("saga", [1], workflow_id=handle.workflow_id)
    assert await result_of(handle) == ["charged 1"]
    with pytest.raises(WorkflowAlreadyStarted):
        await ready.start("saga", [1], workflow_id=handle.workflow_id)


async def test_a_workflow_that_is_not_there(scene: SdkHarness) -> None:
    client = scene.client
    for attempt in (
        client.describe_workflow("nobody"),
        client.list_workflow_runs("nobody"),
        client.get_workflow_handle("nobody").result(timeout=1),
    ):
        with pytest.raises(WorkflowNotFound):
            await attempt
    handle = await scene.start("saga", [1])
    with pytest.raises(ServerError) as missing:  # this SDK has no name for a run that is not there
        await client.describe_workflow_run(handle.workflow_id, "no-run")
    assert (missing.value.status, missing.value.reason()) == (404, "run_not_found")


async def test_a_namespace_that_is_not_there(server: ServerProcess) -> None:
    async with Client(server.url, token=server.token, namespace="nowhere") as client:
        with pytest.raises(NamespaceNotFound):
            await client.start_workflow(workflow_type="saga", task_queue="q", workflow_id="in-nowhere")
        with pytest.raises(NamespaceNotFound):
            await client.describe_namespace("nowhere")


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_the_token(server: ServerProcess, token: str | None) -> None:
    async with Client(server.url, token=token, namespace="default") as client:
        with pytest.raises(Unauthorized):
            await client.list_workflows()
        with pytest.raises(Unauthorized):
            await client.register_worker(worker_id="w", task_queue="q")


async def test_bad_arguments(scene: SdkHarness) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await scene.start("saga", [1], run_timeout_seconds=0)
    assert refused.value.errors is not None
    assert "run_timeout_seconds" in refused.value.errors
    with pytest.raises(InvalidArgument) as refused:
        await scene.start("", [1])
    assert refused.value.errors is not None
    assert "workflow_type" in refused.value.errors


async def test_a_result_that_is_not_there_yet(scene: SdkHarness) -> None:
    handle = await scene.start("saga", [1])  # nobody works
    with pytest.raises(TimeoutError, match="not terminal"):
        await handle.result(poll_interval=0.05, timeout=0.3)


# -- failures of workflows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "text", "name"), [("plain", "plain", "Exception"), ("key", "'key'", "KeyError")])
async def test_a_workflow_fails_with_its_own_exception(ready: SdkHarness, message: str, text: str, name: str) -> None:
    handle = await ready.start("messages", message)
    with pytest.raises(WorkflowFailed) as failed:
        await result_of(handle)
    assert (str(failed.value), failed.value.exception_class) == (text, name)
    assert (await handle.describe_run()).closed_reason == "failed"


async def test_an_uncaught_failure_of_an_activity(ready: SdkHarness) -> None:
    handle = await ready.start("careless", "charge", [500])
    with pytest.raises(WorkflowFailed, match="card declined for 500") as failed:
        await result_of(handle)
    assert failed.value.exception_class == "ActivityFailed"
    events = await events_of(handle)
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityFailed", "WorkflowFailed"]
    (reason,) = of_type(events, "ActivityFailed")
    assert (reason["exception_type"], reason["non_retryable"]) == ("CardDeclined", True)
    assert not {"file", "line", "trace", "class", "properties"} & reason["exception"].keys()


async def test_a_failure_through_two_levels(ready: SdkHarness) -> None:
    handle = await ready.start("converting")
    with pytest.raises(WorkflowFailed, match="order failed: card declined for 500") as failed:
        await result_of(handle)
    assert failed.value.exception_class == "RuntimeError"


async def test_a_workflow_compensates(ready: SdkHarness) -> None:
    handle = await ready.start("saga", [10, 20, 500, 30])
    expected = {
        "error": ["card declined for 500", "CardDeclined", "CardDeclined", "activity"],
        "ids": [True, True, True],
        "non_retryable": True,
        "refunds": ["refunded: charged 20", "refunded: charged 10"],
    }
    assert await result_of(handle) == expected
    events = await completes_with(Saga, handle, expected)
    failed = ["ActivityScheduled", "ActivityStarted", "ActivityFailed"]
    assert types(events) == [*WORKED, *WORKED, *failed, *WORKED, *WORKED, "WorkflowCompleted"]


async def test_a_failure_without_a_message(ready: SdkHarness) -> None:
    handle = await ready.start("careless", "silent", [])
    with pytest.raises(WorkflowFailed):
        await result_of(handle)
    events = await events_of(handle)
    assert types(events) == ["ActivityScheduled", "ActivityStarted", "ActivityFailed", "WorkflowFailed"]
    assert of_type(events, "ActivityFailed")[0]["exception_type"] == "ValueError"


async def test_an_activity_nobody_knows(scene: SdkHarness) -> None:
    # The workflow's worker serves all activities of its queue, but not this one: it says so.
    worker = await scene.work(WORKFLOWS, [refund])
    await registered(scene, worker)
    del worker.activities["refund"]
    handle = await scene.start("careless", "refund", ["x"])
    with pytest.raises(WorkflowFailed, match="refund"):
        await result_of(handle)
    assert types(await events_of(handle)) == ["ActivityScheduled", "ActivityStarted", "ActivityFailed", "WorkflowFailed"]


# -- failures of tasks: the run stays open and goes on with a better deployment ------------------------------------------


async def shows(scene: SdkHarness, workflow_id: str, text: str) -> None:
    """Wait until debug shows why the run is blocked."""

    async def shown() -> bool:
        return text in str(await scene.client._request("GET", f"/workflows/{workflow_id}/debug"))

    await until(shown, f"{text!r} in debug")


async def test_wrong_arguments_block_the_run(ready: SdkHarness) -> None:
    handle = await ready.start("two-arguments", 1)
    await shows(ready, handle.workflow_id, "missing 1 required positional argument")
    assert (await handle.describe()).status in ("pending", "waiting")
    assert types(await events_of(handle)) == []
    await handle.terminate()


async def test_a_result_nobody_can_encode_blocks_the_run(ready: SdkHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = await ready.start("opaque-result")
    await shows(ready, handle.workflow_id, "not JSON serializable")
    monkeypatch.setattr(OpaqueResult, "answer", "better")
    await handle.repair()
    assert await result_of(handle) == "better"
    names = types(await events_of(handle))
    assert names == ["TimerScheduled", "TimerFired", "RepairRequested", "WorkflowCompleted"]


async def test_changed_code_blocks_the_run_until_it_is_put_back(scene: SdkHarness) -> None:
    gate = asyncio.Event()

    @activity.defn(name="held")
    async def held() -> str:
        await gate.wait()
        return "done"

    def deployment(first: str) -> type:
        @workflow.defn(name="deployed")
        class Deployed:
            def run(self, ctx: Any) -> Any:
                if first == "timer":
                    yield ctx.start_timer(5)
                return (yield ctx.schedule_activity("held", []))

        return Deployed

    worker = await scene.work([deployment("activity")], [held])
    handle = await scene.start("deployed")
    await recorded(handle, "ActivityStarted")
    worker.workflows["deployed"] = deployment("timer")
    gate.set()
    await shows(scene, handle.workflow_id, "but the current workflow yielded timer")
    assert (await handle.describe()).status == "waiting"
    worker.workflows["deployed"] = deployment("activity")
    await handle.repair()
    assert await result_of(handle) == "done"
    assert types(await events_of(handle)) == [*WORKED, "RepairRequested", "WorkflowCompleted"]


async def test_a_result_of_an_activity_nobody_can_encode_ends_by_its_deadline(scene: SdkHarness) -> None:
    @workflow.defn(name="impatient")
    class Impatient:
        def run(self, ctx: Any) -> Any:
            try:
                yield ctx.schedule_activity("opaque", [], start_to_close_timeout=1)
            except ActivityFailed as error:
                return error.failure_category

    await scene.work([Impatient], [opaque])
    handle = await scene.start("impatient")
    assert await result_of(handle) == "timeout"
    assert types(await events_of(handle)) == ["ActivityScheduled", "ActivityStarted", "ActivityTimedOut", "WorkflowCompleted"]
