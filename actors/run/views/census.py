"""What open runs add to the numbers of operators (operations 7): tasks, activities, waits, histories. Pure counting.

An `Oldest` remembers since when the oldest of its kind is there; its key names the pair of numbers that operators are shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from actors.run.limits import history_budget
from actors.run.rules import Rules
from actors.run.state import Activity, RunState, WorkflowTask
from actors.run.times import Micros
from actors.run.views.waiting import waiting


@dataclass(slots=True)
class Oldest:
    """How many of a kind there are, and the earliest instant one of them is there since (microseconds), None for none."""

    count: int = 0
    since: Micros | None = None

    def add(self, since: int) -> None:
        """One more."""
        self.count += 1
        if self.since is None or since < self.since:
            self.since = Micros(since)


@dataclass(slots=True)
class Failing:
    """Workflow tasks of one type that failed and are to be tried again."""

    tasks: int = 0
    most: int = 0  # failures of one of them


@dataclass(slots=True)
class Census:
    """The numbers of the open runs that were counted. `serving`: (queue, build id) of live workers."""

    rules: Rules
    serving: Collection[tuple[str, str | None]]
    runs: int = 0
    pending: Oldest = field(default_factory=Oldest)  # their first task was never completed
    first_tasks_ready: int = 0  # of those
    waiting: Oldest = field(default_factory=Oldest)
    repair_needed: Oldest = field(default_factory=Oldest)
    replay_blocked: int = 0
    unserved: Oldest = field(default_factory=Oldest)  # a task is ready, marked, and no live worker has its build
    leased: int = 0
    lease_expired: Oldest = field(default_factory=Oldest)
    most_task_attempts: int = 0
    most_repairs: int = 0
    activities_ready: int = 0
    activities_running: int = 0
    retrying: Oldest = field(default_factory=Oldest)
    overdue: Oldest = field(default_factory=Oldest)  # activities past a deadline
    failed_attempts: int = 0
    most_activity_attempts: int = 0
    events: int = 0
    most_events: int = 0
    most_bytes: int = 0
    most_fan_out: int = 0
    past_budget: int = 0  # continue-as-new is advised
    near_budget: int = 0
    failing: dict[str, Failing] = field(default_factory=dict)  # by workflow type

    def count(self, state: RunState, now: Micros) -> None:
        """Add one open run as it is at `now`."""
        self.runs += 1
        self._wait(state, now)
        task = state.open_task
        if task is not None:
            self._task(state, task, now)
        for activity in state.activities.values():
            self._activity(activity, now)
        if self._unserved(state):
            self.unserved.add(state.started_at)
        self._history(state)

    def _wait(self, state: RunState, now: Micros) -> None:
        found = waiting(state, now)
        since = found.started_at or state.last_progress_at or state.started_at
        if state.status == "pending":
            self.pending.add(state.started_at)
        elif state.status == "waiting":
            self.waiting.add(since)
        if found.liveness == "repair_needed":
            self.repair_needed.add(since)
        elif found.liveness == "workflow_replay_blocked":
            self.replay_blocked += 1

    def _task(self, state: RunState, task: WorkflowTask, now: Micros) -> None:
        self.most_task_attempts = max(self.most_task_attempts, task.attempt)
        self.most_repairs = max(self.most_repairs, task.repairs)
        if task.status == "leased":
            self._lease(task.lease_expires_at, now)
        elif state.status == "pending":
            self.first_tasks_ready += 1
        if task.failures:
            failing = self.failing.setdefault(state.workflow_type, Failing())
            failing.tasks += 1
            failing.most = max(failing.most, task.failures)

    def _lease(self, expires_at: int, now: Micros) -> None:
        self.leased += 1
        if 0 < expires_at <= now:
            self.lease_expired.add(expires_at)

    def _activity(self, activity: Activity, now: Micros) -> None:
        running = activity.status == "running"
        if running:
            self.activities_running += 1
            self._lease(activity.lease_expires_at, now)
        elif activity.status == "ready":
            self.activities_ready += 1
            if activity.attempts:
                self.retrying.add(activity.created_at)
        else:
            return  # it has its outcome
        if activity.deadline <= now:
            self.overdue.add(activity.deadline)
        self.failed_attempts += activity.attempts - running
        self.most_activity_attempts = max(self.most_activity_attempts, activity.attempts)

    def _unserved(self, state: RunState) -> bool:
        marker = state.compatibility
        if not marker:
            return False
        task = state.open_task
        queues = {activity.queue for activity in state.activities.values() if activity.status == "ready"}
        if task is not None and task.status == "ready":
            queues.add(state.task_queue)
        return any((queue, marker) not in self.serving for queue in queues)

    def _history(self, state: RunState) -> None:
        self.events += state.last_sequence
        self.most_events = max(self.most_events, state.last_sequence)
        self.most_bytes = max(self.most_bytes, state.history_bytes)
        self.most_fan_out = max(self.most_fan_out, state.fan_out)
        pressure = history_budget(state, self.rules)["history_budget_pressure"]
        self.past_budget += pressure == "continue_as_new_recommended"
        self.near_budget += pressure == "approaching"
