"""A run that was touched by a clock that was ahead: what is still to come must not wait until the clock is there again.

Recorded times stay as they are and never go back. But nothing is further away than its own duration: what is, was reckoned from
a time that has not come yet, and is brought nearer. What was reckoned before the clock went wrong keeps its time. Deadlines of
the whole run are facts of its start and stay, too.
"""

from __future__ import annotations

from actors.run.activity.common import offer, set_deadline
from actors.run.rules import Rules, backoff_after
from actors.run.state import Activity, RunState, WorkflowTask
from actors.run.times import SECOND
from actors.run.transition import Transition

# Clocks of nodes differ by less; a run whose last recorded time is further ahead than this was touched by a wrong clock.
TOLERANCE = SECOND


def follow(tx: Transition) -> None:
    """Bring nearer what the run waits for; `tx.set_right` tells whether that was anything."""
    state = tx.state
    if not state.is_open:
        return
    if state.open_task is not None:
        _workflow_task(tx, state.open_task)
    for timer in state.timers.values():
        if timer.due > tx.now + timer.delay_seconds * SECOND:
            timer.due_at = tx.now + timer.delay_seconds * SECOND
            _changed(tx)
    wait = state.wait
    if wait is not None and wait.timeout_at is not None and wait.due > tx.now + (wait.timeout_seconds or 0) * SECOND:
        wait.due_at = tx.now + (wait.timeout_seconds or 0) * SECOND
        _changed(tx)
    for task_id, activity in state.activities.items():
        _activity(tx, task_id, activity)


def _changed(tx: Transition) -> None:
    tx.changed = tx.set_right = True


def _workflow_task(tx: Transition, task: WorkflowTask) -> None:
    if task.status == "leased":
        latest = tx.now + tx.rules.workflow_task_lease * SECOND
        if task.lease_expires_at > latest:
            task.lease_expires_at = latest
            _changed(tx)
        return
    latest = tx.now + _task_delay(tx.state, task, tx.rules) * SECOND
    if task.available_at > latest:
        task.available_at = latest
        tx.withdraw(task.task_id)
        tx.offer_workflow_task()
        _changed(tx)


def _task_delay(state: RunState, task: WorkflowTask, rules: Rules) -> int:
    """The longest that this ready task may have been told to wait, in seconds."""
    if task.failures:
        return rules.task_retry(task.failures)
    origin = state.origin
    if origin is None or origin.attempt == 1 or state.begun or task.attempt:
        return 0
    return backoff_after(origin.backoff_seconds, origin.attempt - 1)


def _activity(tx: Transition, task_id: str, activity: Activity) -> None:
    """Its task, its lease and its four deadlines."""
    now = tx.now
    if activity.status == "ready":
        latest = now + backoff_after(activity.backoff_seconds, activity.attempts) * SECOND
        if activity.available_at > latest:
            if activity.attempts:
                activity.retry_at = activity.retry_at or activity.available_at
            activity.available_at = latest
            tx.withdraw(task_id)
            offer(tx, task_id, activity)
            _changed(tx)
    elif activity.status != "running":
        return
    first = max(now, activity.available_at)
    before = activity.lease_expires_at, activity.deadline
    if activity.status == "running":
        activity.lease_expires_at = min(activity.lease_expires_at, now + tx.rules.activity_task_lease * SECOND)
    activity.schedule_to_start_at = _nearer(activity.schedule_to_start_at, first, activity.schedule_to_start)
    activity.schedule_to_close_at = _nearer(activity.schedule_to_close_at, now, activity.schedule_to_close)
    activity.start_to_close_at = _nearer(activity.start_to_close_at, now, activity.start_to_close)
    activity.heartbeat_at = _nearer(activity.heartbeat_at, now, activity.heartbeat)
    set_deadline(activity)
    if (activity.lease_expires_at, activity.deadline) != before:
        _changed(tx)


def _nearer(at: int | None, now: int, seconds: int | None) -> int | None:
    return at if at is None or seconds is None else min(at, now + seconds * SECOND)
