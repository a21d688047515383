"""What must hold of a run after every command (contract engine-semantics 14, by number).

`HistoryChecker` reads the history as it grows and remembers what it needs, so that a check costs what the last command
recorded. It knows the contract, not the code: nothing here asks the core how it decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from actors.run.replies import WorkflowTaskGrant
from actors.run.state import NEVER, RunState
from tests.core.harness import Event, RunModel, resume_of, shown_events
from tests.core.input_book import InputBook
from tests.core.step_book import RESOLUTIONS, WAIT, StepBook, StepRecord, micros
from tests.core.view_book import ViewBook

__all__ = ["RESOLUTIONS", "HistoryChecker", "Lease", "micros"]

ENDINGS = {
    "completed": ["WorkflowCompleted"],
    "continued": ["WorkflowContinuedAsNew"],
    "failed": ["WorkflowFailed"],
    "timed_out": ["WorkflowFailed", "WorkflowTimedOut"],
    "cancelled": ["WorkflowCancelled"],
    "terminated": ["WorkflowTerminated"],
}
TERMINAL = {kind for kinds in ENDINGS.values() for kind in kinds}
AFTER_THE_END = {"UpdateCompleted", "ParentClosePolicyApplied", "ArchiveRequested", "WorkflowArchived"}
DUPLICATE = ("returned_existing_active", "rejected_duplicate")
STATUSES = {"completed": "completed", "continued": "completed", "failed": "failed", "timed_out": "failed"}
BY_FORCE = ("cancelled", "terminated", "timed_out")


@dataclass
class Lease:
    """A granted workflow task as its worker knows it."""

    grant: WorkflowTaskGrant
    ends: int
    shown: set[str]
    order: list[str]
    dialect: str
    waiting: bool
    update_id: str | None
    signal_id: str | None
    news: bool


class HistoryChecker:
    """Follows one run."""

    def __init__(self, run: RunModel) -> None:
        self.run = run
        self.lines: list[bytes] = []
        self.events: list[Event] = []
        self.ids: set[str] = set()
        self.last_time = 0
        self.last_id = ""
        self.book = StepBook()
        self.inputs = InputBook()
        self.view = ViewBook()
        self.endings: list[Event] = []
        self.ended_at: int | None = None
        self.attempts: dict[str, int] = {}
        self.lease: Lease | None = None

    @property
    def steps(self) -> dict[int, StepRecord]:
        """The steps by number."""
        return self.book.steps

    @property
    def batches(self) -> list[list[int]]:
        """The blocking steps of each completion that made any."""
        return self.book.batches

    # -- history -------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in what the last command recorded."""
        history = self.run.history
        assert history[: len(self.lines)] == self.lines, "1: history was rewritten"
        new: list[Event] = [orjson.loads(line) for line in history[len(self.lines) :]]
        own = {event["workflow_task_id"] for event in new} - {None}
        assert len(own) <= 1
        for event in new:
            self._read(event, len(self.events) + 1)
            self.events.append(event)
        self.lines = list(history)
        self.book.transition(new)

    def _read(self, event: Event, at: int) -> None:
        kind = event["event_type"]
        assert event["id"] not in self.ids and event["id"] > self.last_id, "1: ids are unique and rise"
        self.ids.add(event["id"])
        self.last_id = event["id"]
        time = micros(event["recorded_at"])
        assert time >= self.last_time, "2"
        self.last_time = time
        if at == 1:
            assert kind in ("StartAccepted", "WorkflowStarted"), "3"
        else:
            assert (kind == "WorkflowStarted") == (at == 2 and self.events[0]["event_type"] == "StartAccepted"), "3"
        if self.endings:
            pair = [self.endings[0]["event_type"], kind]
            timeout = len(self.endings) == 1 and pair == ["WorkflowFailed", "WorkflowTimedOut"]
            assert kind in AFTER_THE_END or timeout, f"5: {kind} after the end"
        updating = self.lease is not None and self.lease.update_id is not None
        self.inputs.read(event, bool(self.endings), updating)
        if kind in TERMINAL:
            self.endings.append(event)
            self.ended_at = at
        self.book.read(event, at, time)

    # -- leases and snapshots ------------------------------------------------------------------------------------------

    def granted(self, grant: WorkflowTaskGrant, dialect: str) -> None:
        """A workflow task was leased."""
        now = self.run.now
        assert self.lease is None or self.lease.ends <= now, "7: two valid leases"
        last = self.attempts.get(grant.task_id, 0)
        assert grant.workflow_task_attempt == last + 1, "7"
        self.attempts[grant.task_id] = last + 1
        shown = shown_events(grant)
        assert grant.last_history_sequence == grant.history_count == len(shown)
        update_id, signal_id = resume_of(grant).get("workflow_update_id"), resume_of(grant).get("workflow_signal_id")
        self.view.shown(shown, dialect, self.events, self.book, update_id is not None)
        order = [event["id"] for event in shown]
        news = bool(set(self.inputs.receivers) & set(order) - self.view.seen)
        waiting = self.book.wait is not None
        if update_id is not None:
            assert update_id == self.inputs.open_updates()[0], "4.1: the oldest update first"
        self.lease = Lease(grant, grant.lease_expires_at, set(order), order, dialect, waiting, update_id, signal_id, news)

    def lease_ended(self, *, completed: bool = False) -> None:
        """The lease was completed, failed, released or lost."""
        lease = self.lease
        assert lease is not None
        if completed:
            new = self.events[len(self.events) - len(self.run.new) : self.ended_at]
            own = [event["id"] for event in new if event["workflow_task_id"] == lease.grant.task_id]
            self.view.completed(lease.order, own, lease.dialect, lease.update_id is not None)
            if lease.update_id is None:
                self.inputs.task_completed(lease.shown, lease.signal_id, lease.waiting and lease.dialect == "")
        self.lease = None

    # -- state ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold now."""
        run, state = self.run, self.run.state
        assert state.last_sequence == len(run.history), "1"
        assert state.steps == len(self.steps), "9"
        self._ends(state)
        self._rows(state)
        self._open_work(state)
        self._inputs(state)
        self._deadlines(state)
        noted = sum(event["payload"].get("outcome") in DUPLICATE for event in self.events)
        assert noted == min(state.duplicate_starts, 100), "control-plane 5.1: duplicate starts"
        rules = run.rules
        assert len(state.activities) <= rules.limits.pending_activities or not state.is_open, "29"
        timeouts = state.wait is not None and state.wait.timer_id is not None
        assert len(state.timers) + timeouts <= rules.limits.structural.pending_timer_count, "29"
        assert len(state.children) <= rules.limits.pending_children, "29"
        assert len(state.updates) <= rules.limits.structural.pending_update_count, "29"

    def _ends(self, state: RunState) -> None:
        kinds = [event["event_type"] for event in self.endings]
        if state.is_open:
            assert kinds == [] and state.status in ("pending", "waiting"), "4"
        else:
            reason = state.closed_reason or ""
            assert kinds == ENDINGS[reason] and state.status == STATUSES.get(reason, reason), "4"

    def _rows(self, state: RunState) -> None:
        """6 and 24: the claimable rows are those of the state, no more and no fewer, each once."""
        expected: dict[str, tuple[str, int]] = {}
        task = state.task
        if not state.is_open:
            assert task is None or task.status in ("completed", "cancelled"), "6"
        elif task is not None and task.status == "ready":
            expected[task.task_id] = "workflow", task.available_at
        if state.is_open:
            for task_id, activity in state.activities.items():
                if activity.status == "ready":
                    expected[task_id] = "activity", activity.available_at
        rows = {task_id: (row.kind, row.available_at) for task_id, row in self.run.rows.items()}
        assert rows == expected, "6, 24"

    def _open_work(self, state: RunState) -> None:
        open_ = {kind: self.book.unresolved(kind) for kind in ("ActivityScheduled", "TimerScheduled", "ChildWorkflowScheduled")}
        if state.is_open:
            assert {each.step for each in state.activities.values()} == open_["ActivityScheduled"]
            assert {each.step for each in state.timers.values()} == open_["TimerScheduled"]
            assert {each.step for each in state.children.values()} == open_["ChildWorkflowScheduled"]
            assert (None if state.wait is None else state.wait.step) == self.book.wait, "15"
            waits = state.activities or state.timers or state.children or state.wait
            assert state.open_task is not None or waits, "20"
            if state.open_task is None:
                for number, step in self.steps.items():
                    if step.resolution_id is not None and self.book.showable(number):
                        assert step.resolution_id in self.view.seen, f"19: nobody is told of step {number}"
            running = [each.attempt_id for each in state.activities.values() if each.status == "running"]
            assert len(set(running)) == len(running)
            for each in state.activities.values():
                if each.status == "running":
                    assert self.steps[each.step].running == each.attempt_id, "11"
            return
        assert not state.timers and state.wait is None and not state.children, "24"
        assert all(each.status in ("withdrawn", "cancelled", "completed") for each in state.activities.values()), "24"
        if state.closed_reason in BY_FORCE:
            assert all(each.status == "cancelled" for each in state.activities.values()), "24"
            assert not open_["ActivityScheduled"] and not open_["TimerScheduled"], "24: steps without an end"
            timeouts = [step for step in self.steps.values() if step.kind == WAIT and not step.resolved and step.timer]
            assert not timeouts, "24: a timer without an end"

    def _inputs(self, state: RunState) -> None:
        if not state.is_open:
            assert not state.updates, "17"
            continued = state.closed_reason == "continued"
            assert continued or not self.inputs.open_updates(), "17: an update outlived its run"
            return
        assert [signal.signal_id for signal in state.signals] == self.inputs.unapplied, "16"
        assert list(state.updates) == self.inputs.open_updates(), "17"
        if state.open_task is None:
            assert state.wait is None or not state.signals, "19: an open wait faces an unapplied signal"
            assert not state.updates or not self.view.begun, "4.1: an update waits for its task"
            applied = self.inputs.by_update_task
            assert state.wait is None or applied is None or applied in self.view.seen, "4.1: no follow-up after an update"

    def _deadlines(self, state: RunState) -> None:
        """The run asks to be woken for the earliest thing that can come due, and for nothing else."""
        due = [NEVER]
        if state.is_open:
            due += [at for at in (state.run_deadline_at, state.execution_deadline_at) if at is not None]
            due += [timer.due for timer in state.timers.values()]
            task = state.open_task
            if task is not None and task.status == "leased":
                due.append(task.lease_expires_at)
            wait = state.wait
            if wait is not None and wait.timeout_at is not None and task is None:
                due.append(wait.due)
            for each in state.activities.values():
                limits = [each.schedule_to_close_at]
                limits += [each.schedule_to_start_at] if each.status == "ready" else [each.start_to_close_at, each.heartbeat_at]
                set_ = [at for at in limits if at is not None]
                due += set_
                if not set_ and each.status == "running":
                    due.append(each.lease_expires_at)
        assert (self.run.wake_at or NEVER) == min(due)
