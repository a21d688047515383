"""How an activity attempt ends: results, failures, retries, the four timeouts (contract engine-semantics 5.2, 5.3)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.activity import attempts
from actors.run.activity.common import (
    activity_copy,
    attempted,
    expired_kind,
    make_ready,
    named,
    offer,
    set_deadline,
)
from actors.run.commands.worker import ActivityGuard, CompleteActivity, FailActivity
from actors.run.events.stored import result_keys
from actors.run.events.types import EventType
from actors.run.next_task import ours, wake_workflow
from actors.run.payloads import in_codec, size_of
from actors.run.replies import ActivityRecorded, Refused
from actors.run.rules import backoff_after
from actors.run.state import Activity, RunState
from actors.run.times import SECOND, iso, iso_or_none, iso_seconds
from actors.run.transition import ActivityOutcome, Transition
from actors.run.values import Failure, Resume
from actors.run.words import AttemptEnd, StandaloneEnd

TIMEOUT_CLASS = "ActivityTimeoutException"
TIMEOUT_WORDS = {
    "schedule_to_close": "schedule-to-close",
    "schedule_to_start": "schedule-to-start",
    "heartbeat": "heartbeat",
    "start_to_close": "start-to-close",
}


def guard(tx: Transition, command: ActivityGuard[Any]) -> Activity | Refused:
    """The attempt a call is about, or why it may not speak for it (worker-protocol 7.2, 7.3). Order is the contract's."""
    state = tx.state
    activity = state.activities.get(command.task_id)
    if activity is None and not ours(state, command.task_id, ids.ACTIVITY_TASK):
        return Refused("task_not_found")
    if activity is None or activity.attempt_id != command.attempt_id:
        if not ours(state, command.attempt_id, ids.ATTEMPT):
            return Refused("attempt_not_found")
        if any(other.attempt_id == command.attempt_id for other in state.activities.values()):
            return Refused("task_mismatch")
        return Refused("stale_attempt")
    if activity.owner != command.lease_owner:
        return Refused("lease_owner_mismatch", {"lease_owner": activity.owner})
    return activity


def stopped(state: RunState, activity: Activity) -> dict[str, Any]:
    """The fields that tell a worker its run was cancelled or terminated."""
    return {
        "cancel_requested": True,
        "can_continue": False,
        "run_status": state.status,
        "run_closed_reason": state.closed_reason,
        "run_closed_at": iso_or_none(state.closed_at),
        "activity_status": "cancelled",
        "attempt_status": "cancelled",
        "task_status": "cancelled",
        "lease_owner": activity.owner,
        "lease_expires_at": None,
    }


def outcome_guard(tx: Transition, command: ActivityGuard[Any]) -> Activity | ActivityRecorded | Refused:
    """`guard`, and the answer to an outcome that can no longer count."""
    activity = guard(tx, command)
    if isinstance(activity, Refused):
        return activity
    state = tx.state
    if state.is_open:
        return activity
    if activity.status == "withdrawn":
        # The run went on without it: taken note of, without effect (engine-semantics 5.2).
        activity.status = "completed"
        activity.attempt_id = None
        tx.changed = True
        return ActivityRecorded(None)
    if activity.status == "cancelled" and state.status in ("cancelled", "terminated"):
        return Refused("run_cancelled" if state.status == "cancelled" else "run_terminated", stopped(state, activity))
    return Refused("stale_attempt")


def complete(tx: Transition, command: CompleteActivity) -> ActivityRecorded | Refused:
    """Accept a result (worker-protocol 7.3)."""
    activity = outcome_guard(tx, command)
    if not isinstance(activity, Activity):
        return activity
    limit = tx.rules.limits.structural.payload_size_bytes
    result = in_codec(command, activity.payload_codec).result
    size = size_of(result)
    if limit and size > limit:
        failure = Failure(
            message=f"Structural limit exceeded: payload_size is {size}, the limit is {limit}.", non_retryable=True
        )
        keys = {"structural_limit_kind": "payload_size", "structural_limit_value": size, "structural_limit_configured": limit}
        return ActivityRecorded(fail_finally(tx, command.task_id, activity, failure, category="structural_limit", extra=keys))
    tx.measure("payload_size", size, limit)
    payload = {**named(activity), **attempted(activity), **result_keys(result, activity.payload_codec, tx.state.payload_codec)}
    tx.record("ActivityCompleted", payload, step=activity.step)
    outcome = ActivityOutcome("ActivityCompleted", payload, result)
    return ActivityRecorded(resolved(tx, command.task_id, activity, outcome))


