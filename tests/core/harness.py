"""A run without a server: the pure core, driven command by command, its ready rows kept as the store would keep them.

Every command is decided twice from the same stored state, which must give the same bytes: the core is a function of (state,
command, time). Between commands the state exists only in its stored form.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import orjson
from hypothesis import HealthCheck, settings

from actors.dialects.sdk04 import DIALECT, Sdk04
from actors.run import ids, starting
from actors.run.commands import (
    ClaimTask,
    CompleteActivity,
    CompleteWorkflow,
    CompleteWorkflowTask,
    FailActivity,
    Failure,
    Payload,
    ReadHistoryPage,
    RetryPolicy,
    RunCommand,
    ScheduleActivity,
    StartRun,
    Steps,
    WakeUp,
    WorkerIdentity,
)
from actors.run.decide import READS_HISTORY, decide
from actors.run.presentation import Chronological
from actors.run.replies import ActivityTaskGrant, RunReply, WorkflowTaskCompleted, WorkflowTaskGrant
from actors.run.rules import DEFAULT_RULES, Rules
from actors.run.state import RunState, decode, encode
from actors.run.times import SECOND
from actors.run.transition import TaskReady, Transition

R = TypeVar("R", bound=RunReply)
Event = dict[str, Any]

START = 1_776_676_500_250_000  # 2026-04-20T09:15:00.250000Z
RUN_ID = ids.mint(START // 1000, "0a" + "q" * 13, ids.RUN)

PLAIN = WorkerIdentity("plain-1", "")
PYTHON = WorkerIdentity("python-1", DIALECT)
OTHER = WorkerIdentity("python-2", DIALECT)

# More examples than the default: DW_TEST_SCALE=20 for a long search.
SCALE = int(os.environ.get("DW_TEST_SCALE", "1"))


def search(examples: int, **more: Any) -> settings:
    """Hypothesis settings of this folder: the same examples on every machine, no time limits of its own."""
    return settings(
        max_examples=examples * SCALE,
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def blob(value: str, codec: str = "avro") -> Payload:
    """An opaque payload."""
    return Payload(codec, value)


def start_command(**changes: Any) -> StartRun:
    """A plain start; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "namespace": "default",
        "workflow_id": "order-7",
        "run_id": RUN_ID,
        "workflow_type": "order",
        "task_queue": "main",
        "arguments": blob("INPUT"),
    }
    return StartRun(**{**fields, **changes})


