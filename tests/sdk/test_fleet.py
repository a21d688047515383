"""The fleet through the SDK: the roster, build ids drained and promoted while SDK workers poll (SDK guide, Workers)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_workflow import ServerError, Worker, activity, workflow

from tests.sdk.features import registered, until, work
from tests.sdk.harness import SdkHarness, result_of

pytestmark = pytest.mark.sdk


@workflow.defn(name="built")
class Built:
    """What each of its two activities was run by, one after the other."""

    def run(self, ctx: Any) -> Any:
        first = yield ctx.schedule_activity("builder", [])
        second = yield ctx.schedule_activity("builder", [])
        return [first, second]


@workflow.defn(name="chained")
class Chained:
    """Goes on as another run, which has a child."""

    def run(self, ctx: Any, left: int) -> Any:
        if left:
            return ctx.continue_as_new(left - 1)
        return (yield ctx.start_child_workflow("built", []))


async def built_by(scene: SdkHarness, build_id: str | None, **options: Any) -> Worker:
    """A worker whose activities tell its build id."""

    @activity.defn(name="builder")
    async def builder() -> str | None:
        return build_id

    worker = await work(scene, [Built, Chained], [builder], build_id=build_id, **options)
    await registered(scene, worker)
    return worker


async def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(ServerError) as error:
        await call
    assert isinstance(error.value.body, dict)
    return error.value.status, error.value.body["reason"]


async def test_the_roster(scene: SdkHarness) -> None:
    """What a worker told of itself: types, definitions, capacity, slots, its process; until it is deregistered."""
    one = await built_by(scene, "v1", worker_id=f"{scene.queue}-one", max_concurrent_workflow_tasks=3)
    two = await built_by(scene, None)
    shown = await scene.client.describe_worker(one.worker_id)
    assert (shown.worker_id, shown.task_queue, shown.runtime, shown.namespace) == (
        one.worker_id,
        scene.queue,
        "python",
        "default",
    )
    assert (shown.build_id, shown.status, shown.max_concurrent_workflow_tasks) == ("v1", "active", 3)
    assert shown.supported_workflow_types is not None
    assert sorted(shown.supported_workflow_types) == ["built", "chained"]
    assert shown.supported_activity_types == ["builder"]
    assert shown.task_slots is not None and shown.task_slots["workflow_available"] == 3
    assert shown.process_metrics is not None and shown.process_metrics["process_id"] > 0
    assert shown.raw is not None
    assert shown.raw["workflow_definition_fingerprints"] == one.workflow_definition_fingerprints
    roster = await scene.client.list_workers(task_queue=scene.queue)
    assert {item.worker_id for item in roster.workers} == {one.worker_id, two.worker_id}
    assert roster.stale_after_seconds == 60
    assert (await scene.client.list_workers(task_queue=scene.queue, status="draining")).workers == []
    await one.stop()
    assert await scene.client.deregister_worker(one.worker_id) == {"worker_id": one.worker_id, "outcome": "deregistered"}
    roster = await scene.client.list_workers(task_queue=scene.queue)
    assert [item.worker_id for item in roster.workers] == [two.worker_id]
    assert await refused(scene.client.describe_worker(one.worker_id)) == (404, "worker_not_found")


async def test_a_changed_definition_needs_another_worker_id(scene: SdkHarness) -> None:
    worker = await built_by(scene, "v1")
    again = scene.client.register_worker(
        worker_id=worker.worker_id,
        task_queue=scene.queue,
        supported_workflow_types=["built"],
        workflow_definition_fingerprints={"built": "sha256:other"},
        supported_activity_types=[],
        build_id="v1",
    )
    assert await refused(again) == (409, "workflow_definition_changed")


async def test_a_rollout(scene: SdkHarness) -> None:
    """Promote a build, move new starts to it, drain the old one, and go back."""
    client, queue = scene.client, scene.queue
    await client.promote_task_queue_build_id(queue, "v1")
    await built_by(scene, "v1")
    before = await scene.start("built")
    assert await result_of(before) == ["v1", "v1"]
    state = await client.promote_task_queue_build_id(queue, "v2")
    assert (state.build_id, state.new_start_selected, state.drain_intent) == ("v2", True, "active")
    ahead = await scene.start("built")
    await asyncio.sleep(0.3)
    assert (await client.describe_workflow(ahead.workflow_id)).status in ("pending", "running"), "it waits for its build"
    await built_by(scene, "v2")
    assert await result_of(ahead) == ["v2", "v2"]
    rollout = await client.list_task_queue_build_ids(queue)
    assert [(cohort.build_id, cohort.rollout_status, cohort.new_start_selected) for cohort in rollout.build_ids] == [
        ("v2", "active", True),
        ("v1", "active", False),
    ]
    drained = await client.drain_task_queue_build_id(queue, "v1")
    assert (drained.drain_intent, drained.drained_at is None) == ("draining", False)
    assert await client.drain_task_queue_build_id(queue, "v1") == drained
    rollout = await client.list_task_queue_build_ids(queue)
    assert [(cohort.build_id, cohort.rollout_status) for cohort in rollout.build_ids] == [("v2", "active"), ("v1", "draining")]
    back = await client.promote_task_queue_build_id(queue, "v1")
    assert (back.drained_at, back.new_start_selected) == (None, True)
    cohorts = {cohort.build_id: cohort for cohort in (await client.list_task_queue_build_ids(queue)).build_ids}
    assert cohorts["v2"].rolled_back_at == back.promoted_at
    assert await result_of(await scene.start("built")) == ["v1", "v1"]


async def test_chains_and_children_stay_with_their_build(scene: SdkHarness) -> None:
    await scene.client.promote_task_queue_build_id(scene.queue, "v1")
    handle = await scene.start("chained", 2)
    await scene.client.promote_task_queue_build_id(scene.queue, None)
    for build_id in (None, "v2", "v1"):
        await built_by(scene, build_id)
    current = scene.client.get_workflow_handle(handle.workflow_id)
    assert await result_of(current) == ["v1", "v1"]


async def test_drained_workers_go_on_when_they_are_resumed(scene: SdkHarness) -> None:
    """Without being started again; unversioned ones, too. What they had in hand they finish."""
    gate, begun = asyncio.Event(), asyncio.Event()

    @activity.defn(name="builder")
    async def builder() -> str:
        begun.set()
        await gate.wait()
        return "done"

    worker = await work(scene, [Built], [builder])
    first = await scene.start("built")
    await begun.wait()
    state = await scene.client.drain_task_queue_build_id(scene.queue, None)
    assert (state.build_id, state.drain_intent) == (None, "draining")
    assert (await registered(scene, worker)).status == "draining"
    gate.set()
    second = await scene.start("built")

    async def one_is_done() -> bool:
        events = (await first.get_history())["events"]
        return any(event["event_type"] == "ActivityCompleted" for event in events)

    await until(one_is_done, "the end of the activity in hand")
    await asyncio.sleep(1.0)
    for handle in (first, second):
        started = [e for e in (await handle.get_history())["events"] if e["event_type"] == "ActivityStarted"]
        assert len(started) == (1 if handle is first else 0), "nothing new is begun"
    assert (await scene.client.resume_task_queue_build_id(scene.queue, None)).drain_intent == "active"
    assert await result_of(first) == await result_of(second) == ["done", "done"]
