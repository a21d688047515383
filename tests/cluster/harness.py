"""The standard workflow under load: workers and starters over HTTP, and the checks of what came of it.

A standard workflow schedules one activity with its input and completes with that activity's result. Calls are repeated like the
published SDK repeats them, so an answer 409 to a repeated completion is not an error: the first copy may have counted.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.payloads import decode, encode
from tests.cluster.client import ClusterClient, Reply
from tests.cluster.events import EventWatch
from tests.support.server import ServerProcess

WORKFLOW_TYPE = "cluster.standard"
ACTIVITY_TYPE = "cluster.echo"
SHORT_LEASES = {"DW_WORKFLOW_TASK_TIMEOUT": "5", "DW_ACTIVITY_TASK_TIMEOUT": "5"}
DEADLINE_SECONDS = 60.0

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Progress:
    """A task of a run that was handed to a worker, or completed by one."""

    at: float  # time.monotonic()
    run_id: str
    what: str


class Load:
    """Workers and starters of one task queue on some nodes. `async with` registers the workers and ends their polls.

    `acknowledged`: workflow id -> run id of every start that was answered 2xx. `refused`: answers that no retry explains.
    """

    def __init__(
        self,
        nodes: Sequence[ServerProcess],
        *,
        pollers: int = 6,
        workers: int = 2,
        activity_seconds: float = 0,
        persistent: bool = False,
    ) -> None:
        """`pollers`: polls each worker holds per kind. `persistent`: a task's outcome is reported until it is answered."""
        self.client = ClusterClient(nodes)
        self.queue = f"load-{next(_numbers)}-{secrets.token_hex(3)}"
        self.acknowledged: dict[str, str] = {}
        self.unanswered: list[str] = []
        self.refused: list[str] = []
        self.progress: list[Progress] = []
        self._pollers = pollers
        self._worker_ids = [f"{self.queue}-worker-{number}" for number in range(1, workers + 1)]
        self._activity_seconds = activity_seconds
        self._persistent = persistent
        self._tasks: list[asyncio.Task[None]] = []
        self._started = itertools.count(1)

    async def __aenter__(self) -> Load:
        for worker_id in self._worker_ids:
            reply = await self.client.post("/api/worker/register", {**self.registration(worker_id), "worker_id": worker_id})
            assert reply.status in (200, 201), reply
            for _ in range(self._pollers):
                self._tasks.append(asyncio.create_task(self._poll("workflow", worker_id)))
                self._tasks.append(asyncio.create_task(self._poll("activity", worker_id)))
        return self

    def registration(self, _worker_id: str) -> dict[str, Any]:
        """What a worker registers with, besides its id."""
        return {
            "task_queue": self.queue,
            "runtime": "python",
            "sdk_version": "durable-workflow-python/0.4.84",
            "supported_workflow_types": [WORKFLOW_TYPE],
            "supported_activity_types": [ACTIVITY_TYPE],
        }

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.client.close()
        broken = [end for end in ends if isinstance(end, Exception)]
        assert not broken, f"workers broke: {broken[:3]}"

    # -- starters ----------------------------------------------------------------------------------------------------------

    async def start(self, count: int, per_second: float | None = None, at: ServerProcess | None = None) -> None:
        """Start workflows, all at once (sixteen in parallel) or at a rate; a start that got no answer is noted as such."""
        if per_second is not None:
            running = []
            for number in range(count):
                running.append(asyncio.create_task(self._start_one(at)))
                if number < count - 1:
                    await asyncio.sleep(1 / per_second)
            await asyncio.gather(*running)
            return
        gate = asyncio.Semaphore(16)

        async def one() -> None:
            async with gate:
                await self._start_one(at)

        await asyncio.gather(*(one() for _ in range(count)))

    async def _start_one(self, at: ServerProcess | None) -> None:
        workflow_id = f"{self.queue}.{next(self._started)}"
        body = {
            "workflow_id": workflow_id,
            "workflow_type": WORKFLOW_TYPE,
            "task_queue": self.queue,
            "duplicate_policy": "use-existing",
            "input": {"codec": "avro", "blob": encode([workflow_id])},
        }
        reply = await self.client.post("/api/workflows", body, at=at)
        if reply.status in (200, 201) or (reply.status == 409 and reply.tries > 1 and reply.body.get("run_id")):
            self.acknowledged[workflow_id] = reply.body["run_id"]
        elif reply.status == 0 or reply.status >= 500:
            self.unanswered.append(workflow_id)
        else:
            self.refused.append(f"start: {reply}")

    # -- workers -----------------------------------------------------------------------------------------------------------

    async def _poll(self, kind: str, worker_id: str) -> None:
        while True:
            body = {"worker_id": worker_id, "task_queue": self.queue, "poll_request_id": secrets.token_hex(8)}
            reply = await self.client.post(f"/api/worker/{kind}-tasks/poll", body)
            if reply.status != 200:
                if 0 < reply.status < 500:
                    self.refused.append(f"{kind} poll: {reply}")
                await asyncio.sleep(0.2)
                continue
            task = reply.body["task"]
            if task is None:
                continue
            self._note(task, f"{kind} task")
            if kind == "workflow":
                await self._decide(task)
            else:
                await self._perform(task)

    async def _decide(self, task: dict[str, Any]) -> None:
        done = [event for event in task["history_events"] if event["event_type"] == "ActivityCompleted"]
        if done:
            outcome = done[0]["payload"]
            commands = [{"type": "complete_workflow", "result": {"codec": outcome["payload_codec"], "blob": outcome["result"]}}]
        else:
            commands = [
                {
                    "type": "schedule_activity",
                    "activity_type": ACTIVITY_TYPE,
                    "arguments": task["arguments"],
                    "queue": self.queue,
                }
            ]
        body = {
            "lease_owner": task["lease_owner"],
            "workflow_task_attempt": task["workflow_task_attempt"],
            "commands": commands,
        }
        await self._report(task, f"/api/worker/workflow-tasks/{task['task_id']}/complete", body, "workflow task completed")

    async def _perform(self, task: dict[str, Any]) -> None:
        await asyncio.sleep(self._activity_seconds)
        (value,) = decode(task["arguments"]["blob"])
        result = {"echo": value, "attempt": task["activity_attempt_id"]}
        body = {
            "activity_attempt_id": task["activity_attempt_id"],
            "lease_owner": task["lease_owner"],
            "result": {"codec": "avro", "blob": encode(result)},
        }
        await self._report(task, f"/api/worker/activity-tasks/{task['task_id']}/complete", body, "activity completed")

    async def _report(self, task: dict[str, Any], path: str, body: dict[str, Any], what: str) -> None:
        reply = await self.client.post(path, body)
        while self._persistent and not 0 < reply.status < 500:
            reply = await self.client.post(path, body)
        if reply.status == 200:
            self._note(task, what)
        elif 0 < reply.status < 500 and reply.status != 409:
            self.refused.append(f"{what}: {reply}")

    def _note(self, task: dict[str, Any], what: str) -> None:
        self.progress.append(Progress(time.monotonic(), task["run_id"], what))

    # -- checks ------------------------------------------------------------------------------------------------------------

    async def all_closed(self, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until no workflow of the cluster runs any more."""
        reply = Reply(0, {})
        try:
            async with asyncio.timeout(seconds):
                while True:
                    reply = await self.client.get(f"/api/workflows?status=running&workflow_type={WORKFLOW_TYPE}&page_size=200")
                    if reply.status == 200 and not reply.body["workflows"]:
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            running = [item["workflow_id"] for item in reply.body.get("workflows", [])]
            shown = await self.client.get(f"/api/workflows/{running[0]}/debug") if running else reply
            message = f"after {seconds} s still running: {len(running)}, such as {running[:5]}; the first: {shown.body}"
            raise AssertionError(message) from None

    async def histories(self) -> dict[str, int]:
        """Check every acknowledged workflow's history; run id -> its last sequence."""
        assert not self.refused, self.refused[:5]
        found = await asyncio.gather(*(self._history(*pair) for pair in self.acknowledged.items()))
        return dict(zip(self.acknowledged.values(), found, strict=True))

    async def _history(self, workflow_id: str, run_id: str) -> int:
        reply = await self.client.get(f"/api/workflows/{workflow_id}/runs/{run_id}/history")
        assert reply.status == 200, (workflow_id, reply)
        events = reply.body["events"]
        types = [event["event_type"] for event in events]
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1)), types
        for once in ("WorkflowStarted", "ActivityScheduled", "ActivityCompleted", "WorkflowCompleted"):
            assert types.count(once) == 1, (workflow_id, types)
        completed = next(event["payload"] for event in events if event["event_type"] == "ActivityCompleted")
        output = next(event["payload"] for event in events if event["event_type"] == "WorkflowCompleted")["output"]
        result = decode(output["blob"] if isinstance(output, dict) else output)
        assert result == {"echo": workflow_id, "attempt": completed["activity_attempt_id"]}, (workflow_id, result)
        return len(events)

    async def check(self, watch: EventWatch) -> None:
        """Everything acknowledged completed with the right result, and the subscriber saw all of it in order."""
        await self.all_closed()
        lengths = await self.histories()
        await watch.wait_for(lengths)
        watch.check_order(lengths)

    def progress_of(self, run_ids: Iterable[str], after: float) -> list[Progress]:
        """What happened to these runs after a moment (`time.monotonic()`), in order."""
        wanted = set(run_ids)
        return [step for step in self.progress if step.at > after and step.run_id in wanted]
