"""A run without a server: the pure core, driven command by command, its ready rows kept as the store would keep them.

Every command is decided twice from the same stored state, which must give the same bytes: the core is a function of (state,
command, time). Between commands the state exists only in its stored form.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import msgspec
import orjson
from hypothesis import HealthCheck, settings

from actors.dialects.sdk04 import DIALECT, Sdk04
from actors.run import ids
from actors.run.commands import RunCommand, WakeUp
from actors.run.commands.control import ReadForQuery, SignalRun, StartRun, StartStandalone, UpdateRun
from actors.run.commands.messages import StartChildRun, StartScheduledRun
from actors.run.commands.steps import (
    CompleteWorkflow,
    ContinueAsNew,
    OpenConditionWait,
    ScheduleActivity,
    StartChild,
    WorkflowCommand,
)
from actors.run.commands.worker import ClaimTask, CompleteActivity, CompleteWorkflowTask, FailActivity, ReadHistoryPage
from actors.run.decide import decide, needs_history
from actors.run.dialect import Dialect
from actors.run.lifecycle import starting
from actors.run.replies import (
    ActivityTaskGrant,
    CommandAnswered,
    QueryView,
    RunReply,
    UpdateStatus,
    WorkflowTaskCompleted,
    WorkflowTaskGrant,
)
from actors.run.rules import Rules
from actors.run.state import RunState, decode, encode
from actors.run.times import SECOND, Micros
from actors.run.transition import ReadyTask, RunMessage, Transition
from actors.run.values import Failure, Payload, Permit, RetryPolicy, WorkerIdentity
from actors.run.words import STANDALONE_TYPE
from tests.support.defaults import RULES

R = TypeVar("R", bound=RunReply)
Event = dict[str, Any]

START = 1_776_676_500_250_000  # 2026-04-20T09:15:00.250000Z
RUN_ID = ids.new_run_id(START // 1000, ids.RunKey("0a" + "q" * 13))

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


def standalone_command(activity: ScheduleActivity, class_: str = "label", **changes: Any) -> StartStandalone:
    """The start of a standalone activity; `changes` replace fields of the start."""
    fields = msgspec.structs.asdict(start_command(**{"workflow_id": "scan-4", "workflow_type": STANDALONE_TYPE, **changes}))
    return StartStandalone(**fields, activity=activity, activity_class=class_)


class Clock:
    """The time several runs live by, in microseconds."""

    def __init__(self, now: int = START) -> None:
        self.now = now


class RunModel:
    """One run in its stored form, and the clock it lives by.

    `new`, `messages`, `successor` and `near` are what the last command recorded, sent, began and found near a limit.
    """

    def __init__(self, rules: Rules = RULES, dialect: Dialect | None = None, clock: Clock | None = None, **start: Any) -> None:
        self._empty(rules, dialect or Sdk04(), clock or Clock())
        tx = starting.create(start_command(**start), Micros(self.now), rules, self.dialect)
        self.started = decide(tx, start_command(**start))
        self._keep(tx)

    def _empty(self, rules: Rules, dialect: Dialect, clock: Clock) -> None:
        self.rules = rules
        self.dialect = dialect
        self.clock = clock
        self.history: list[bytes] = []
        self.rows: dict[str, ReadyTask] = {}
        self.wake_at: int | None = None
        self.new: list[Event] = []
        self.messages: list[RunMessage] = []
        self.successor: RunModel | None = None
        self.changed = False
        self.near: list[tuple[str, int, int]] = []
        self.capped = False  # whether claims bring permits, as under caps
        self.places: set[Permit] = set()  # what the store holds of those of leases
        self.spent: list[Permit] = []  # those of dispatches
        self.data = b""

    @classmethod
    def child(cls, command: StartChildRun, parent: RunModel) -> RunModel:
        """The first run of a child, begun by its parent's message."""
        run = cls.__new__(cls)
        run._empty(parent.rules, parent.dialect, parent.clock)
        tx = starting.create_child(command, Micros(run.now), run.rules, run.dialect)
        run.started = decide(tx, command)
        run._keep(tx)
        return run

    @classmethod
    def scheduled(cls, command: StartScheduledRun) -> RunModel:
        """A run that a schedule has begun."""
        run = cls.__new__(cls)
        run._empty(RULES, Sdk04(), Clock())
        tx = starting.create_scheduled(command, command.start, Micros(run.now), run.rules, run.dialect)
        run.started = decide(tx, command)
        run._keep(tx)
        return run

    @classmethod
    def host(
        cls, activity: ScheduleActivity, rules: Rules = RULES, clock: Clock | None = None, class_: str = "label", **start: Any
    ) -> RunModel:
        """A host run of one standalone activity."""
        run = cls.__new__(cls)
        run._empty(rules, Sdk04(), clock or Clock())
        command = standalone_command(activity, class_, **start)
        tx = starting.create(command, Micros(run.now), run.rules, run.dialect)
        run.started = decide(tx, command)
        run._keep(tx)
        return run

    def _adopt(self, tx: Transition) -> RunModel:
        """The run that a transition of this one began."""
        run = type(self).__new__(type(self))
        run._empty(self.rules, self.dialect, self.clock)
        run._keep(tx)
        return run

    @property
    def now(self) -> int:
        """Microseconds since the Unix epoch."""
        return self.clock.now

    @now.setter
    def now(self, now: int) -> None:
        self.clock.now = now

    # -- telling -------------------------------------------------------------------------------------------------------

    def tell(self, command: RunCommand) -> RunReply:
        """Decide and store one command; `new` holds the events it recorded.

        The second time the history is at hand only if the command says that it reads it, as in an actor just hydrated.
        """
        if self.capped and isinstance(command, ClaimTask):
            command = msgspec.structs.replace(command, permits=self._free_permits())
        replies: list[RunReply] = []
        outcomes: list[tuple[Any, ...]] = []
        reads = needs_history(command, self.state)
        for history in (self.history, self.history if reads else ()):
            tx = Transition(decode(self.data), list(history), Micros(self.now), self.rules, self.dialect)
            replies.append(decide(tx, command))
            tx.settle_permits()
            next_ = tx.successor
            begun = None if next_ is None else (encode(next_.state), next_.events, next_.ready)
            rows = (tx.ready, tx.unready, tx.requests, tx.closed_updates, tx.permits_taken, tx.permits_freed)
            outcomes.append((encode(tx.state), tx.events, rows, tx.changed, tx.messages, begun))
        assert replies[0] == replies[1] and outcomes[0] == outcomes[1], f"{command} is not decided by state and time alone"
        if not tx.changed:
            assert encode(tx.state) == self.data, f"{command} changed the state behind the store's back"
            assert not (tx.events or tx.ready or tx.unready or tx.messages or tx.successor)
            assert not (tx.permits_taken or tx.permits_freed)
        self._keep(tx)
        return replies[1]

    def _free_permits(self) -> tuple[Permit, ...]:
        """A place in two scopes of leases, and one of dispatches."""
        number = next(n for n in range(1000) if Permit("lq", n) not in self.places)
        return Permit("lq", number), Permit("ln", number), Permit("d0", len(self.spent))

    def _keep_places(self, tx: Transition) -> None:
        """A run has places for just those leases that workers have."""
        assert self.places.issuperset(tx.permits_freed), "gave back what it had not"
        self.places.difference_update(tx.permits_freed)
        for task_id, permit in tx.permits_taken:
            assert task_id and permit not in self.places, "took what was taken"
            if permit.ends:
                self.places.add(permit)
            else:
                self.spent.append(permit)
        state = tx.state
        assert self.places == {permit for each in state.permits.values() for permit in each}
        if self.capped:
            task = state.open_task
            leased = {task.task_id} if task is not None and task.status == "leased" else set[str]()
            leased |= {each for each, activity in state.activities.items() if activity.status == "running"}
            assert set(state.permits) == leased, "places and leases go together"

    def _keep(self, tx: Transition) -> None:
        for task_id in tx.unready:
            assert task_id in self.rows, f"took a ready row that was not there: {task_id}"
            if task_id not in tx.ready:
                del self.rows[task_id]
        for task_id, task in tx.ready.items():
            assert task_id not in self.rows or task_id in tx.unready, f"offered {task_id} twice"
            self.rows[task_id] = task
        self._keep_places(tx)
        self.changed = tx.changed
        self.data = encode(tx.state)
        assert encode(decode(self.data)) == self.data
        self.history += tx.events
        self.new = [orjson.loads(line) for line in tx.events]
        self.near = tx.near
        self.messages = tx.messages
        self.successor = None if tx.successor is None else self._adopt(tx.successor)
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

    def row(self, kind: str, at: int = 0) -> ReadyTask:
        """A ready row of a kind, oldest id first."""
        return [self.rows[task_id] for task_id in sorted(self.rows) if self.rows[task_id].kind == kind][at]

    # -- shorthands ----------------------------------------------------------------------------------------------------

    def claim(self, worker: WorkerIdentity = PYTHON, page: int = 500) -> WorkflowTaskGrant:
        """Claim the ready workflow task."""
        return self.expect(WorkflowTaskGrant, ClaimTask(self.row("workflow").task_id, worker, page))

    def claim_activity(self, worker: WorkerIdentity = PYTHON, at: int = 0) -> ActivityTaskGrant:
        """Claim a ready activity task, the oldest by default."""
        return self.expect(ActivityTaskGrant, ClaimTask(self.row("activity", at).task_id, worker))

    def complete(self, grant: WorkflowTaskGrant, *steps: WorkflowCommand) -> WorkflowTaskCompleted:
        """Complete a leased workflow task."""
        return self.expect(WorkflowTaskCompleted, completion(grant, *steps))

    def batch(self, *steps: WorkflowCommand, worker: WorkerIdentity = PYTHON) -> WorkflowTaskCompleted:
        """Claim the workflow task and complete it at once."""
        return self.complete(self.claim(worker), *steps)

    def succeed(self, grant: ActivityTaskGrant, value: str = "RESULT") -> RunReply:
        """Report an attempt's result."""
        return self.tell(result_of(grant, value))

    def fail(self, grant: ActivityTaskGrant, **failure: Any) -> RunReply:
        """Report an attempt's failure."""
        return self.tell(failure_of(grant, **failure))

    def signal(self, name: str = "go", **fields: Any) -> CommandAnswered:
        """Send a signal."""
        return self.expect(CommandAnswered, SignalRun(**{"name": name, "arguments": blob("ARGS"), **fields}))

    def update(self, name: str = "set", **fields: Any) -> UpdateStatus:
        """Send an update that is accepted."""
        return self.expect(UpdateStatus, UpdateRun(**{"name": name, "arguments": blob("ARGS"), **fields}))

    def query(self, worker: WorkerIdentity = PYTHON) -> list[Event]:
        """The events a query sees; nothing may change by it."""
        view = self.expect(QueryView, ReadForQuery(worker.dialect))
        assert not self.changed
        events: list[Event] = orjson.loads(view.history_events)
        assert [event["sequence"] for event in events] == list(range(1, view.last_history_sequence + 1))
        return events

    def pass_time(self, seconds: float) -> None:
        """Let the clock run."""
        self.now += round(seconds * SECOND)

    def wake(self) -> RunReply:
        """Enforce what is due."""
        return self.tell(WakeUp())


