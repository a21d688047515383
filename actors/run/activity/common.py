"""What the modules about activities share: their keys in events, their deadlines, their ready task."""

from __future__ import annotations

from typing import Any

from actors.run.state import NEVER, Activity, RunState
from actors.run.times import Micros, iso
from actors.run.transition import ReadyTask, Transition


def named(activity: Activity) -> dict[str, Any]:
    """The keys that name an activity in its events."""
    return {
        "activity_execution_id": activity.execution_id,
        "activity_class": activity.activity_type,
        "activity_type": activity.activity_type,
    }


def attempted(activity: Activity) -> dict[str, Any]:
    """The keys that name an attempt in its events."""
    return {"activity_attempt_id": activity.attempt_id, "attempt_number": activity.attempts}


def activity_copy(activity: Activity, state: RunState, *, status: str = "pending") -> dict[str, Any]:
    """The snapshot some events carry, without arguments and result (engine-semantics 2.4)."""
    copy = {
        "id": activity.execution_id,
        "idempotency_key": activity.execution_id,
        "sequence": activity.step,
        "type": activity.activity_type,
        "class": activity.activity_type,
        "attempt_id": activity.attempt_id,
        "status": status,
        "payload_codec": activity.payload_codec,
        "attempt_count": activity.attempts,
        "retry_policy": activity.retry_policy,
        "connection": activity.connection,
        "queue": activity.queue,
        "created_at": iso(activity.created_at),
        "started_at": iso(activity.started_at) if activity.started_at else None,
    }
    return {key: value for key, value in copy.items() if value is not None}


def offer(tx: Transition, task_id: str, activity: Activity) -> None:
    """Make the activity's task claimable."""
    state = tx.state
    tx.offer(
        ReadyTask(
            task_id=task_id,
            kind="activity",
            queue=activity.queue,
            type_name=activity.activity_type,
            available_at=activity.available_at,
            compatibility=state.compatibility,
            priority=state.priority if activity.priority is None else activity.priority,
            fairness_key=activity.fairness_key or state.fairness_key,
            fairness_weight=activity.fairness_weight or state.fairness_weight,
        )
    )


def set_deadline(activity: Activity) -> None:
    """Recompute when something of this activity is due next."""
    due = NEVER if activity.schedule_to_close_at is None else activity.schedule_to_close_at
    if activity.status == "ready":
        if activity.schedule_to_start_at is not None:
            due = min(due, activity.schedule_to_start_at)
    else:
        for at in (activity.start_to_close_at, activity.heartbeat_at):
            if at is not None and at < due:
                due = at
        if due == NEVER:
            # Only an attempt without any deadline is redispatched when its lease runs out (worker-protocol 7.6).
            due = activity.lease_expires_at
    activity.deadline = due


def expired_kind(activity: Activity, now: Micros) -> str | None:
    """Which timeout has passed, in the contract's order of precedence (engine-semantics 5.3)."""
    if activity.schedule_to_close_at is not None and activity.schedule_to_close_at <= now:
        return "schedule_to_close"
    if activity.status == "ready":
        at = activity.schedule_to_start_at
        return "schedule_to_start" if at is not None and at <= now else None
    if activity.heartbeat_at is not None and activity.heartbeat_at <= now:
        return "heartbeat"
    if activity.start_to_close_at is not None and activity.start_to_close_at <= now:
        return "start_to_close"
    return None


def make_ready(tx: Transition, task_id: str, activity: Activity) -> None:
    """Redispatch an attempt that was lost without any deadline of the activity having passed."""
    activity.status = "ready"
    activity.available_at = tx.now
    # It was started once: its wait for that is over (worker-protocol 7.1).
    activity.schedule_to_start_at = activity.start_to_close_at = activity.heartbeat_at = None
    activity.lease_expires_at = 0
    set_deadline(activity)
    offer(tx, task_id, activity)