class Run:
    """One run in its stored form, and the clock it lives by."""

    def __init__(self, rules: Rules = DEFAULT_RULES, shown: Chronological | None = None, **start: Any) -> None:
        self.rules = rules
        self.shown = Sdk04() if shown is None else shown
        self.now = START
        self.history: list[bytes] = []
        self.rows: dict[str, TaskReady] = {}
        self.wake_at: int | None = None
        self.new: list[Event] = []
        self.changed = False
        tx = starting.create(start_command(**start), self.now, rules, self.shown)
        self.started = decide(tx, start_command(**start))
        self.data = b""
        self._keep(tx)

    # -- telling -------------------------------------------------------------------------------------------------------

    def tell(self, command: RunCommand) -> RunReply:
        """Decide and store one command; `new` holds the events it recorded.

        The second time the history is at hand only if the command says that it reads it, as in an actor just hydrated.
        """
        replies: list[RunReply] = []
        outcomes: list[tuple[Any, ...]] = []
        for history in (self.history, self.history if isinstance(command, READS_HISTORY) else ()):
            tx = Transition(decode(self.data), list(history), self.now, self.rules, self.shown)
            replies.append(decide(tx, command))
            outcomes.append((encode(tx.state), tx.events, tx.ready, tx.unready, tx.changed))
        assert replies[0] == replies[1] and outcomes[0] == outcomes[1], f"{command} is not decided by state and time alone"
        if not tx.changed:
            assert encode(tx.state) == self.data, f"{command} changed the state behind the store's back"
            assert not tx.events and not tx.ready and not tx.unready
        self._keep(tx)
        return replies[1]

    def _keep(self, tx: Transition) -> None:
        for task_id in tx.unready:
            assert task_id in self.rows, f"took a ready row that was not there: {task_id}"
            if task_id not in tx.ready:
                del self.rows[task_id]
        for task_id, task in tx.ready.items():
            assert task_id not in self.rows or task_id in tx.unready, f"offered {task_id} twice"
            self.rows[task_id] = task
        self.changed = tx.changed
        self.data = encode(tx.state)
        assert encode(decode(self.data)) == self.data
        self.history += tx.events
        self.new = [orjson.loads(line) for line in tx.events]
        self.wake_at = tx.wake_at()

    def expect(self, kind: type[R], command: RunCommand) -> R:
        """`tell`, and the answer must be of a kind."""
        reply = self.tell(command)
        assert isinstance(reply, kind), reply
        return reply

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """A copy of the state."""
        return decode(self.data)

    @property
    def new_types(self) -> list[str]:
        """Types of the events the last command recorded."""
        return [event["event_type"] for event in self.new]

    def events(self) -> list[Event]:
        """The whole chronological history."""
        return [orjson.loads(line) for line in self.history]

    def row(self, kind: str, at: int = 0) -> TaskReady:
        """A ready row of a kind, oldest id first."""
        return [self.rows[task_id] for task_id in sorted(self.rows) if self.rows[task_id].kind == kind][at]

    # -- shorthands ----------------------------------------------------------------------------------------------------

    def claim(self, worker: WorkerIdentity = PYTHON, page: int = 500) -> WorkflowTaskGrant:
        """Claim the ready workflow task."""
        return self.expect(WorkflowTaskGrant, ClaimTask(self.row("workflow").task_id, worker, page))

    def claim_activity(self, worker: WorkerIdentity = PYTHON, at: int = 0) -> ActivityTaskGrant:
        """Claim a ready activity task, the oldest by default."""
        return self.expect(ActivityTaskGrant, ClaimTask(self.row("activity", at).task_id, worker))

    def complete(self, grant: WorkflowTaskGrant, *steps: Steps) -> WorkflowTaskCompleted:
        """Complete a leased workflow task."""
        return self.expect(WorkflowTaskCompleted, completion(grant, *steps))

    def batch(self, *steps: Steps, worker: WorkerIdentity = PYTHON) -> WorkflowTaskCompleted:
        """Claim the workflow task and complete it at once."""
        return self.complete(self.claim(worker), *steps)

    def succeed(self, grant: ActivityTaskGrant, value: str = "RESULT") -> RunReply:
        """Report an attempt's result."""
        return self.tell(result_of(grant, value))

    def fail(self, grant: ActivityTaskGrant, **failure: Any) -> RunReply:
        """Report an attempt's failure."""
        return self.tell(failure_of(grant, **failure))

    def pass_time(self, seconds: float) -> None:
        """Let the clock run."""
        self.now += round(seconds * SECOND)

    def wake(self) -> RunReply:
        """Enforce what is due."""
        return self.tell(WakeUp())


def completion(
    grant: WorkflowTaskGrant, *steps: Steps, owner: str | None = None, attempt: int | None = None
) -> CompleteWorkflowTask:
    """The completion a worker with this grant sends."""
    return CompleteWorkflowTask(grant.task_id, owner or grant.lease_owner, attempt or grant.workflow_task_attempt, list(steps))


def page_of(grant: WorkflowTaskGrant, after: int, size: int = 500) -> ReadHistoryPage:
    """The call for a further page."""
    return ReadHistoryPage(grant.task_id, grant.lease_owner, grant.workflow_task_attempt, after, size)


def result_of(grant: ActivityTaskGrant, value: str | None = "RESULT", codec: str = "avro") -> CompleteActivity:
    """The call that reports a result."""
    payload = None if value is None else blob(value, codec)
    return CompleteActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner, payload)


def failure_of(grant: ActivityTaskGrant, **failure: Any) -> FailActivity:
    """The call that reports a failure; `failure` are fields of it."""
    return FailActivity(
        grant.task_id, grant.activity_attempt_id, grant.lease_owner, Failure(**{"message": "declined", **failure})
    )


def activity(name: str = "charge", **fields: Any) -> ScheduleActivity:
    """A command that schedules an activity."""
    return ScheduleActivity(name, **{"arguments": blob("ARGS"), **fields})


def retrying(attempts: int, *backoff: int, types: tuple[str, ...] = ()) -> RetryPolicy:
    """A retry policy."""
    return RetryPolicy(max_attempts=attempts, backoff_seconds=list(backoff), non_retryable_error_types=list(types))


def finish(value: str | None = "OUT") -> CompleteWorkflow:
    """The command that ends a workflow well."""
    return CompleteWorkflow(None if value is None else blob(value))


def shown_events(grant: WorkflowTaskGrant) -> list[Event]:
    """The first page of a grant."""
    events: list[Event] = orjson.loads(grant.history_events)
    return events