def completion(
    grant: WorkflowTaskGrant, *steps: WorkflowCommand, owner: str | None = None, attempt: int | None = None
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


def wait(key: str | None = "ready", timeout: int | None = None) -> OpenConditionWait:
    """A command that opens a condition wait."""
    return OpenConditionWait(key, None if key is None else f"print-{key}", timeout)


def child(type_: str = "part", **fields: Any) -> StartChild:
    """A command that starts a child."""
    return StartChild(type_, **{"arguments": blob("CHILD-ARGS"), **fields})


def onward(value: str | None = "NEXT", **fields: Any) -> ContinueAsNew:
    """The command that continues as new."""
    return ContinueAsNew(arguments=None if value is None else blob(value), **fields)


def finish(value: str | None = "OUT") -> CompleteWorkflow:
    """The command that ends a workflow well."""
    return CompleteWorkflow(None if value is None else blob(value))


def shown_events(grant: WorkflowTaskGrant) -> list[Event]:
    """The first page of a grant."""
    events: list[Event] = orjson.loads(grant.history_events)
    return events


def resume_of(grant: WorkflowTaskGrant) -> dict[str, Any]:
    """The resume fields of a grant that are not null."""
    fields: dict[str, Any] = msgspec.to_builtins(grant.resume)
    return fields
