"""Options and conduct of the SDK's worker: capacities, routing by type, interceptors, stopping, what an activity is told.

Contract: sdk-expectations 5.2, 6.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from durable_workflow import ActivityInterceptorContext, PassthroughWorkerInterceptor, Worker, activity, workflow

from tests.sdk.features import TaskWatcher, registered, work
from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of

pytestmark = pytest.mark.sdk


@workflow.defn(name="fan")
class Fan:
    def run(self, ctx: Any, count: int) -> Any:
        return (yield [ctx.schedule_activity("counted", [number]) for number in range(count)])


@workflow.defn(name="single")
class Single:
    def run(self, ctx: Any, name: str, *arguments: Any) -> Any:
        return (yield ctx.schedule_activity(name, list(arguments)))


@workflow.defn(name="brief")
class Brief:
    def run(self, ctx: Any, value: int) -> Any:
        yield ctx.start_timer(0)
        return value


class Crowd:
    """An activity that counts how many of it run at the same time, and holds them until the test lets them go."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.gate = asyncio.Event()

    def activity(self) -> Any:
        @activity.defn(name="counted")
        async def counted(number: int) -> int:
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.gate.wait()
                await asyncio.sleep(0.01)
                return number
            finally:
                self.running -= 1

        return counted


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Let go at the end."""
    made = Crowd()
    yield made
    made.gate.set()


async def test_no_more_activities_at_once_than_allowed(scene: SdkHarness, crowd: Crowd) -> None:
    worker = await work(scene, [Fan], [crowd.activity()], max_concurrent_activity_tasks=2, max_concurrent_workflow_tasks=3)
    handle = await scene.start("fan", 9)
    events = await recorded(handle, "ActivityStarted", 2)
    assert len(of_type(events, "ActivityScheduled")) == 9
    crowd.gate.set()
    assert await result_of(handle) == list(range(9))
    assert crowd.most == 2
    shown = await scene.client.describe_worker(worker.worker_id)
    assert (shown.max_concurrent_workflow_tasks, shown.max_concurrent_activity_tasks) == (3, 2)
    assert shown.status == "active"


async def test_a_full_worker_leaves_the_rest_to_others(scene: SdkHarness, crowd: Crowd) -> None:
    other = Crowd()
    other.gate.set()
    await work(scene, [Fan], [crowd.activity()], max_concurrent_activity_tasks=1)
    handle = await scene.start("fan", 5)
    await recorded(handle, "ActivityStarted")
    await work(scene, [], [other.activity()])
    await recorded(handle, "ActivityCompleted", 4)
    assert (crowd.running, crowd.most) == (1, 1)
    crowd.gate.set()
    assert await result_of(handle) == list(range(5))


async def test_one_workflow_task_at_a_time(scene: SdkHarness) -> None:
    watch = TaskWatcher()
    watch.hold()
    await work(scene, [Brief], interceptors=[watch], max_concurrent_workflow_tasks=1)
    handles = [await scene.start("brief", number) for number in range(3)]
    await watch.held()
    assert len(watch.tasks) == 1
    # A second worker takes what the first has no room for.
    await work(scene, [Brief])
    done = await asyncio.gather(*(result_of(handle) for handle in handles if handle.run_id != watch.tasks[0]["run_id"]))
    assert len(done) == 2
    assert len(watch.tasks) == 1
    watch.release()
    assert await asyncio.gather(*(result_of(handle) for handle in handles)) == [0, 1, 2]


async def test_tasks_go_to_workers_that_know_their_type(scene: SdkHarness) -> None:
    seen: dict[str, list[str]] = {"one": [], "two": []}

    def types_of(name: str) -> Any:
        class Noting(PassthroughWorkerInterceptor):
            async def execute_workflow_task(self, context: Any, next: Callable[[Any], Awaitable[Any]]) -> Any:
                seen[name].append(context.task["workflow_type"])
                return await next(context)

            async def execute_activity(
                self, context: ActivityInterceptorContext, next: Callable[[ActivityInterceptorContext], Awaitable[Any]]
            ) -> Any:
                seen[name].append(context.activity_type)
                return await next(context)

        return Noting()

    @activity.defn(name="left")
    async def left() -> str:
        return "left"

    @activity.defn(name="right")
    async def right() -> str:
        return "right"

    await work(scene, [Single], [left], interceptors=[types_of("one")])
    await work(scene, [Brief], [right], interceptors=[types_of("two")])
    handles = [await scene.start("single", name) for name in ("left", "right") for _ in range(5)]
    briefs = [await scene.start("brief", number) for number in range(5)]
    assert await asyncio.gather(*(result_of(handle) for handle in handles)) == ["left"] * 5 + ["right"] * 5
    assert await asyncio.gather(*(result_of(handle) for handle in briefs)) == list(range(5))
    assert set(seen["one"]) == {"single", "left"}
    assert set(seen["two"]) == {"brief", "right"}
    assert (seen["one"].count("left"), seen["two"].count("right")) == (5, 5)


async def test_interceptors_wrap_in_order(scene: SdkHarness) -> None:
    order: list[str] = []

    class Noting(PassthroughWorkerInterceptor):
        def __init__(self, name: str) -> None:
            self.name = name

        async def execute_activity(
            self, context: ActivityInterceptorContext, next: Callable[[ActivityInterceptorContext], Awaitable[Any]]
        ) -> Any:
            order.append(f"{self.name} in")
            result = await next(context)
            order.append(f"{self.name} out")
            return [self.name, result]

    @activity.defn(name="plain")
    async def plain(value: str) -> str:
        order.append(value)
        return value

    await work(scene, [Single], [plain], interceptors=[Noting("outer"), Noting("inner")])
    handle = await scene.start("single", "plain", "work")
    assert await result_of(handle) == ["outer", ["inner", "work"]]
    assert order == ["outer in", "inner in", "work", "inner out", "outer out"]


async def test_what_an_activity_is_told(scene: SdkHarness) -> None:
    @activity.defn(name="introspective")
    async def introspective() -> dict[str, Any]:
        info = activity.context().info
        return {name: getattr(info, name) for name in info.__dataclass_fields__}

    worker_id = f"named-{secrets.token_hex(4)}"
    await work(scene, [Single], [introspective], worker_id=worker_id)
    handle = await scene.start("single", "introspective")
    told = await result_of(handle)
    (started,) = of_type(await events_of(handle), "ActivityStarted")
    assert (told["worker_id"], told["task_queue"], told["activity_type"]) == (worker_id, scene.queue, "introspective")
    assert (told["attempt_number"], told["activity_attempt_id"]) == (1, started["activity_attempt_id"])


async def test_a_synchronous_activity_and_one_with_defaults(scene: SdkHarness) -> None:
    @activity.defn(name="synchronous")
    def synchronous(first: int, second: int = 10) -> int:
        return first + second

    await scene.work([Single], [synchronous])
    assert await result_of(await scene.start("single", "synchronous", 1)) == 11
    assert await result_of(await scene.start("single", "synchronous", 1, 2)) == 3


async def test_a_worker_that_stops_ends_what_it_has_begun(scene: SdkHarness, crowd: Crowd) -> None:
    worker = Worker(
        scene.client, task_queue=scene.queue, workflows=[Single], activities=[crowd.activity()], shutdown_timeout=30
    )
    running = asyncio.create_task(worker.run())
    handle = await scene.start("single", "counted", 7)
    await recorded(handle, "ActivityStarted")
    stopping = asyncio.create_task(worker.stop())
    crowd.gate.set()
    await asyncio.wait_for(stopping, 60)
    await asyncio.wait_for(running, 60)
    await recorded(handle, "ActivityCompleted")
    later = await scene.start("single", "counted", 8)
    await scene.work([Single], [crowd.activity()])
    assert [await result_of(handle), await result_of(later)] == [7, 8]
    assert len(of_type(await events_of(handle), "ActivityStarted")) == 1


async def test_run_until(scene: SdkHarness, crowd: Crowd) -> None:
    crowd.gate.set()
    handle = await scene.start("single", "counted", 3)
    worker = Worker(scene.client, task_queue=scene.queue, workflows=[Single], activities=[crowd.activity()])
    execution = await worker.run_until(workflow_id=handle.workflow_id, timeout=60, poll_interval=0.05)
    assert (execution.workflow_id, execution.status) == (handle.workflow_id, "completed")
    assert await result_of(handle) == 3


async def test_run_until_runs_out_of_time(scene: SdkHarness) -> None:
    handle = await scene.start("single", "nobody-does-this")
    worker = Worker(scene.client, task_queue=scene.queue, workflows=[Single], shutdown_timeout=0.2)
    with pytest.raises(TimeoutError):
        await worker.run_until(workflow_id=handle.workflow_id, timeout=0.5, poll_interval=0.05)
    assert (await handle.describe()).status in ("pending", "waiting")


async def test_workers_are_listed(scene: SdkHarness) -> None:
    worker = await work(scene, [Brief, Single], [])
    shown = await registered(scene, worker)
    assert (shown.task_queue, shown.runtime, shown.status) == (scene.queue, "python", "active")
    assert sorted(shown.supported_workflow_types) == ["brief", "single"]
    assert shown.sdk_version.startswith("durable-workflow-python/0.4")
