"""One transition in the making: the state it changes, the events it records, the task rows it moves.

A transition may take several commands, decided one after the other; they are committed together. The core reads no clock and
draws no random number: `now` is handed in, ids follow from the state and the time.

There are two times. `now`, what the clock says, decides what is due and when new things will be. `stamp` is what is recorded as
the time of what happens: recorded times never go back, the clock may (`actors.run.setback`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import orjson
from msgspec import Struct

from actors.run import ids, opaque
from actors.run.commands.messages import MessageCommand, ScheduleNews
from actors.run.dialect import Dialect, PlainHistory, Recorded
from actors.run.events.stored import memo_of
from actors.run.events.types import RESOLUTIONS, EventType
from actors.run.ids import RunId
from actors.run.rules import Rules
from actors.run.state import NEVER, RunState, WorkflowTask
from actors.run.times import Micros, iso
from actors.run.values import FIRST_TASK, Payload, Permit, Resume
from actors.run.words import TaskKind

PLAIN_HISTORY = PlainHistory()


class ReadyTask(Struct, frozen=True):
    """A task that any eligible worker may claim from `available_at` on."""

    task_id: str
    kind: TaskKind
    queue: str
    type_name: str
    available_at: int
    compatibility: str | None = None
    priority: int = 5
    fairness_key: str | None = None
    fairness_weight: int = 1


class ActivityOutcome(Struct, frozen=True):
    """What a standalone activity ended with: the event that says so, its keys, and the result of one that completed."""

    event_type: EventType
    keys: dict[str, Any]
    result: Payload | None = None


class RunMessage(Struct, frozen=True):
    """A message to another run, or to a schedule (then `run_id` is its key), applied there once (architecture, rule 4)."""

    message_id: str = msgspec.field(name="mail_id")
    namespace: str
    workflow_id: str
    run_id: RunId
    command: MessageCommand


class Transition:
    """Collects what one or more decisions change.

    `history` holds the run's serialized events, recording appends to it; `dialect` keeps what workers are shown of it.
    `memo`: that of a run which begins.
    """

    __slots__ = (
        "_memo",
        "attributes_changed",
        "changed",
        "closed_updates",
        "created",
        "dialect",
        "events",
        "history",
        "messages",
        "near",
        "now",
        "outcome",
        "permits_before",
        "permits_freed",
        "permits_taken",
        "ready",
        "requests",
        "rules",
        "set_right",
        "stamp",
        "state",
        "successor",
        "task_id",
        "unready",
    )

    def __init__(
        self,
        state: RunState,
        history: list[bytes],
        now: Micros,
        rules: Rules,
        dialect: Dialect = PLAIN_HISTORY,
        memo: dict[str, Any] | bytes | None = None,
    ) -> None:
        self.state = state
        self.history = history
        self.now = now
        self.stamp = max(now, state.recorded_at)
        self.rules = rules
        self.dialect = dialect
        self._memo = memo
        self.events: list[bytes] = []
        self.ready: dict[str, ReadyTask] = {}
        self.unready: list[str] = []
        self.created: list[str] = []
        self.messages: list[RunMessage] = []
        self.requests: list[tuple[str, str]] = []  # (request id, update id) newly accepted
        self.closed_updates: list[str] = []
        self.outcome: ActivityOutcome | None = None  # of a host run's activity, recorded by the command being decided
        self.successor: Transition | None = None
        self.task_id: str | None = None
        self.attributes_changed = False
        self.near: list[tuple[str, int, int]] = []  # limit kind, value, limit: what the log should warn of
        self.changed = False
        self.permits_before = state.permits
        self.permits_taken: list[tuple[str, Permit]] = []  # with the task that is leased
        self.permits_freed: list[Permit] = []  # known at the end (`settle_permits`)
        self.set_right = False  # something was brought nearer, as the clock went back

    @property
    def memo(self) -> dict[str, Any] | bytes:
        """The run's memo; reads the history of a run that has one and does not begin here."""
        if self._memo is None:
            self._memo = memo_of(self.history[self.state.input_event - 1]) if self.state.memo_bytes else {}
        return self._memo

    def mint(self, kind: str) -> str:
        """A new id of this run."""
        state = self.state
        state.id_clock = milliseconds = max(self.now // 1000, state.id_clock + 1)
        return ids.mint(milliseconds, state.run_key, kind)

    def record(self, event_type: EventType, payload: dict[str, Any], *, step: int = 0, command_id: str | None = None) -> int:
        """Append one event; returns its sequence. Keys of `payload` that are None are left out.

        `step` is written as the payload's `sequence` (engine-semantics 2.2).
        """
        state = self.state
        if step:
            payload["sequence"] = step
        line = orjson.dumps(
            {
                "id": self.mint(ids.EVENT),
                "event_type": event_type,
                "namespace": state.namespace,
                "payload": {key: value for key, value in payload.items() if value is not None},
                "workflow_task_id": self.task_id,
                "workflow_command_id": command_id,
                "recorded_at": iso(self.stamp),
            },
            opaque.embed,
        )
        state.recorded_at = self.stamp
        state.last_sequence = sequence = state.last_sequence + 1
        state.history_bytes += len(line)
        self.events.append(line)
        self.history.append(line)
        if state.standalone is None:  # no worker is ever shown the history of a host run
            resolves = step if event_type in RESOLUTIONS else 0
            self.dialect.recorded(state, Recorded(sequence, event_type, resolves, self.task_id is not None))
        self.changed = True
        return sequence

    def not_before(self, at: int) -> None:
        """What follows is recorded as happening at `at` or later: the history says so of something that is due sooner now."""
        self.stamp = max(self.stamp, at)

    def measure(self, kind: str, value: int, limit: int, before: int = 0) -> None:
        """Note that a number comes near its limit (engine-semantics 11.1).

        `before`: what a count was, so that it is noted once, as it passes the threshold.
        """
        threshold = limit * self.rules.limits.structural.warning_threshold_percent
        if threshold and before * 100 < threshold <= value * 100:
            self.near.append((kind, value, limit))

    def next_step(self) -> int:
        """The number of the next authored step, 1-based."""
        self.state.steps += 1
        return self.state.steps

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def offer(self, task: ReadyTask) -> None:
        """A task becomes claimable."""
        self.ready[task.task_id] = task
        self.changed = True

    def withdraw(self, task_id: str) -> None:
        """A task is claimable no more; a row that this same transition offered is simply never written."""
        if self.ready.pop(task_id, None) is None:
            self.unready.append(task_id)
        self.changed = True

    def open_workflow_task(
        self,
        context: Resume = FIRST_TASK,
        *,
        delay_seconds: int = 0,
        update_id: str | None = None,
        signal_id: str | None = None,
        task_id: str | None = None,
    ) -> str:
        """Create the run's next workflow task; the caller made sure that none is open. `task_id`: known beforehand."""
        state = self.state
        task_id = task_id or self.mint(ids.WORKFLOW_TASK)
        state.task = WorkflowTask(
            task_id=task_id,
            context=context,
            created_at=self.stamp,
            available_at=self.now + delay_seconds * 1_000_000,
            update_id=update_id,
            signal_id=signal_id,
        )
        if update_id is None:
            state.next_context = None
        self.offer_workflow_task()
        return task_id

    def offer_workflow_task(self) -> None:
        """Make the run's workflow task claimable (again)."""
        state = self.state
        task = state.task
        assert task is not None
        self.offer(
            ReadyTask(
                task_id=task.task_id,
                kind="workflow",
                queue=state.task_queue,
                type_name=state.workflow_type,
                available_at=task.available_at,
                compatibility=state.compatibility,
                priority=state.priority,
                fairness_key=state.fairness_key,
                fairness_weight=state.fairness_weight,
            )
        )

    def send(self, workflow_id: str, run_id: RunId, command: MessageCommand) -> None:
        """Have another run apply `command`, exactly once, after this transition is committed."""
        self.messages.append(RunMessage(self.mint(ids.MESSAGE), self.state.namespace, workflow_id, run_id, command))
        self.changed = True

    def tell_schedule(self, what: Literal["started", "closed"]) -> None:
        """Tell the schedule that this run goes back to, if there is one."""
        scheduled = self.state.scheduled
        if scheduled is not None:
            news = ScheduleNews(scheduled.record_id, scheduled.number, what)
            self.send("", RunId(scheduled.schedule_key), news)

    # -- permits (operations 2.4) --------------------------------------------------------------------------------------

    def take_permits(self, task_id: str, permits: Sequence[Permit]) -> None:
        """A lease of this task is granted under these permits, in the place of any it had."""
        state = self.state
        if not permits and task_id not in state.permits:
            return
        held = {other: each for other, each in state.permits.items() if other != task_id}
        ending = [permit for permit in permits if permit.ends]
        if ending:
            held[task_id] = ending
        state.permits = held
        self.permits_taken += [(task_id, permit) for permit in permits]

    def settle_permits(self) -> None:
        """At the end: whatever ended a lease gives back its permits. `permits_taken` and `permits_freed` are what to store."""
        before = self.permits_before
        if not before and not self.permits_taken:
            return
        state = self.state
        if not all(_leased(state, task_id) for task_id in state.permits):
            state.permits = {task_id: each for task_id, each in state.permits.items() if _leased(state, task_id)}
        held = {permit for each in state.permits.values() for permit in each}
        self.permits_freed = [permit for each in before.values() for permit in each if permit not in held]
        # One that was taken and given back in between was never there.
        self.permits_taken = [each for each in self.permits_taken if not each[1].ends or each[1] in held]

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def wake_at(self) -> int | None:
        """The earliest deadline of the run after this transition, None when nothing can ever be due."""
        return earliest_deadline(self.state)


def _leased(state: RunState, task_id: str) -> bool:
    if not state.is_open:
        return False
    task = state.task
    if task is not None and task.task_id == task_id:
        return task.status == "leased"
    activity = state.activities.get(task_id)
    return activity is not None and activity.status == "running"


def earliest_deadline(state: RunState) -> int | None:
    """When the run must be looked at next, in microseconds (architecture, rule 6)."""
    if not state.is_open:
        return None
    due = NEVER
    for deadline in (state.execution_deadline_at, state.run_deadline_at):
        if deadline is not None and deadline < due:
            due = deadline
    task = state.task
    if task is not None and task.status == "leased" and task.lease_expires_at < due:
        due = task.lease_expires_at
    if state.activities:  # perhaps hundreds, and this is asked twice per commit
        due = min(due, *[activity.deadline for activity in state.activities.values()])
    for timer in state.timers.values():
        due = min(due, timer.due)
    wait = state.wait
    if wait is not None and wait.timeout_at is not None and state.open_task is None:
        # A wait times out only between tasks (engine-semantics 6.2).
        due = min(due, wait.due)
    return None if due == NEVER else due
