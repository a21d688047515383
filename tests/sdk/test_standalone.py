"""Standalone activities and bridge events through the SDK: its guide's calls, its errors, its view of the answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from durable_workflow import WorkflowCancelled, WorkflowFailed, WorkflowTerminated, activity, workflow
from durable_workflow.client import StandaloneActivityHandle
from durable_workflow.errors import ActivityCancelled, InvalidArgument, NonRetryableError, ServerError, WorkflowAlreadyStarted
from durable_workflow.history_bundle_verify import verify_bundle_json

from tests.sdk.harness import SdkHarness, recorded, result_of

pytestmark = pytest.mark.sdk

SECONDS = 60.0


class Bench:
    """Activities that a test can steer; the same serve workflows and run alone."""

    def __init__(self) -> None:
        self.attempts: list[int] = []
        self.failures = 0
        self.begun = asyncio.Event()
        self.told_to_stop = asyncio.Event()

    def activities(self) -> list[Any]:
        @activity.defn(name="scan")
        async def scan(parcel: str, weight: float) -> dict[str, Any]:
            attempt = activity.context().info.attempt_number
            self.attempts.append(attempt)
            if attempt <= self.failures:
                raise ValueError(f"failure {attempt}")
            return {"parcel": parcel, "weight": weight, "attempt": attempt}

        @activity.defn(name="fatal")
        async def fatal() -> None:
            raise NonRetryableError("no way")

        @activity.defn(name="endless")
        async def endless() -> None:
            self.begun.set()
            try:
                while True:
                    await activity.context().heartbeat({"at": "work"})
                    await asyncio.sleep(0.05)
            except ActivityCancelled:
                self.told_to_stop.set()
                raise

        return [scan, fatal, endless]


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield Bench()


async def started(scene: SdkHarness, name: str, **options: Any) -> StandaloneActivityHandle:
    """Start an activity alone on the scene's queue."""
    return await scene.client.start_activity(activity_type=name, task_queue=scene.queue, **options)


async def outcome(handle: StandaloneActivityHandle) -> Any:
    return await handle.result(poll_interval=0.05, timeout=SECONDS)


@workflow.defn(name="scanning")
class Scanning:
    """Calls the same activity from inside."""

    def run(self, ctx: Any) -> Any:
        return (yield ctx.schedule_activity("scan", ["p-7", 1.5]))


async def test_one_activity_serves_both(scene: SdkHarness, bench: Bench) -> None:
    await scene.work([Scanning], bench.activities())
    handle = await started(scene, "scan", input=["p-7", 1.5], business_key="b-1", activity_class="label")
    assert handle.workflow_type == "dw.standalone_activity" and handle.activity_execution_id and handle.workflow_run_id
    alone = await outcome(handle)
    inside = await result_of(await scene.start("scanning"))
    assert alone == inside == {"parcel": "p-7", "weight": 1.5, "attempt": 1}
    shown = await handle.describe()
    assert (shown.status, shown.activity_status, shown.closed_reason) == ("completed", "completed", "completed")
    assert (shown.activity_type, shown.activity_class, shown.business_key) == ("scan", "label", "b-1")
    assert (shown.task_queue, shown.namespace, shown.attempt_count) == (scene.queue, "default", 1)
    assert shown.result == alone and shown.started_at and shown.closed_at
    assert shown.workflow_run_id == handle.workflow_run_id
    again = scene.client.get_activity_handle(handle.activity_id)
    assert await outcome(again) == alone


async def test_retries(scene: SdkHarness, bench: Bench) -> None:
    bench.failures = 2
    await scene.work([], bench.activities())
    policy = {"max_attempts": 3, "backoff_seconds": [0, 1]}
    handle = await started(scene, "scan", input=["p", 1.0], retry_policy=policy, start_to_close_timeout_seconds=30)
    assert (await outcome(handle))["attempt"] == 3
    assert bench.attempts == [1, 2, 3]
    assert (await handle.describe()).attempt_count == 3