def fail(tx: Transition, command: FailActivity) -> ActivityRecorded | Refused:
    """Accept a failure: another attempt, or the end (engine-semantics 5.2)."""
    activity = outcome_guard(tx, command)
    if not isinstance(activity, Activity):
        return activity
    failure = command.failure
    final = (
        failure.non_retryable
        or activity.attempts >= activity.max_attempts
        or failure.type in activity.non_retryable
        or failure.class_ in activity.non_retryable
    )
    if final:
        return ActivityRecorded(fail_finally(tx, command.task_id, activity, failure))
    return ActivityRecorded(retry(tx, command.task_id, activity, exception_keys(failure), reason="failure"))


def fail_finally(
    tx: Transition,
    task_id: str,
    activity: Activity,
    failure: Failure,
    *,
    category: str = "activity",
    extra: dict[str, Any] | None = None,
) -> str | None:
    """Record the failure that ends the activity; returns the workflow task that will see it."""
    payload = {
        **named(activity),
        **attempted(activity),
        "failure_id": tx.mint(ids.FAILURE),
        "failure_category": category,
        "non_retryable": failure.non_retryable,
        **exception_keys(failure),
        "activity": activity_copy(activity, tx.state, status="failed"),
        **(extra or {}),
    }
    tx.record("ActivityFailed", payload, step=activity.step)
    return resolved(tx, task_id, activity, ActivityOutcome("ActivityFailed", payload))


def exception_keys(failure: Failure) -> dict[str, Any]:
    """The exception as events carry it (engine-semantics 10.1)."""
    code = 0 if failure.code is None else failure.code
    exception = {
        "type": failure.type,
        "message": failure.message,
        "code": code,
        "details": failure.details,
        "details_payload_codec": failure.details_payload_codec,
        "non_retryable": failure.non_retryable,
    }
    return {
        "exception_type": failure.type,
        "exception_class": failure.class_ or failure.type or "RuntimeException",
        "message": failure.message,
        "code": code,
        "exception": {key: value for key, value in exception.items() if value is not None},
    }


def retry(tx: Transition, task_id: str, activity: Activity, keys: dict[str, Any], *, reason: str) -> str:
    """Schedule the next attempt as a new task, available after the backoff; returns its id."""
    state = tx.state
    backoff = backoff_after(activity.backoff_seconds, activity.attempts)
    if activity.status == "ready":
        tx.withdraw(task_id)
    attempts.ended(state, activity, "expired" if reason == "timeout" else "failed", tx.stamp)
    next_task = tx.mint(ids.ACTIVITY_TASK)
    available_at = tx.now + backoff * SECOND
    tx.record(
        "ActivityRetryScheduled",
        {
            **named(activity),
            "activity_attempt_id": activity.attempt_id,
            "retry_task_id": next_task,
            "retry_of_task_id": task_id,
            "retry_available_at": iso(available_at),
            "retry_backoff_seconds": backoff,
            "retry_after_attempt_id": activity.attempt_id,
            "retry_after_attempt": activity.attempts,
            "retry_reason": reason,
            "max_attempts": activity.max_attempts,
            "retry_policy": activity.retry_policy,
            **keys,
        },
        step=activity.step,
    )
    del state.activities[task_id]
    state.activities[next_task] = activity
    activity.status = "ready"
    activity.attempt_id = activity.owner = None
    activity.available_at = available_at
    activity.retry_at = 0
    activity.start_to_close_at = activity.heartbeat_at = None
    activity.lease_expires_at = 0
    if activity.schedule_to_start is not None:
        activity.schedule_to_start_at = available_at + activity.schedule_to_start * SECOND
    set_deadline(activity)
    offer(tx, next_task, activity)
    return next_task


