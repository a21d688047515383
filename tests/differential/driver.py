"""Does one thing after another to the server over HTTP, and has the observer explain every answer by the model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import msgspec

from actors.run.commands import RunCommand
from actors.run.commands.control import (
    ArchiveRun,
    CancelRun,
    ControlCommand,
    ReadForQuery,
    ReadUpdate,
    RepairRun,
    SignalRun,
    StartRun,
    StartStandalone,
    TerminateRun,
    UpdateRun,
)
from actors.run.commands.steps import ScheduleActivity
from actors.run.commands.worker import (
    ClaimTask,
    CompleteActivity,
    CompleteWorkflowTask,
    FailActivity,
    FailWorkflowTask,
    HeartbeatActivity,
    HeartbeatWorkflowTask,
    ReadHistoryPage,
)
from actors.run.ids import RunId
from actors.run.replies import Refused, RunReply, UpdateStatus
from actors.run.values import Failure, RetryPolicy, WorkerIdentity
from actors.run.words import STANDALONE_TYPE
from tests.cluster.client import ClusterClient, Reply
from tests.differential import answers
from tests.differential.batches import QUEUES, TYPES, Batches, Pair, payload
from tests.differential.caused import caused_by
from tests.differential.explaining import Event, Operation, Unheard, micros, micros_of
from tests.differential.model import Decided, RunOracle, id_time
from tests.differential.observer import Difference, Observer

CALL_SECONDS = 60.0
POLL_SECONDS = 45.0
UPDATE_WAIT_SECONDS = 60
SECOND = 1_000_000

WORKERS = {
    "0.4": {"runtime": "python", "sdk_version": "durable-workflow-python/0.4.84"},
    "": {"runtime": "external"},
}


@dataclass(frozen=True)
class Lease:
    """A task somebody was given, and by which dialect it is shown."""

    kind: str
    task: dict[str, Any]
    dialect: str

    @property
    def task_id(self) -> str:
        task_id: str = self.task["task_id"]
        return task_id


class Driver:
    """Calls and their explanations. `observer.world` is what the server is now."""

    def __init__(self, client: ClusterClient, world: RunOracle, random: Random) -> None:
        self.client = client
        self.random = random
        self.observer = Observer(world, self._history)
        self.batches = Batches(random)
        self.leases: list[Lease] = []
        self.waited: dict[str, tuple[str, asyncio.Task[Reply]]] = {}
        self.last_batch: dict[str, list[Pair]] = {}
        self.leaving: Callable[[], bool] = lambda: False  # whether a node leaves or is away
        self._names = 0

    @property
    def world(self) -> RunOracle:
        """The model."""
        return self.observer.world

    def did(self, what: str) -> None:
        """An operation of this kind succeeded."""
        self.observer.counts[what] += 1

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def _history(self, workflow_id: str, run_id: str) -> list[Event] | None:
        reply = await self._call(None, f"/api/workflows/{workflow_id}/runs/{run_id}/history")
        assert reply.status in (200, 404), reply
        return reply.body["events"] if reply.status == 200 else None

    async def _call(self, body: dict[str, Any] | None, path: str) -> Reply:
        """A call, repeated until a node answers it; `tries` above 1: an earlier copy may have counted."""
        end = time.monotonic() + CALL_SECONDS
        tries = 0
        while True:
            reply = await (self.client.get(path) if body is None else self.client.post(path, body))
            tries += reply.tries
            if 0 < reply.status < 500 or time.monotonic() > end:
                return reply._replace(tries=tries)
            await asyncio.sleep(0.2)

    async def register(self) -> None:
        """One worker of each dialect on each queue."""
        for queue in QUEUES:
            for dialect, fields in WORKERS.items():
                body = {"worker_id": _worker(queue, dialect), "task_queue": queue, **fields}
                assert (await self._call(body, "/api/worker/register")).status in (200, 201)

    async def _act(
        self,
        name: str,
        path: str,
        body: dict[str, Any],
        target: Callable[[RunOracle], str | None],
        command: RunCommand,
        shown: Callable[[RunReply], answers.Shown],
        times: Callable[[Reply], list[int]] = lambda reply: [],
    ) -> RunReply:
        """A call that a run answers."""
        sent_at = micros()
        answer = await self._call(body, path)

        def decide(world: RunOracle, now: int) -> Decided:
            run_id = target(world)
            refused: Any = Refused("instance_not_found")
            return Decided(world, refused, {}, False) if run_id is None else world.tell(run_id, command, now)

        return await self.observer.saw(
            Operation(
                f"{name} -> {answer}",
                target,
                decide,
                lambda reply: answers.differences(answer, shown(reply)),
                sent_at,
                lambda: tuple(times(answer)),
                lost=answer.tries > 1,
                answered_at=micros(),
            )
        )

    # -- starts --------------------------------------------------------------------------------------------------------

    async def start(self, workflow_id: str | None = None, workflow_type: str | None = None, **fields: Any) -> None:
        """Start a workflow; with an id that is taken, a duplicate."""
        self._names += 1
        new = workflow_id is None
        workflow_id = workflow_id or f"w{self._names}"
        name = workflow_type or self.random.choice(TYPES)
        queue = self.random.choice(QUEUES)
        arguments = payload([self.batches.text()])
        body = {"workflow_id": workflow_id, "workflow_type": name, "task_queue": queue, "input": arguments.envelope(), **fields}
        sent_at = micros()
        answer = await self._call(body, "/api/workflows")
        run_id, caused = answer.body.get("run_id") or "", caused_by("/api/workflows", body)
        command = StartRun("default", workflow_id, RunId(run_id), name, queue, arguments, attribution=caused, **fields)

        def target(world: RunOracle) -> str | None:
            current = world.current(workflow_id)
            return command.run_id or None if current is None else current.run_id

        reply = await self.observer.saw(
            Operation(
                f"start {workflow_id} -> {answer}",
                target,
                lambda world, now: world.start(command, now),
                lambda reply: answers.differences(answer, answers.start(reply)),
                sent_at,
                lost=answer.tries > 1,
                answered_at=micros(),
                workflow_id=workflow_id,
            )
        )
        self.did("start" if new else f"duplicate start: {getattr(reply, 'outcome', None) or getattr(reply, 'reason', '')}")

    async def start_alone(self, activity_id: str | None = None) -> None:
        """Start a standalone activity; with an id that is taken, a duplicate, or the next one after a closed one."""
        self._names += 1
        new = activity_id is None
        activity_id = activity_id or f"a{self._names}"
        queue, name = self.random.choice(QUEUES), self.random.choice(["alone", "single"])
        arguments = payload([self.batches.text()])
        body: dict[str, Any] = {"activity_id": activity_id, "activity_type": name, "task_queue": queue}
        body["input"] = arguments.envelope()
        policy = None
        if self.random.random() < 0.5:
            policy = RetryPolicy(max_attempts=2, backoff_seconds=[0])
            body["retry_policy"] = {"max_attempts": 2, "backoff_seconds": 0}
        sent_at = micros()
        answer = await self._call(body, "/api/activities")
        run_id = answer.body.get("workflow_run_id")
        if run_id is None and answer.tries > 1:  # perhaps an earlier copy started it
            run_id = (await self._call(None, f"/api/activities/{activity_id}")).body.get("workflow_run_id")
        caused = caused_by("/api/activities", body)
        command = StartStandalone(
            namespace="default",
            workflow_id=activity_id,
            run_id=RunId(run_id or ""),
            workflow_type=STANDALONE_TYPE,
            task_queue=queue,
            arguments=arguments,
            attribution=caused,
            activity=ScheduleActivity(name, arguments, retry_policy=policy),
            activity_class=name,
        )

        def target(world: RunOracle) -> str | None:
            current = world.current(activity_id)
            return command.run_id or (None if current is None else current.run_id)

        reply = await self.observer.saw(
            Operation(
                f"start alone {activity_id} -> {answer}",
                target,
                lambda world, now: world.start(command, now),
                lambda reply: answers.differences(answer, answers.start_alone(reply)),
                sent_at,
                lost=answer.tries > 1,
                answered_at=micros(),
                workflow_id=activity_id,
            )
        )
        self.did("start alone" if new else f"alone again: {getattr(reply, 'outcome', None) or getattr(reply, 'reason', '')}")

    # -- polls ---------------------------------------------------------------------------------------------------------

    async def poll(self, kind: str, queue: str, dialect: str) -> Lease | None:
        """Poll until the server gives a task, or neither server nor model has one."""
        end = time.monotonic() + POLL_SECONDS
        worker = _worker(queue, dialect)
        while True:
            sent_at = micros()
            body = {"worker_id": worker, "task_queue": queue, "poll_request_id": secrets.token_hex(8), "history_page_size": 7}
            answer = await self._call(body, f"/api/worker/{kind}-tasks/poll")
            assert answer.status == 200, answer
            task = answer.body["task"]
            if answer.tries > 1 or (task is None and self.leaving()):
                self.observer.explainer.unheard.append(Unheard(WorkerIdentity(worker, dialect), queue, kind, sent_at))
            if task is not None:
                break
            self.observer.journal.append(f"{sent_at} to {micros()} empty {kind} poll of {worker}, {answer.tries} tries")
            missed = [row.task_id for row in self.world.ready(kind, queue, sent_at)]
            if not missed:
                self.did(f"empty {kind} poll")
                return None
            for task_id in missed:
                run = self.world.run_of(task_id)
                assert run is not None
                await self.observer.look(run.run_id)
            empty = self.observer.keep(partial(_not_ready, missed, kind, queue, sent_at))
            assert empty or time.monotonic() < end, f"polls of {queue} miss some of {missed}"
        rules = self.world.rules
        lease = rules.workflow_task_lease if kind == "workflow" else rules.activity_task_lease
        command = ClaimTask(task["task_id"], WorkerIdentity(worker, dialect), 7)
        await self.observer.saw(
            Operation(
                f"{kind} poll -> {task}",
                lambda world: task["run_id"],
                lambda world, now: world.tell(task["task_id"], command, now),
                lambda reply: answers.differences(answer, answers.polled(reply)),
                sent_at,
                lambda: (micros_of(task["lease_expires_at"]) - lease * SECOND,),
                lost=answer.tries > 1,
                answered_at=micros(),
            )
        )
        self.did(f"claim {kind} {dialect or 'plain'}")
        found = Lease(kind, task, dialect)
        self.leases.append(found)
        return found

    # -- workflow tasks ------------------------------------------------------------------------------------------------

    async def workflow_call(self, lease: Lease, verb: str, outcome: str | None, command: RunCommand, **fields: Any) -> RunReply:
        """Any call on a leased workflow task."""
        attempt = lease.task["workflow_task_attempt"]
        body = {"lease_owner": lease.task["lease_owner"], "workflow_task_attempt": attempt, **fields}

        def times(answer: Reply) -> list[int]:
            if verb == "heartbeat" and answer.status == 200:
                return [micros_of(answer.body["lease_expires_at"]) - self.world.rules.workflow_task_lease * SECOND]
            return [id_time(task_id) for task_id in answer.body.get("created_task_ids") or ()]

        reply = await self._act(
            f"{verb} workflow task with {fields}",
            f"/api/worker/workflow-tasks/{lease.task_id}/{verb}",
            body,
            lambda world: lease.task["run_id"],
            command,
            lambda reply: answers.workflow_call(reply, lease.task_id, attempt, outcome),
            times,
        )
        if isinstance(reply, Refused):
            self.did(f"refused: {reply.reason}")
        else:
            self.did(f"{verb} workflow task")
        return reply

    async def complete(self, lease: Lease, pairs: list[Pair]) -> None:
        """Complete a workflow task with a batch."""
        task = lease.task
        steps = [step for _, step in pairs]
        command = CompleteWorkflowTask(lease.task_id, task["lease_owner"], task["workflow_task_attempt"], steps)
        commands = [sent for sent, _ in pairs]
        before = self._steps(task["run_id"])
        reply = await self.workflow_call(lease, "complete", "completed", command, commands=commands)
        if isinstance(reply, Refused):
            return
        for sent in commands:
            self.did(f"command {sent['type']}")
        if self._steps(task["run_id"]) == before and all(sent["type"] in _GROUPED for sent in commands):
            self.did("repeated batch")
        grouped = [(sent, step) for sent, step in pairs if sent["type"] in _GROUPED]
        if grouped and self._steps(task["run_id"]) != before:
            self.last_batch[task["run_id"]] = grouped

    def _steps(self, run_id: str) -> int:
        run = self.world.run_of(run_id)
        return 0 if run is None else run.state.steps

    async def fail_task(self, lease: Lease) -> None:
        """Report that the task could not be executed."""
        message = self.batches.text()
        command = FailWorkflowTask(lease.task_id, lease.task["lease_owner"], lease.task["workflow_task_attempt"], message)
        await self.workflow_call(lease, "fail", "failed", command, failure={"message": message})

    async def heartbeat_task(self, lease: Lease) -> None:
        """Extend the lease of a workflow task."""
        command = HeartbeatWorkflowTask(lease.task_id, lease.task["lease_owner"], lease.task["workflow_task_attempt"])
        await self.workflow_call(lease, "heartbeat", None, command)

    async def page(self, lease: Lease) -> None:
        """Read the rest of the history of a task."""
        token = lease.task["next_history_page_token"]
        after = len(lease.task["history_events"])
        if token is None:
            return
        task = lease.task
        command = ReadHistoryPage(lease.task_id, task["lease_owner"], task["workflow_task_attempt"], after, 5)
        await self.workflow_call(lease, "history", None, command, next_history_page_token=token, history_page_size=5)

    # -- activities ----------------------------------------------------------------------------------------------------

    async def activity_call(self, lease: Lease, verb: str, outcome: str | None, command: RunCommand, **fields: Any) -> None:
        """Any call on an activity attempt."""
        attempt_id = lease.task["activity_attempt_id"]
        reply = await self._act(
            f"{verb} activity with {fields}",
            f"/api/worker/activity-tasks/{lease.task_id}/{verb}",
            {"lease_owner": lease.task["lease_owner"], "activity_attempt_id": attempt_id, **fields},
            lambda world: lease.task["run_id"],
            command,
            lambda reply: answers.activity_call(reply, lease.task_id, attempt_id, outcome),
        )
        self.did(f"refused: {reply.reason}" if isinstance(reply, Refused) else f"{verb} activity")

    async def end_activity(self, lease: Lease) -> None:
        """Report a result or a failure."""
        guard = (lease.task_id, lease.task["activity_attempt_id"], lease.task["lease_owner"])
        if self.random.random() < 0.5:
            result = payload(self.batches.text())
            await self.activity_call(lease, "complete", "completed", CompleteActivity(*guard, result), result=result.envelope())
            return
        failure: dict[str, Any] = {"message": self.batches.text(), "type": self.random.choice(["Fatal", "Other"])}
        if self.random.random() < 0.2:
            failure["non_retryable"] = True
        await self.activity_call(lease, "fail", "failed", FailActivity(*guard, Failure(**failure)), failure=failure)

    async def heartbeat_activity(self, lease: Lease) -> None:
        """Report progress."""
        progress: dict[str, Any] = {"message": self.batches.text(), "current": self.random.randint(0, 9)}
        command = HeartbeatActivity(lease.task_id, lease.task["activity_attempt_id"], lease.task["lease_owner"], progress)
        await self.activity_call(lease, "heartbeat", None, command, **progress)

    # -- commands of the control plane ---------------------------------------------------------------------------------

    async def command(self, kind: str, workflow_id: str, run_id: str | None = None) -> None:
        """Signal, cancel, terminate, repair or archive; `run_id` addresses a run."""
        to_run = run_id is not None
        reason = self.batches.text()
        path = kind
        body: dict[str, Any] = {"reason": reason}
        command: ControlCommand
        if kind == "signal":
            arguments = payload([self.batches.text()])
            path, body = "signal/poke", {"input": arguments.envelope()}
            command = SignalRun(to_run=to_run, name="poke", arguments=arguments)
        elif kind == "repair":
            body, command = {}, RepairRun()
        else:
            stopping: dict[str, type[CancelRun] | type[TerminateRun] | type[ArchiveRun]]
            stopping = {"cancel": CancelRun, "terminate": TerminateRun, "archive": ArchiveRun}
            command = stopping[kind](to_run=to_run, reason=reason)
        accepted = 202 if kind == "signal" else 200
        reply = await self._to_workflow(kind, workflow_id, run_id, path, body, command, accepted)
        if isinstance(reply, Refused):
            self.did(f"refused: {reply.reason}")
        elif getattr(reply, "rejection", None) is None:
            self.did(kind + (" to a run" if to_run else ""))
        else:
            self.did(f"rejected: {getattr(reply, 'rejection', '')}")

    async def update(self, workflow_id: str, run_id: str | None = None) -> None:
        """Have an update accepted."""
        arguments = payload([self.batches.text()])
        body = {"input": arguments.envelope()}
        command = UpdateRun(to_run=run_id is not None, name="set", arguments=arguments)
        reply = await self._to_workflow("update", workflow_id, run_id, "update/set", body, command, 202)
        if isinstance(reply, UpdateStatus):
            self.did("update")

    async def _to_workflow(
        self,
        kind: str,
        workflow_id: str,
        run_id: str | None,
        path: str,
        body: dict[str, Any],
        command: ControlCommand | UpdateRun,
        accepted: int,
    ) -> RunReply:
        sent_at = micros()
        base = f"/api/workflows/{workflow_id}" if run_id is None else f"/api/workflows/{workflow_id}/runs/{run_id}"
        command = msgspec.structs.replace(command, attribution=caused_by(f"{base}/{path}", body))
        answer = await self._call(body, f"{base}/{path}")

        def decide(world: RunOracle, now: int) -> Decided:
            current = world.current(workflow_id)
            if current is None:
                return Decided(world, Refused("instance_not_found"), {}, False)
            if run_id is not None and current.run_id != run_id:
                return Decided(world, Refused("historical_run_command_rejected"), {}, False)
            return world.tell(current.run_id, command, now)

        def target(world: RunOracle) -> str | None:
            current = world.current(workflow_id)
            return None if current is None else current.run_id

        command_id = answer.body.get("command_id")
        return await self.observer.saw(
            Operation(
                f"{kind} {workflow_id} {run_id or ''} -> {answer}",
                target,
                decide,
                lambda reply: answers.differences(answer, answers.command(reply, accepted)),
                sent_at,
                lambda: (id_time(command_id),) if command_id else (),
                lost=answer.tries > 1,
                answered_at=micros(),
            )
        )

    # -- updates that are waited for -----------------------------------------------------------------------------------

    async def update_and_wait(self, workflow_id: str) -> None:
        """Begin an update whose caller waits for its end; the answer is looked at by `waits_end`."""
        run = self.world.current(workflow_id)
        assert run is not None and run.state.is_open
        arguments, request_id = payload([self.batches.text()]), secrets.token_hex(6)
        body = {"input": arguments.envelope(), "wait_for": "completed", "wait_timeout_seconds": UPDATE_WAIT_SECONDS}
        sent_at = micros()
        body, path = {**body, "request_id": request_id}, f"/api/workflows/{workflow_id}/update/set"
        asked = asyncio.create_task(self._call(body, path))
        command = UpdateRun(request_id, False, caused_by(path, body), "set", arguments)

        def target(world: RunOracle) -> str | None:
            current = world.current(workflow_id)
            return None if current is None else current.run_id

        def decide(world: RunOracle, now: int) -> Decided:
            run_id = target(world)
            assert run_id is not None
            return world.tell(run_id, command, now)

        saw = self.observer.saw(
            Operation(
                f"waited update {workflow_id}",
                target,
                decide,
                lambda reply: [] if isinstance(reply, UpdateStatus) else self._refusal(asked, reply),
                sent_at,
                lambda: self._refused_at(asked),
            )
        )
        try:
            reply = await saw
        except Difference as error:
            raise Difference(f"{error}\ncaller: {asked}, {self.client.trouble}, {self.client.gave_up}") from error
        if isinstance(reply, UpdateStatus):
            self.waited[reply.update_id] = (workflow_id, asked)
        else:
            await asked

    @staticmethod
    def _refusal(asked: asyncio.Task[Reply], reply: RunReply) -> list[str]:
        """How the refusal of a waited update differs from the model's; it has no event that would show it."""
        return answers.differences(asked.result(), answers.command(reply, 202)) if asked.done() else ["no answer yet"]

    @staticmethod
    def _refused_at(asked: asyncio.Task[Reply]) -> tuple[int, ...]:
        command_id = asked.result().body.get("command_id") if asked.done() else None
        return () if command_id is None else (id_time(command_id),)

    async def waits_end(self) -> None:
        """Look at the answers of callers whose updates have ended."""
        closed = frozenset.intersection(*(world.closed_updates for world in self.observer.worlds))
        for update_id in closed.intersection(self.waited):
            workflow_id, asked = self.waited.pop(update_id)
            async with asyncio.timeout(CALL_SECONDS):
                answer = await asked
            if answer.status == 202:  # a node that leaves lets nobody wait
                early = {key: answer.body[key] for key in ("workflow_id", "update_id", "update_status", "wait_timed_out")}
                assert early == {
                    "workflow_id": workflow_id,
                    "update_id": update_id,
                    "update_status": "accepted",
                    "wait_timed_out": True,
                }
                self.did("waited update of a leaving node")
            else:
                self._wait_ended(workflow_id, update_id, answer)

    def _wait_ended(self, workflow_id: str, update_id: str, answer: Reply) -> None:
        def ended(world: RunOracle) -> UpdateStatus:
            replies = [world.tell(run_id, ReadUpdate(update_id), micros()).reply for run_id in world.instances[workflow_id]]
            return next(one for one in reversed(replies) if isinstance(one, UpdateStatus) and one.status != "accepted")

        right = self.observer.keep(lambda world: not answers.differences(answer, answers.update(ended(world))))
        assert right, (answer, ended(self.world))
        self.did(f"waited update {ended(self.world).status}")

    # -- queries -------------------------------------------------------------------------------------------------------

    async def query(self, workflow_id: str, dialect: str) -> None:
        """Ask a run something, and answer it as a worker; the worker must see what the model shows."""
        run = self.world.current(workflow_id)
        assert run is not None
        queue, value = run.state.task_queue, self.batches.text()
        asked = asyncio.create_task(self._call({"input": [1]}, f"/api/workflows/{workflow_id}/query/where"))
        body = {"worker_id": _worker(queue, dialect), "task_queue": queue}
        task: dict[str, Any] | None = None
        end = time.monotonic() + POLL_SECONDS
        sent_at = micros()
        while task is None and not asked.done():
            assert time.monotonic() < end, "no query task comes"
            task = (await self._call(body, "/api/worker/query-tasks/poll")).body["task"]
        assert task is not None, await asked
        command = ReadForQuery(dialect)
        given = task
        await self.observer.saw(
            Operation(
                f"query task {task}",
                lambda world: given["run_id"],
                lambda world, now: world.tell(given["run_id"], command, now),
                lambda reply: answers.differences(Reply(200, given), (200, answers.query_task(reply))),
                sent_at,
            )
        )
        guard = {"lease_owner": task["lease_owner"], "query_task_attempt": task["query_task_attempt"]}
        path = f"/api/worker/query-tasks/{task['query_task_id']}/complete"
        done = await self._call({**guard, "result": value}, path)
        assert done.status == 200, done
        answer = await asked
        assert answer.status == 200 and answer.body["result"] == value, answer
        self.did("query")


_GROUPED = frozenset({"schedule_activity", "start_timer", "start_child_workflow"})


def _not_ready(task_ids: Sequence[str], kind: str, queue: str, now: int, world: RunOracle) -> bool:
    return not {row.task_id for row in world.ready(kind, queue, now)}.intersection(task_ids)


def _worker(queue: str, dialect: str) -> str:
    return f"{queue}-{'python' if dialect else 'plain'}"