@pytest.mark.parametrize("policy", [None, {"max_attempts": 5}])
async def test_failures(scene: SdkHarness, bench: Bench, policy: dict[str, Any] | None) -> None:
    await scene.work([], bench.activities())
    handle = await started(scene, "fatal", input=[], retry_policy=policy)
    with pytest.raises(WorkflowFailed):
        await outcome(handle)
    shown = await handle.describe()
    assert (shown.status, shown.activity_status, shown.closed_reason) == ("failed", "failed", "failed")
    assert (shown.attempt_count, shown.result) == (1, None)


async def test_timeouts(scene: SdkHarness) -> None:
    handle = await started(scene, "nobody", schedule_to_start_timeout_seconds=1, schedule_to_close_timeout_seconds=60)
    with pytest.raises(WorkflowFailed):
        await outcome(handle)
    shown = await handle.describe()
    assert (shown.closed_reason, shown.activity_status) == ("timed_out", "failed")
    assert shown.schedule_to_start_deadline_at and shown.schedule_to_close_deadline_at
    waiting = await started(scene, "nobody")
    with pytest.raises(TimeoutError):
        await waiting.result(poll_interval=0.05, timeout=0.3)


async def test_cancel(scene: SdkHarness, bench: Bench) -> None:
    await scene.work([], bench.activities())
    handle = await started(scene, "endless", input=[], heartbeat_timeout_seconds=30)
    await asyncio.wait_for(bench.begun.wait(), SECONDS)
    async with asyncio.timeout(SECONDS):
        while (await handle.describe()).last_heartbeat_at is None:
            await asyncio.sleep(0.05)
    await handle.cancel(reason="enough")
    await asyncio.wait_for(bench.told_to_stop.wait(), SECONDS)
    with pytest.raises(WorkflowCancelled):
        await outcome(handle)
    shown = await handle.describe()
    assert (shown.status, shown.activity_status) == ("cancelled", "cancelled")


async def test_terminate(scene: SdkHarness) -> None:
    handle = await started(scene, "nobody", activity_id=f"alone-{secrets.token_hex(4)}")
    await scene.client.terminate_workflow(handle.activity_id)
    with pytest.raises(WorkflowTerminated):
        await outcome(handle)


async def test_ids_and_lists(scene: SdkHarness) -> None:
    name = f"alone-{secrets.token_hex(4)}"
    first = await started(scene, "nobody", activity_id=name)
    assert first.activity_id == name
    with pytest.raises(WorkflowAlreadyStarted):
        await started(scene, "nobody", activity_id=name)
    with pytest.raises(ServerError) as missing:
        await scene.client.describe_activity("nothing-there")
    assert missing.value.status == 404
    with pytest.raises(InvalidArgument):
        await started(scene, "nobody", activity_id="a b")
    running = await scene.client.list_activities(status="running", page_size=1)
    assert [item.activity_id for item in running.activities] == [name] and running.activity_count == 1
    await first.cancel()
    second = await started(scene, "nobody", activity_id=name)
    assert second.workflow_run_id != first.workflow_run_id
    page = await scene.client.list_activities(page_size=1)
    assert page.activities[0].workflow_run_id == second.workflow_run_id
    page = await scene.client.list_activities(page_size=1, next_page_token=page.next_page_token)
    assert (page.activities[0].workflow_run_id, page.activities[0].status) == (first.workflow_run_id, "cancelled")
    failed = await scene.client.list_activities(status="failed", page_size=1)
    assert failed.activities[0].activity_id == name
    await second.cancel()