_ENDS: dict[EventType, tuple[StandaloneEnd, AttemptEnd]] = {
    "ActivityCompleted": ("completed", "completed"),
    "ActivityFailed": ("failed", "failed"),
    "ActivityTimedOut": ("failed", "expired"),
}


def resolved(tx: Transition, task_id: str, activity: Activity, outcome: ActivityOutcome) -> str | None:
    """The activity has its outcome: forget it and see that a workflow task shows it. Returns that task's id if it is open.

    A host run has no workflow: it is closed instead, when the command has been decided (`lifecycle.standalone`).
    """
    state = tx.state
    if activity.status == "ready":
        tx.withdraw(task_id)
    del state.activities[task_id]
    if state.standalone is not None:
        end, attempt_end = _ENDS[outcome.event_type]
        attempts.ended(state, activity, attempt_end, tx.stamp)
        attempts.settled(state, activity, end)
        tx.outcome = outcome
        return None
    context = Resume(
        workflow_wait_kind="activity",
        open_wait_id=f"activity:{activity.execution_id}",
        resume_source_kind="activity_execution",
        resume_source_id=activity.execution_id,
        activity_execution_id=activity.execution_id,
        activity_attempt_id=activity.attempt_id,
        activity_type=activity.activity_type,
        workflow_sequence=activity.step,
        workflow_event_type=outcome.event_type,
    )
    return wake_workflow(tx, context, activity.step)


# -- deadlines ---------------------------------------------------------------------------------------------------------


def enforce(tx: Transition) -> None:
    """Time out and redispatch what is due, earliest deadline first."""
    state = tx.state
    due = [(a.deadline, a.step, task_id) for task_id, a in state.activities.items() if a.deadline <= tx.now]
    for _, _, task_id in sorted(due):
        activity = state.activities[task_id]
        kind = expired_kind(activity, tx.now)
        if kind is not None:
            expire(tx, task_id, activity, kind)
        elif activity.status == "running":
            make_ready(tx, task_id, activity)


def expire(tx: Transition, task_id: str, activity: Activity, kind: str) -> None:
    """A timeout of this kind passed: another attempt where one is left, else the end."""
    deadlines = {
        "schedule_deadline_at": activity.schedule_to_start_at,
        "close_deadline_at": activity.start_to_close_at,
        "schedule_to_close_deadline_at": activity.schedule_to_close_at,
        "heartbeat_deadline_at": activity.heartbeat_at,
    }
    passed = {
        "schedule_to_start": activity.schedule_to_start_at,
        "start_to_close": activity.start_to_close_at,
        "schedule_to_close": activity.schedule_to_close_at,
        "heartbeat": activity.heartbeat_at,
    }[kind]
    message = f"Activity {activity.activity_type} {TIMEOUT_WORDS[kind]} deadline expired at {iso_seconds(passed or tx.now)}"
    if kind == "heartbeat":
        seen = iso_seconds(activity.last_heartbeat_at) if activity.last_heartbeat_at else "never"
        message += f" (last heartbeat: {seen})"
    message += "."
    if kind == "schedule_to_start":
        # Nobody claimed it: the wait itself uses up an attempt, or it could repeat for ever.
        activity.attempts += 1
    keys: dict[str, Any] = {
        "timeout_kind": kind,
        "message": message,
        "exception_class": TIMEOUT_CLASS,
        "code": 0,
        "exception": {"type": TIMEOUT_CLASS, "message": message, "code": 0, "non_retryable": False},
    }
    if kind != "schedule_to_close" and activity.attempts < activity.max_attempts:
        retry(tx, task_id, activity, keys, reason="timeout")
        return
    payload = {
        **named(activity),
        **(attempted(activity) if activity.attempt_id is not None else {}),
        "failure_id": tx.mint(ids.FAILURE),
        "failure_category": "timeout",
        "non_retryable": False,
        **keys,
        **{name: iso_seconds(at) for name, at in deadlines.items() if at is not None},
        "activity": activity_copy(activity, tx.state, status="failed"),
    }
    tx.record("ActivityTimedOut", payload, step=activity.step)
    resolved(tx, task_id, activity, ActivityOutcome("ActivityTimedOut", payload))
