"""The published SDK against a running server: clients, workers in this process, and histories to look at."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from durable_workflow import Client, Worker, WorkflowHandle
from durable_workflow.workflow import CompleteWorkflow, Replayer

from tests.support.server import ServerProcess

RESULT_SECONDS = 60.0
SHUTDOWN_SECONDS = 0.05  # what a stopped worker waits for polls that are held


class SdkHarness:
    """One task queue of its own on a running server, with an SDK client and workers that poll it.

    Workers run in this process and loop, so that a test can hold an activity with an `asyncio.Event` instead of sleeping.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.queue = f"q-{secrets.token_hex(4)}"
        self._running: list[tuple[Worker, asyncio.Task[None]]] = []

    async def work(
        self, workflows: Iterable[type] = (), activities: Iterable[Callable[..., Any]] = (), queue: str | None = None
    ) -> Worker:
        """Start a worker; it polls until the scene ends."""
        worker = Worker(
            self.client,
            task_queue=queue or self.queue,
            workflows=workflows,
            activities=activities,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._running.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def start(self, workflow_type: str, *arguments: Any, **options: Any) -> WorkflowHandle:
        """Start a workflow on the scene's queue."""
        return await self.client.start_workflow(
            workflow_type=workflow_type,
            task_queue=self.queue,
            workflow_id=options.pop("workflow_id", f"w-{secrets.token_hex(6)}"),
            input=list(arguments),
            **options,
        )

    async def run(self, workflow_type: str, *arguments: Any, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
        """Start a workflow and wait for its end: its result and its history."""
        handle = await self.start(workflow_type, *arguments, **options)
        return await result_of(handle), await events_of(handle)

    async def drain(self) -> None:
        """Wait until the workers have reported everything they were working on."""
        while working := [task for worker, _ in self._running for task in worker._in_flight]:
            await asyncio.wait(working, timeout=RESULT_SECONDS)

    async def stop(self) -> None:
        """Stop all workers."""
        await asyncio.gather(*(worker.stop() for worker, _ in self._running))
        for _, task in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._running.clear()


@contextlib.asynccontextmanager
async def scene_on(server: ServerProcess) -> AsyncIterator[SdkHarness]:
    """A scene on this server."""
    async with Client(server.url, token=server.token, namespace="default") as client:
        scene = SdkHarness(client)
        try:
            yield scene
        finally:
            await scene.stop()


async def result_of(handle: WorkflowHandle, seconds: float = RESULT_SECONDS) -> Any:
    """The workflow's result; raises what the SDK raises."""
    return await handle.result(poll_interval=0.05, timeout=seconds)


async def events_of(handle: WorkflowHandle) -> list[dict[str, Any]]:
    """The control plane's history, its sequence numbers checked."""
    events: list[dict[str, Any]] = (await handle.get_history())["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    return events


async def recorded(handle: WorkflowHandle, event_type: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until history holds that many events of a type; the history then."""
    async with asyncio.timeout(RESULT_SECONDS):
        while True:
            events = await events_of(handle)
            if len(of_type(events, event_type)) >= count:
                return events
            await asyncio.sleep(0.02)


def of_type(events: list[dict[str, Any]], event_type: str) -> list[dict[str, Any]]:
    """The payloads of the events of one type."""
    return [event["payload"] for event in events if event["event_type"] == event_type]


def types(events: list[dict[str, Any]]) -> list[str]:
    """What happened after the start, in order."""
    names = [event["event_type"] for event in events]
    assert names[:2] == ["StartAccepted", "WorkflowStarted"]
    return names[2:]


def replays_to(workflow: type, events: list[dict[str, Any]], result: Any) -> None:
    """The SDK's replayer goes through this history without divergence and arrives at this result."""
    commands = Replayer(workflows=[workflow]).replay({"events": events}).commands
    assert commands == [CompleteWorkflow(result=result)]
