"""Workers that follow a script, without an SDK: what a workflow does next is read off the history it is shown.

A script decides the workflow tasks, performs the activities and answers the updates and queries of one feature. Its workers
register as ones of the 0.4 generation, so the view of history and the re-emitted batches of that generation are what is tested.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from bench.payloads import decode, decode_stored, encode
from tests.cluster.client import ClusterClient, Reply
from tests.support.server import ServerProcess

SDK_VERSION = "durable-workflow-python/0.4.84"
RESOLUTIONS = frozenset(
    {"ActivityCompleted", "ActivityFailed", "ActivityTimedOut", "ActivityCancelled", "TimerFired"}
    | {"ChildRunCompleted", "ChildRunFailed", "ChildRunCancelled", "ChildRunTerminated"}
)
_PAUSE_SECONDS = 0.1

Event = dict[str, Any]
Step = dict[str, Any]  # a command of a completion


def envelope(value: Any) -> dict[str, str]:
    """A JSON value as workers send it."""
    return {"codec": "avro", "blob": encode(value)}


def is_wait_timer(event: Event) -> bool:
    """Whether a timer event belongs to a condition wait."""
    return event["payload"].get("timer_kind") == "condition_timeout"


class View:
    """What a workflow or query task shows of its run."""

    def __init__(self, task: dict[str, Any]) -> None:
        assert not task.get("next_history_page_token"), "a scripted history fits one page"
        self.task = task
        self.workflow_id: str = task["workflow_id"]
        self.run_id: str = task["run_id"]
        self.workflow_type: str = task["workflow_type"]
        self.events: list[Event] = task["history_events"]
        arguments = task["workflow_arguments"] if "query_name" in task else task["arguments"]
        self.input: list[Any] = decode(arguments["blob"])

    def payloads(self, *types: str) -> list[dict[str, Any]]:
        """Payloads of the events of these types, in the order shown."""
        return [event["payload"] for event in self.events if event["event_type"] in types]

    @property
    def resolutions(self) -> list[Event]:
        """How the blocking steps ended, in the order shown; condition waits left out."""
        return [event for event in self.events if event["event_type"] in RESOLUTIONS and not is_wait_timer(event)]

    @property
    def signals(self) -> list[Any]:
        """The first argument of every signal shown."""
        return [decode_stored(payload["arguments"])[0] for payload in self.payloads("SignalReceived")]

    @property
    def wait_timed_out(self) -> bool:
        """Whether a condition wait has timed out."""
        return any(event["event_type"] == "TimerFired" and is_wait_timer(event) for event in self.events)

    def update(self, update_id: str) -> dict[str, Any]:
        """The acceptance of an update."""
        (accepted,) = [payload for payload in self.payloads("UpdateAccepted") if payload["update_id"] == update_id]
        return accepted


# -- commands ----------------------------------------------------------------------------------------------------------


def activity(name: str, arguments: list[Any], queue: str, **options: Any) -> Step:
    """Schedule an activity."""
    return {"type": "schedule_activity", "activity_type": name, "arguments": envelope(arguments), "queue": queue, **options}


def child(name: str, arguments: list[Any], queue: str, **options: Any) -> Step:
    """Start a child."""
    return {"type": "start_child_workflow", "workflow_type": name, "arguments": envelope(arguments), "queue": queue, **options}


def timer(seconds: int) -> Step:
    """Start a timer."""
    return {"type": "start_timer", "delay_seconds": seconds}


def wait(key: str, timeout_seconds: int | None = None) -> Step:
    """Open a condition wait."""
    opened = {"type": "open_condition_wait", "condition_key": key, "condition_definition_fingerprint": "sha256:" + "5" * 64}
    return opened if timeout_seconds is None else {**opened, "timeout_seconds": timeout_seconds}


def complete(value: Any) -> Step:
    """End the workflow with a result."""
    return {"type": "complete_workflow", "result": envelope(value)}


class Failed(Exception):
    """Raised by a script's activity: reported as a failure of `type`."""

    def __init__(self, message: str, type_: str) -> None:
        super().__init__(message)
        self.type = type_


class Script:
    """What the workers of one feature do. `queue` is set when the workers register."""

    workflow_types: tuple[str, ...]
    activity_types: tuple[str, ...] = ()
    queries = False
    queue = ""

    def decide(self, view: View) -> list[Step]:
        """The commands of a workflow task."""
        raise NotImplementedError

    def decide_update(self, view: View, update_id: str) -> Step:
        """The command that answers an update's task."""
        raise NotImplementedError

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        """The result of an activity task; `Failed` to have it fail, None to report nothing."""
        raise NotImplementedError

    def answer(self, view: View) -> Any:
        """The result of a query task."""
        raise NotImplementedError