@pytest.mark.parametrize("end", ["running", "completed", "failed", "timed_out", "cancelled"])
async def test_exports_of_host_runs_are_sound(scene: SdkHarness, bench: Bench, end: str) -> None:
    bench.failures = 1
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "completed": ("scan", {"input": ["p", 1.0], "retry_policy": {"max_attempts": 2}}),
        "failed": ("fatal", {"input": []}),
        "timed_out": ("nobody", {"schedule_to_start_timeout_seconds": 1}),
    }
    name, options = kinds.get(end, ("nobody", {}))
    if name != "nobody":
        await scene.work([], bench.activities())
    handle = await started(scene, name, **options)
    if end == "cancelled":
        await handle.cancel()
    async with asyncio.timeout(SECONDS):
        while end != "running" and (await handle.describe()).closed_reason != end:
            await asyncio.sleep(0.05)
    path = f"/api/workflows/{handle.activity_id}/runs/{handle.workflow_run_id}/history/export"
    response = await scene.client._http.get(path, headers=scene.client._headers())
    assert response.status_code == 200, response.text
    report = verify_bundle_json(response.text)
    assert report["status"] == "ok" and not report["findings"], report["findings"]
    bundle = response.json()
    assert len(bundle["activities"]) == 1
    assert [task["type"] for task in bundle["tasks"]] == (["activity"] if end == "running" else [])


# -- the bridge --------------------------------------------------------------------------------------------------------


@workflow.defn(name="bridged")
class Bridged:
    """Waits for a signal's argument, and answers with that and its input."""

    def __init__(self) -> None:
        self.depots: list[Any] = []

    @workflow.signal("reroute")
    def reroute(self, depot: Any) -> None:
        self.depots.append(depot)

    @workflow.update("close")
    def close(self, by: Any) -> str:
        self.depots.append(by)
        return f"closed by {by}"

    def run(self, ctx: Any, order: Any) -> Any:
        yield ctx.wait_condition(lambda: len(self.depots) > 1, key="rerouted")
        return [order, self.depots]


async def test_bridge_events(scene: SdkHarness) -> None:
    await scene.work([Bridged])
    client, adapter = scene.client, f"depot-{secrets.token_hex(4)}"

    async def send(action: str, key: str, target: dict[str, Any], **more: Any) -> Any:
        return await client.send_webhook_bridge_event(
            adapter, action=action, idempotency_key=key, target=target, correlation={"mail": key}, **more
        )

    start = {"workflow_type": "bridged", "task_queue": scene.queue}
    first = await send("start_workflow", "order-1", start, input={"order": "o-1"})
    assert (first.accepted, first.outcome, first.control_plane_outcome) == (True, "accepted", "started_new")
    again = await send("start_workflow", "order-1", start, input={"order": "o-1"})
    assert (again.accepted, again.outcome, again.run_id) == (False, "duplicate", first.run_id)
    workflow_id = first.workflow_id
    assert workflow_id is not None and first.correlation == {"mail": "order-1"} and first.adapter == adapter
    handle = client.get_workflow_handle(workflow_id, run_id=first.run_id)

    signal = {"workflow_id": workflow_id, "signal_name": "reroute"}
    outcomes = [await send("signal_workflow", "mail-1", signal, input={"depot": "depot-3"}) for _ in range(3)]
    assert [each.outcome for each in outcomes] == ["accepted", "duplicate", "duplicate"]
    assert (outcomes[0].control_plane_outcome, outcomes[1].control_plane_outcome) == (
        "signal_received",
        "deduped_existing_command",
    )
    await recorded(handle, "ConditionWaitOpened")
    update = {"workflow_id": workflow_id, "update_name": "close", "wait_for": "completed", "wait_timeout_seconds": 60}
    closed = await send("update_workflow", "mail-2", update, input={"by": "clerk"})
    assert (closed.outcome, closed.control_plane_outcome) == ("accepted", "update_completed")
    assert await result_of(handle) == ["o-1", [{"depot": "depot-3"}, {"by": "clerk"}]]
    late = await send("signal_workflow", "mail-3", signal)
    assert (late.accepted, late.outcome, late.reason) == (False, "rejected", "run_not_active")
    unknown = await send("signal_workflow", "mail-4", {**signal, "workflow_id": "nothing-there"})
    assert (unknown.outcome, unknown.reason) == ("rejected", "unknown_target")
    wrong = await send("start_workflow", "order-2", {})
    assert (wrong.outcome, wrong.reason) == ("rejected", "malformed_payload")
    assert wrong.raw is not None and wrong.raw["errors"].keys() == {"target.workflow_type"}
