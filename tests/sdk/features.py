"""What the tests of single features share: workers that can be held, replays of recorded runs, raw calls beside the SDK."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpx
from durable_workflow import (
    ActivityInterceptorContext,
    PassthroughWorkerInterceptor,
    Replayer,
    Worker,
    WorkflowExecution,
    WorkflowHandle,
    WorkflowTaskInterceptorContext,
    serializer,
)
from durable_workflow.testing import replay_history
from durable_workflow.workflow import Command, CompleteWorkflow

from tests.sdk.harness import RESULT_SECONDS, SHUTDOWN_SECONDS, SdkHarness, events_of, of_type

__all__ = [
    "ActivityInterceptorContext",
    "TaskWatcher",
    "completes_with",
    "decoded",
    "described",
    "handle_of_run",
    "post",
    "registered",
    "replayed",
    "run_handles",
    "until",
    "work",
]

CONTROL_PLANE = {"X-Durable-Workflow-Control-Plane-Version": "2"}


class TaskWatcher(PassthroughWorkerInterceptor):
    """Sees every workflow task a worker gets, and can hold tasks that are already leased.

    A held task has its snapshot of history; whatever happens before `release` is news to it.
    """

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self._held: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gate = asyncio.Event()
        self._gate.set()

    async def execute_workflow_task(
        self,
        context: WorkflowTaskInterceptorContext,
        next: Callable[[WorkflowTaskInterceptorContext], Awaitable[list[dict[str, Any]] | None]],
    ) -> list[dict[str, Any]] | None:
        self.tasks.append(context.task)
        if not self._gate.is_set():
            self._held.put_nowait(context.task)
            await self._gate.wait()
        return await next(context)

    def hold(self) -> None:
        """Hold the tasks that come from now on."""
        self._gate.clear()

    async def held(self) -> dict[str, Any]:
        """Wait for the next held task."""
        async with asyncio.timeout(RESULT_SECONDS):
            return await self._held.get()

    def release(self) -> None:
        """Let all held tasks go on, and hold no more."""
        self._gate.set()

    def of_run(self, run_id: str) -> list[dict[str, Any]]:
        """The tasks of one run, each history an extension of the one before (engine-semantics 2.6)."""
        tasks = [task for task in self.tasks if task["run_id"] == run_id]
        for earlier, later in itertools.pairwise(tasks):
            shown = [event["id"] for event in later["history_events"]]
            before = [event["id"] for event in earlier["history_events"]]
            assert shown[: len(before)] == before, "a later view of history does not extend the earlier one"
        return tasks


async def work(
    scene: SdkHarness,
    workflows: Iterable[type] = (),
    activities: Iterable[Callable[..., Any]] = (),
    *,
    queue: str | None = None,
    **options: Any,
) -> Worker:
    """Start a worker with options of its own (`interceptors`, `max_concurrent_...`); it polls until the scene ends."""
    worker = Worker(
        scene.client,
        task_queue=queue or scene.queue,
        workflows=workflows,
        activities=activities,
        shutdown_timeout=SHUTDOWN_SECONDS,
        **options,
    )
    scene._running.append((worker, asyncio.create_task(worker.run())))
    return worker


async def registered(scene: SdkHarness, worker: Worker) -> Any:
    """Wait until the server lists the worker; its entry there. Before, the types it will register may still change."""

    async def listed() -> Any:
        found = await scene.client.list_workers(task_queue=scene.queue)
        return next((item for item in found.workers if item.worker_id == worker.worker_id), None)

    return await until(listed, "the worker in the list")


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Ask again and again until the answer is true; that answer."""
    try:
        async with asyncio.timeout(RESULT_SECONDS):
            while not (answer := await condition()):
                await asyncio.sleep(0.02)
            return answer
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {RESULT_SECONDS} s") from None


async def described(handle: WorkflowHandle, status: str) -> WorkflowExecution:
    """Wait until describe shows this status."""

    async def shows() -> WorkflowExecution | None:
        execution = await handle.describe()
        return execution if execution.status == status else None

    found = await until(shows, f"status {status} of {handle.workflow_id}")
    assert isinstance(found, WorkflowExecution)
    return found


def handle_of_run(scene: SdkHarness, workflow_id: str, run_id: str | None = None) -> WorkflowHandle:
    """A handle on one run of a workflow, or on its newest one."""
    return scene.client.get_workflow_handle(workflow_id, run_id=run_id)


async def run_handles(scene: SdkHarness, workflow_id: str) -> list[WorkflowHandle]:
    """One handle per run of a workflow id, oldest first; their numbers count up from 1."""
    listed = await scene.client.list_workflow_runs(workflow_id)
    assert listed.run_count == len(listed.runs)
    assert [run.run_number for run in listed.runs] == list(range(1, len(listed.runs) + 1))
    return [handle_of_run(scene, workflow_id, run.run_id) for run in listed.runs]


# -- replay ------------------------------------------------------------------------------------------------------------


def decoded(payload: dict[str, Any], key: str = "arguments") -> Any:
    """The value of a payload field as the SDK decodes it."""
    return serializer.decode_envelope(payload.get(key), codec=payload.get("payload_codec"))


def replayed(workflow: type, events: Sequence[dict[str, Any]], run_id: str = "") -> list[Command]:
    """What the code wants next at the end of this history; the SDK's `Replayer` and `replay_history` must agree."""
    (started,) = of_type(list(events), "WorkflowStarted")
    by_class = Replayer(workflows=[workflow]).replay({"events": list(events)}, run_id=run_id).commands
    by_function = replay_history(workflow, events, decoded(started) or [], run_id=run_id).commands
    assert [type(command) for command in by_class] == [type(command) for command in by_function]
    return by_class


async def completes_with(workflow: type, handle: WorkflowHandle, result: Any) -> list[dict[str, Any]]:
    """The recorded run replays without divergence to this result; its history."""
    events = await events_of(handle)
    assert replayed(workflow, events, handle.run_id or "") == [CompleteWorkflow(result=result)]
    return events


# -- beside the SDK ----------------------------------------------------------------------------------------------------


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """POST below `/api`: the status and the body."""
    answer = await client.post(f"/api{path}", json=body or {})
    return answer.status_code, answer.json()