class Crew:
    """The workers of a script, polling the nodes in turn, inside `async with`.

    `reports`: how many outcomes were accepted; `recorded`: run id -> attempts whose outcome was answered as recorded;
    `refused`: answers that neither a retry nor a lost lease explains.
    """

    def __init__(self, nodes: Sequence[ServerProcess], script: Script, *, pollers: int = 8, workers: int = 2) -> None:
        self.client = ClusterClient(nodes)
        self.script = script
        self.queue = script.queue = f"crew-{secrets.token_hex(3)}"
        self.reports = 0
        self.recorded: dict[str, set[str]] = {}
        self.sent: Counter[tuple[str, str]] = Counter()  # (workflow id, kind of command) -> how often
        self.refused: list[str] = []
        self.answers: Counter[str] = Counter()
        self._pollers = pollers
        self._workers = [f"{self.queue}-{number}" for number in range(1, workers + 1)]
        self._polling: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Crew:
        script = self.script
        kinds = ["workflow"] + ["activity"] * bool(script.activity_types) + ["query"] * script.queries
        for worker_id in self._workers:
            body = {
                "worker_id": worker_id,
                "task_queue": self.queue,
                "runtime": "python",
                "sdk_version": SDK_VERSION,
                "supported_workflow_types": list(script.workflow_types),
                "supported_activity_types": list(script.activity_types),
            }
            reply = await self.persist("/api/worker/register", body)
            assert reply.status in (200, 201), reply
            for kind in kinds:
                for _ in range(self._pollers // len(self._workers)):
                    self._polling.append(asyncio.create_task(self._poll(kind, worker_id)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in [*self._polling, *self._working]:
            task.cancel()
        ends = await asyncio.gather(*self._polling, *self._working, return_exceptions=True)
        self.client.close()
        broken = [end for end in ends if isinstance(end, Exception)]
        if broken:
            raise AssertionError(f"{len(broken)} workers broke") from broken[0]

    async def idle(self, seconds: float = 30.0) -> None:
        """Wait until no activity runs in this process any more."""
        async with asyncio.timeout(seconds):
            while self._working:
                await asyncio.wait(self._working)

    async def persist(self, path: str, body: dict[str, Any]) -> Reply:
        """POST until it is answered by something else than trouble; `tries` counts all of them."""
        tries = 0
        while True:
            reply = await self.client.post(path, body)
            tries += reply.tries
            if 0 < reply.status < 500 and reply.status != 429:
                self._count(path, body, tries)
                return reply._replace(tries=tries)
            await asyncio.sleep(_PAUSE_SECONDS)

    def _count(self, path: str, body: dict[str, Any], tries: int) -> None:
        parts = path.split("/")
        if parts[1:3] == ["api", "workflows"]:
            workflow_id, kind = (body["workflow_id"], "start") if len(parts) == 3 else (parts[3], parts[4])
            self.sent[workflow_id, kind] += tries

    # -- working -------------------------------------------------------------------------------------------------------

    async def _poll(self, kind: str, worker_id: str) -> None:
        work = {"workflow": self._decide, "activity": self._perform, "query": self._answer}[kind]
        while True:
            body = {"worker_id": worker_id, "task_queue": self.queue, "poll_request_id": secrets.token_hex(16)}
            reply = await self.client.post(f"/api/worker/{kind}-tasks/poll", body)
            if reply.status != 200:
                if 0 < reply.status < 500:
                    self.refused.append(f"{kind} poll: {reply}")
                await asyncio.sleep(_PAUSE_SECONDS)
            elif reply.body["task"] is not None:
                if kind == "activity":
                    self._spawn(work(reply.body["task"]))
                else:
                    await work(reply.body["task"])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        # One that broke stays, for the end to tell.
        task.add_done_callback(lambda done: None if done.cancelled() or done.exception() else self._working.discard(done))

    async def _decide(self, task: dict[str, Any]) -> None:
        view = View(task)
        update_id = task["workflow_update_id"]
        steps = [self.script.decide_update(view, update_id)] if update_id else self.script.decide(view)
        body = {"lease_owner": task["lease_owner"], "workflow_task_attempt": task["workflow_task_attempt"], "commands": steps}
        self._note(await self.persist(f"/api/worker/workflow-tasks/{task['task_id']}/complete", body), "decision")

    async def _perform(self, task: dict[str, Any]) -> None:
        body = {"activity_attempt_id": task["activity_attempt_id"], "lease_owner": task["lease_owner"]}
        outcome = "complete"
        try:
            result = await self.script.perform(self, task)
        except Failed as failure:
            outcome, body["failure"] = "fail", {"message": str(failure), "type": failure.type}
        else:
            if result is None:
                return
            body["result"] = envelope(result)
        reply = await self.persist(f"/api/worker/activity-tasks/{task['task_id']}/{outcome}", body)
        self._note(reply, f"activity {outcome}")
        if reply.status == 200 and reply.body["recorded"]:
            self.recorded.setdefault(task["run_id"], set()).add(task["activity_attempt_id"])

    async def _answer(self, task: dict[str, Any]) -> None:
        result = self.script.answer(View(task))
        body = {
            "lease_owner": task["lease_owner"],
            "query_task_attempt": task["query_task_attempt"],
            "result": result,
            "result_envelope": envelope(result),
        }
        reply = await self.client.post(f"/api/worker/query-tasks/{task['query_task_id']}/complete", body)
        if reply.status != 404:  # the broker's memory goes with its node
            self._note(reply, "answer")

    async def heartbeat(self, task: dict[str, Any]) -> dict[str, Any]:
        """One heartbeat of an activity; what the server says to it."""
        body = {"activity_attempt_id": task["activity_attempt_id"], "lease_owner": task["lease_owner"]}
        reply = await self.persist(f"/api/worker/activity-tasks/{task['task_id']}/heartbeat", body)
        if reply.status != 200:
            self.refused.append(f"heartbeat: {reply}")
        return reply.body

    def _note(self, reply: Reply, what: str) -> None:
        self.answers[f"{what} {reply.status} {reply.body.get('reason')}"] += 1
        if reply.status == 200:
            self.reports += 1
        elif 0 < reply.status < 500 and reply.status != 409:
            self.refused.append(f"{what}: {reply}")


def kinds(events: Iterable[Event]) -> list[str]:
    """The types of events."""
    return [event["event_type"] for event in events]
