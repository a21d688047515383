"""Histories of random runs, judged by the SDK's own replayer."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import orjson
from durable_workflow import serializer, workflow
from durable_workflow.errors import ActivityFailed

from actors.dialects import sdk04
from actors.dialects.sdk04 import Sdk04
from actors.run.commands.steps import WorkflowCommand
from actors.run.commands.worker import ClaimTask, FailWorkflowTask, ReleaseClaim
from actors.run.dialect import Dialect
from actors.run.replies import (
    ActivityRecorded,
    ActivityTaskGrant,
    HistoryPage,
    Refused,
    WorkflowTaskCompleted,
    WorkflowTaskGrant,
)
from actors.run.state import RunState, View
from actors.run.values import Payload, WorkerIdentity
from api.http.input.fields import Fields
from api.worker.commands.batch import read_steps, scope_errors
from tests.core.harness import OTHER, PLAIN, PYTHON, Event, RunModel, completion, failure_of, page_of, result_of, shown_events

Script = list[list[dict[str, Any]]]


@workflow.defn(name="stages")
class ScriptedWorkflow:
    """Yields each stage of its script, alone or as a list, and returns what came back."""

    def run(self, ctx: Any, script: Script) -> Generator[Any, Any, list[Any]]:
        out: list[Any] = []
        for stage in script:
            commands = [self.command(ctx, item) for item in stage]
            try:
                out.append((yield commands[0] if stage[0]["alone"] else commands))
            except ActivityFailed as failed:
                out.append(["failed", failed.activity_type, failed.failure_category])
        return out

    @staticmethod
    def command(ctx: Any, item: dict[str, Any]) -> Any:
        if item["kind"] == "timer":
            return ctx.start_timer(item["seconds"])
        return ctx.schedule_activity(
            item["type"],
            [item["place"]],
            retry_policy={"max_attempts": 2, "backoff_seconds": [1]} if item["how"] == "flaky" else None,
            start_to_close_timeout=20 if item["how"] == "slow" else None,
        )


def make_script(rng: random.Random) -> Script:
    """Up to four stages of up to five members."""
    script: Script = []
    for stage in range(rng.randint(1, 4)):
        members = rng.choice([1, 2, 2, 3, 4, 5])
        alone = members == 1 and rng.random() < 0.7
        items: list[dict[str, Any]] = []
        for place in range(members):
            if rng.random() < 0.3:
                items.append({"kind": "timer", "seconds": rng.choice([0, 1, 5, 30]), "alone": alone})
            else:
                how = rng.choices(["ok", "flaky", "bad", "slow"], [7, 2, 1, 1])[0]
                type_ = f"act-{rng.randint(0, 2)}-{how}"
                items.append({"kind": "activity", "type": type_, "place": f"{stage}.{place}", "how": how, "alone": alone})
        script.append(items)
    return script


def expected(script: Script) -> list[Any]:
    """What the workflow must return, whatever the order in which its steps end."""
    out: list[Any] = []
    for stage in script:
        values: list[Any] = []
        failed: list[Any] | None = None
        for item in stage:
            if item["kind"] == "timer":
                values.append(None)
            elif item["how"] in ("bad", "slow"):
                failed = failed or ["failed", item["type"], "activity" if item["how"] == "bad" else "timeout"]
            else:
                values.append(item["place"])
        out.append(failed or (values[0] if stage[0]["alone"] else values))
    return out


class Wrong(AssertionError):
    """The worker was shown something that does not replay, or the run did not come out as written."""


class ReplayedRun:
    """One run and its workers, doing one random thing after another until the run is closed."""

    workflow: type = ScriptedWorkflow

    def __init__(self, seed: int, dialect: Dialect | None = None) -> None:
        self.rng = random.Random(seed)
        self.script = make_script(self.rng)
        self.codec = self.rng.choice(["avro", "json"])
        blob = serializer.encode([self.script], self.codec)
        self.run = RunModel(
            dialect=dialect, workflow_type="stages", arguments=Payload(self.codec, blob), payload_codec=self.codec
        )
        self.tasks: list[tuple[WorkflowTaskGrant, list[WorkflowCommand]]] = []
        self.attempts: list[ActivityTaskGrant] = []
        self.view: list[str] = []
        self.repetitions = 0

    def play(self) -> None:
        """Until the run is closed; then its result must be the expected one."""
        for _ in range(500):
            if not self.run.state.is_open:
                break
            self.one_thing()
        ends = [event for event in self.run.events() if event["event_type"].startswith("Workflow")][1:]
        if [event["event_type"] for event in ends] != ["WorkflowCompleted"]:
            raise Wrong(f"ended with {ends}")
        result = serializer.decode_envelope(ends[0]["payload"]["output"], codec=ends[0]["payload"]["payload_codec"])
        if result != expected(self.script):
            raise Wrong(f"returned {result}, not {expected(self.script)}")

    def one_thing(self) -> None:
        rng, run = self.rng, self.run
        ready = [row for row in run.rows.values() if row.available_at <= run.now]
        choices: list[Any] = []
        if any(row.kind == "workflow" for row in ready):
            choices += [self.poll] * 4
        if any(row.kind == "activity" for row in ready):
            choices += [self.start_attempt] * 4
        if self.tasks:
            choices += [self.answer] * 3
        if self.attempts:
            choices += [self.end_attempt] * 3
        if not choices or rng.random() < 0.1:
            choices = [self.sleep]
        rng.choice(choices)()

    # -- workflow workers ----------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """A worker claims the workflow task. Most replay and answer soon or late, some vanish."""
        task_id = self.run.row("workflow").task_id
        chance = self.rng.random()
        if chance < 0.06:
            # A worker of another generation had it for a moment.
            self.run.expect(WorkflowTaskGrant, ClaimTask(task_id, PLAIN))
            self.run.tell(ReleaseClaim(task_id, PLAIN.worker_id, self.attempt()))
            return
        worker = self.rng.choice([PYTHON, OTHER])
        grant = self.run.expect(WorkflowTaskGrant, ClaimTask(task_id, worker, self.rng.choice([1, 3, 500])))
        steps = self.replay(grant, self.read(grant))
        if chance < 0.12:
            self.run.pass_time(61)
            self.run.wake()
        elif chance < 0.16:
            self.run.tell(FailWorkflowTask(task_id, worker.worker_id, grant.workflow_task_attempt, "out of memory"))
        self.tasks.append((grant, steps))

    def attempt(self) -> int:
        task = self.run.state.task
        assert task is not None
        return task.attempt

    def read(self, grant: WorkflowTaskGrant) -> list[Event]:
        """All pages, as the SDK collects them."""
        events, after = shown_events(grant), grant.next_after
        while after is not None:
            page = self.run.expect(HistoryPage, page_of(grant, after, self.rng.choice([2, 5])))
            events += orjson.loads(page.events)
            after = page.next_after
        order = [event["id"] for event in events]
        if order[: len(self.view)] != self.view or len(set(order)) != len(order):
            raise Wrong("a snapshot does not extend the one before")
        self.view = order
        return events

    def replay(self, grant: WorkflowTaskGrant, events: list[Event]) -> list[WorkflowCommand]:
        """What the SDK's worker does with a task, up to the call that completes it."""
        envelope = orjson.loads(grant.arguments)
        start_input = serializer.decode_envelope(envelope, codec=grant.payload_codec)
        outcome = workflow.replay(
            self.workflow,
            events,
            start_input,
            workflow_id=grant.workflow_id,
            run_id=grant.run_id,
            payload_codec=grant.payload_codec,
        )
        sent = workflow.commands_to_server_commands(outcome.commands, grant.task_queue, payload_codec=self.codec)
        errors: dict[str, list[str]] = {}
        steps = read_steps(scope_errors(Fields({"commands": orjson.loads(orjson.dumps(sent))}, errors=errors)), errors)
        assert not errors and steps, errors
        return steps

    def answer(self) -> None:
        """A worker completes what it claimed, perhaps too late."""
        grant, steps = self.tasks.pop(self.rng.randrange(len(self.tasks)))
        reply = self.run.tell(completion(grant, *steps))
        if isinstance(reply, WorkflowTaskCompleted):
            self.repetitions += not self.run.new
        else:
            assert isinstance(reply, Refused) and reply.reason not in ("invalid_commands", "structural_limit_exceeded"), reply

    # -- activity workers ----------------------------------------------------------------------------------------------

    def start_attempt(self) -> None:
        rows = sorted(
            row.task_id for row in self.run.rows.values() if row.kind == "activity" and row.available_at <= self.run.now
        )
        worker = WorkerIdentity(f"activities-{len(self.attempts)}")
        self.attempts.append(self.run.expect(ActivityTaskGrant, ClaimTask(self.rng.choice(rows), worker)))

    def end_attempt(self) -> None:
        """Any of the running attempts ends, in any order; the type says how."""
        grant = self.attempts.pop(self.rng.randrange(len(self.attempts)))
        how = grant.activity_type.rsplit("-", 1)[1]
        place = serializer.decode_envelope(orjson.loads(grant.arguments), codec=grant.payload_codec)[0]
        if how == "bad":
            self.run.tell(failure_of(grant, message=place, type="Bad", non_retryable=True))
        elif how == "flaky" and grant.attempt_number == 1:
            self.run.tell(failure_of(grant, message=place, type="Flaky"))
        elif how != "slow":
            codec = self.rng.choice(["avro", "json"])
            reply = self.run.tell(result_of(grant, serializer.encode(place, codec), codec))
            assert isinstance(reply, ActivityRecorded | Refused)

    def sleep(self) -> None:
        """Time passes: a little, or until the next thing is due."""
        run = self.run
        times = [at for at in (run.wake_at, *(row.available_at for row in run.rows.values())) if at is not None]
        later = [at for at in times if at > run.now]
        run.now = min(later) if later and self.rng.random() < 0.7 else run.now + 1_000_000
        run.wake()


class WithoutStepOrder(Sdk04):
    """The view without V3: results in the order in which they came."""

    def shows(self, state: RunState, dialect: str, step: int) -> bool:
        return True


def at_once(view: View, sequence: int, step: int) -> None:
    for group in view.groups:
        if step in group:
            group.remove(step)
    sdk04._append(view, sequence)
