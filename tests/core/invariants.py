"""What must hold of a run after every command (contract engine-semantics 14, by number).

`Watch` reads the history as it grows and remembers what it needs, so that a check costs what the last command recorded. It
knows the contract, not the code: nothing here asks the core how it decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from actors.run.replies import WorkflowTaskGrant
from actors.run.state import NEVER, RunState
from tests.core.harness import Event, Run, shown_events

RESOLUTIONS = ("ActivityCompleted", "ActivityFailed", "ActivityTimedOut", "TimerFired")
OPENINGS = ("ActivityScheduled", "TimerScheduled")
ENDINGS = ("WorkflowCompleted", "WorkflowFailed", "WorkflowTimedOut")
AFTER_THE_END = ("StartRejected",)


def micros(text: str) -> int:
    """A time of an event or payload, in microseconds."""
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1_000_000)


@dataclass
class StepRecord:
    """What history says about one step."""

    kind: str
    opened: int
    payload: dict[str, Any]
    task: str | None
    started: list[dict[str, Any]] = field(default_factory=list)
    retried: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    resolved: str | None = None
    resolution_id: str | None = None
    running: str | None = None
    not_before: int = 0


@dataclass
class Lease:
    """A granted workflow task as its worker knows it."""

    grant: WorkflowTaskGrant
    ends: int
    shown: set[str]


class Watch:
    """Follows one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.lines: list[bytes] = []
        self.ids: set[str] = set()
        self.last_time = 0
        self.last_id = ""
        self.steps: dict[int, StepRecord] = {}
        self.endings: list[Event] = []
        self.views: dict[str, list[str]] = {"": [], "0.4": []}
        self.attempts: dict[str, int] = {}
        self.lease: Lease | None = None
        self.seen: set[str] = set()
        self.batches: list[list[int]] = []

    # -- history -------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in what the last command recorded."""
        history = self.run.history
        assert history[: len(self.lines)] == self.lines, "1: history was rewritten"
        batch: dict[str | None, list[int]] = {}
        for line in history[len(self.lines) :]:
            event = orjson.loads(line)
            self._read(event, len(self.lines) + 1)
            self.lines.append(line)
            if event["event_type"] in OPENINGS:
                batch.setdefault(event["workflow_task_id"], []).append(event["payload"]["sequence"])
        assert len(batch) <= 1
        self.batches += batch.values()

    def _read(self, event: Event, at: int) -> None:
        kind, payload = event["event_type"], event["payload"]
        assert event["id"] not in self.ids and event["id"] > self.last_id, "1: ids are unique and rise"
        self.ids.add(event["id"])
        self.last_id = event["id"]
        time = micros(event["recorded_at"])
        assert time >= self.last_time, "2"
        self.last_time = time
        assert (kind == "StartAccepted") >= (at == 1) and (kind == "WorkflowStarted") == (at == 2), "3"
        if self.endings:
            pair = [self.endings[0]["event_type"], kind]
            timeout = len(self.endings) == 1 and pair == ["WorkflowFailed", "WorkflowTimedOut"]
            assert kind in AFTER_THE_END or timeout, f"5: {kind} after the end"
        if kind in ENDINGS:
            self.endings.append(event)
        if kind in OPENINGS:
            number = payload["sequence"]
            assert number == len(self.steps) + 1, "9: steps are numbered in the order of the commands"
            self.steps[number] = StepRecord(kind, at, payload, event["workflow_task_id"])
        elif "sequence" in payload:
            self._step(self.steps[payload["sequence"]], event, time)

    def _step(self, step: StepRecord, event: Event, time: int) -> None:
        kind, payload = event["event_type"], event["payload"]
        assert step.resolved is None, f"10, 11: {kind} after {step.resolved}"
        same = "timer_id" if step.kind == "TimerScheduled" else "activity_execution_id"
        assert payload[same] == step.payload[same]
        if kind in ("TimerFired", "TimerCancelled"):
            assert step.kind == "TimerScheduled"
            if kind == "TimerFired":
                assert time >= micros(step.payload["fire_at"]), "14"
        else:
            assert step.kind == "ActivityScheduled"
            self._attempt(step, event, time)
        if kind in RESOLUTIONS or kind in ("ActivityCancelled", "TimerCancelled"):
            step.resolved = kind
            step.resolution_id = event["id"]

    def _attempt(self, step: StepRecord, event: Event, time: int) -> None:
        kind, payload = event["event_type"], event["payload"]
        attempt = payload.get("activity_attempt_id")
        if kind == "ActivityStarted":
            number = payload["attempt_number"]
            assert not step.started or number > step.started[-1]["attempt_number"], "11"
            assert time >= step.not_before, "12: before its backoff ended"
            assert attempt not in {each["activity_attempt_id"] for each in step.started}
            step.started.append(payload)
            step.running = attempt
        elif kind == "ActivityRetryScheduled":
            assert attempt == step.running, "11: a retry after another attempt than the last"
            step.retries += 1
            assert step.retries < payload["max_attempts"], "11"
            if attempt is not None:
                assert attempt not in step.retried, "12"
                step.retried[attempt] = 1
            step.running = None
            step.not_before = micros(payload["retry_available_at"])
        elif attempt is not None:
            assert step.running == attempt, f"11: {kind} of an attempt that does not run"
            assert attempt not in step.retried, "12"
            assert payload["attempt_number"] == step.started[-1]["attempt_number"]

    # -- leases and snapshots --------------------------------------------------------------------------------------------

    def granted(self, grant: WorkflowTaskGrant, dialect: str) -> None:
        """A workflow task was leased."""
        now = self.run.now
        assert self.lease is None or self.lease.ends <= now, "7: two valid leases"
        last = self.attempts.get(grant.task_id, 0)
        assert grant.workflow_task_attempt == last + 1, "7"
        self.attempts[grant.task_id] = last + 1
        shown = shown_events(grant)
        assert [event["sequence"] for event in shown] == list(range(1, len(shown) + 1)), "1"
        assert grant.last_history_sequence == grant.history_count == len(shown)
        ids = [event["id"] for event in shown]
        assert len(set(ids)) == len(ids) and set(ids) <= self.ids, "8"
        # Every snapshot of a kind is a prefix of every later one.
        assert ids[: len(self.views[dialect])] == self.views[dialect], "8"
        self.views[dialect] = ids
        if dialect == "":
            assert ids == [orjson.loads(line)["id"] for line in self.lines], "8: plain workers see the plain history"
        else:
            self._view(shown)
        self.lease = Lease(grant, grant.lease_expires_at, set(ids))

    def _view(self, shown: list[Event]) -> None:
        order = [event["payload"]["sequence"] for event in shown if event["event_type"] in RESOLUTIONS]
        place = {number: at for at, number in enumerate(order)}
        missing = self.ids - {event["id"] for event in shown}
        for batch in self.batches:
            places = [place.get(number) for number in batch]
            resolved = [each for each in places if each is not None]
            assert places[: len(resolved)] == sorted(resolved), "19: results out of step order"
        held = {step.resolution_id for number, step in self.steps.items() if step.resolution_id and not self._showable(number)}
        assert missing == held, "8: the view holds back more or less than V3 says"

    def _showable(self, number: int) -> bool:
        batch = next(each for each in self.batches if number in each)
        return all(self.steps[earlier].resolved for earlier in batch[: batch.index(number)])

    def lease_ended(self, *, completed: bool = False) -> None:
        """The lease was completed, failed, released or lost."""
        assert self.lease is not None
        if completed:
            self.seen = self.lease.shown
        self.lease = None

    # -- state -----------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold now."""
        run, state = self.run, self.run.state
        assert state.last_sequence == len(run.history), "1"
        assert state.steps == len(self.steps), "9"
        self._ends(state)
        self._rows(state)
        self._open_work(state)
        self._deadlines(state)
        rules = run.rules
        assert len(state.activities) <= rules.max_pending_activities or not state.is_open, "29"
        assert len(state.timers) <= rules.max_pending_timers, "29"

    def _ends(self, state: RunState) -> None:
        kinds = [event["event_type"] for event in self.endings]
        expected = {
            None: [],
            "completed": ["WorkflowCompleted"],
            "failed": ["WorkflowFailed"],
            "timed_out": ["WorkflowFailed", "WorkflowTimedOut"],
        }
        assert kinds == expected[state.closed_reason], "4"
        if state.is_open:
            assert state.status in ("pending", "waiting"), "4"
        else:
            assert state.status == ("completed" if state.closed_reason == "completed" else "failed"), "4"

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
        unresolved = {number: step for number, step in self.steps.items() if step.resolved is None}
        if state.is_open:
            activities = {number for number, step in unresolved.items() if step.kind == "ActivityScheduled"}
            assert {each.step for each in state.activities.values()} == activities
            assert {each.step for each in state.timers.values()} == unresolved.keys() - activities
            assert state.open_task is not None or state.activities or state.timers, "20"
            if state.open_task is None:
                for number, step in self.steps.items():
                    if step.resolution_id is not None and self._showable(number):
                        assert step.resolution_id in self.seen, f"19: nobody is told of step {number}"
            running = [each.attempt_id for each in state.activities.values() if each.status == "running"]
            assert len(set(running)) == len(running)
            for each in state.activities.values():
                if each.status == "running":
                    assert self.steps[each.step].running == each.attempt_id, "11"
        else:
            assert not state.timers, "24"
            assert all(each.status in ("withdrawn", "cancelled", "completed") for each in state.activities.values()), "24"
            if state.closed_reason == "timed_out":
                assert all(each.status == "cancelled" for each in state.activities.values()), "24"
                assert not unresolved, "24: steps without an end"

    def _deadlines(self, state: RunState) -> None:
        """The run asks to be woken for the earliest thing that can come due, and for nothing else."""
        due = [NEVER]
        if state.is_open:
            due += [at for at in (state.run_deadline_at, state.execution_deadline_at) if at is not None]
            due += [timer.fire_at for timer in state.timers.values()]
            task = state.task
            if task is not None and task.status == "leased":
                due.append(task.lease_expires_at)
            for each in state.activities.values():
                limits = [each.schedule_to_close_at]
                limits += [each.schedule_to_start_at] if each.status == "ready" else [each.start_to_close_at, each.heartbeat_at]
                set_ = [at for at in limits if at is not None]
                due += set_
                if not set_ and each.status == "running":
                    due.append(each.lease_expires_at)
        assert (self.run.wake_at or NEVER) == min(due)
