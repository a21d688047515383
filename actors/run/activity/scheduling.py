"""Activities of a run: scheduling, claims, heartbeats, and what becomes of them when the run closes (engine-semantics 5)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.run import ids
from actors.run.activity import attempts, outcomes
from actors.run.activity.common import activity_copy, attempted, expired_kind, make_ready, named, offer, set_deadline
from actors.run.commands.steps import ScheduleActivity
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, HeartbeatActivity, ReleaseClaim, RereadClaim
from actors.run.replies import ActivityProgress, ActivityTaskGrant, Done, NotDue, Refused
from actors.run.state import NEVER, Activity, RunState
from actors.run.times import SECOND, iso
from actors.run.transition import Transition

# -- scheduling --------------------------------------------------------------------------------------------------------


def schedule(tx: Transition, command: ScheduleActivity, step: int) -> str:
    """Record the activity and offer its first task; returns the task id."""
    state = tx.state
    snapshot = retry_snapshot(command)
    arguments = command.arguments
    codec = state.payload_codec if arguments is None else arguments.codec
    execution_id = tx.mint(ids.ACTIVITY)
    task_id = tx.mint(ids.ACTIVITY_TASK)
    now = tx.now
    activity = Activity(
        execution_id=execution_id,
        activity_type=command.activity_type,
        step=step,
        scheduled_event=state.last_sequence + 1,
        queue=command.queue or state.task_queue,
        payload_codec=codec,
        created_at=tx.stamp,
        available_at=now,
        retry_policy=snapshot,
        start_to_close=command.start_to_close_timeout,
        schedule_to_start=command.schedule_to_start_timeout,
        schedule_to_close=command.schedule_to_close_timeout,
        heartbeat=command.heartbeat_timeout,
        connection=command.connection,
        priority=command.priority,
        fairness_key=command.fairness_key,
        fairness_weight=command.fairness_weight,
    )
    if command.retry_policy is not None:
        activity.max_attempts = command.retry_policy.max_attempts
        activity.backoff_seconds = command.retry_policy.backoff_seconds
        activity.non_retryable = command.retry_policy.non_retryable_error_types
    if command.schedule_to_close_timeout is not None:
        activity.schedule_to_close_at = now + command.schedule_to_close_timeout * SECOND
    if command.schedule_to_start_timeout is not None:
        activity.schedule_to_start_at = now + command.schedule_to_start_timeout * SECOND
    # The event is the durable home of the arguments: the state, rewritten at every transition, only points at it.
    copy = activity_copy(activity, state)
    if arguments is not None:
        copy["arguments"] = arguments.blob if arguments.external_storage is None else arguments.envelope()
    tx.record("ActivityScheduled", {**named(activity), "activity": copy}, step=step)
    state.activities[task_id] = activity
    set_deadline(activity)
    offer(tx, task_id, activity)
    return task_id


def retry_snapshot(command: ScheduleActivity) -> dict[str, Any] | None:
    """The retry and timeout options as frozen into the execution, None when the command gave none (engine-semantics 5.1)."""
    policy = command.retry_policy
    options = (
        command.start_to_close_timeout,
        command.schedule_to_start_timeout,
        command.schedule_to_close_timeout,
        command.heartbeat_timeout,
    )
    if policy is None and all(option is None for option in options):
        return None
    return {
        "snapshot_version": 1,
        "max_attempts": 1 if policy is None else policy.max_attempts,
        "backoff_seconds": [] if policy is None else policy.backoff_seconds,
        "start_to_close_timeout": options[0],
        "schedule_to_start_timeout": options[1],
        "schedule_to_close_timeout": options[2],
        "heartbeat_timeout": options[3],
        "non_retryable_error_types": [] if policy is None else policy.non_retryable_error_types,
    }


# -- claims ------------------------------------------------------------------------------------------------------------


def claim(tx: Transition, command: ClaimTask) -> ActivityTaskGrant | NotDue | Refused:
    """Lease a ready attempt to a worker (worker-protocol 7.1)."""
    state = tx.state
    activity = state.activities.get(command.task_id)
    if activity is None or activity.status != "ready" or not state.is_open:
        return Refused("not_ready")
    if activity.available_at > tx.now:
        return NotDue(activity.available_at)
    due = expired_kind(activity, tx.now)
    if due is not None:
        outcomes.expire(tx, command.task_id, activity, due)
        return Refused("not_ready")
    now = tx.now
    tx.not_before(activity.retry_at)
    attempts.ended(state, activity, "expired", tx.stamp)  # one that was lost and may report no more
    activity.retry_at = 0
    activity.status = "running"
    activity.attempts += 1
    activity.attempt_id = tx.mint(ids.ATTEMPT)
    activity.owner = command.worker.worker_id
    activity.started_at = tx.stamp
    activity.last_heartbeat_at = 0
    activity.progress = None
    activity.start_to_close_at = None if activity.start_to_close is None else now + activity.start_to_close * SECOND
    activity.heartbeat_at = None if activity.heartbeat is None else now + activity.heartbeat * SECOND
    activity.lease_expires_at = now + tx.rules.activity_task_lease * SECOND
    set_deadline(activity)
    tx.withdraw(command.task_id)
    tx.take_permits(command.task_id, command.permits)
    activity.capped = command.task_id in state.permits
    tx.record("ActivityStarted", {**named(activity), **attempted(activity)}, step=activity.step)
    return grant(tx, command.task_id, activity)


def reread(tx: Transition, command: RereadClaim) -> ActivityTaskGrant | Refused:
    """The lease a repeated poll already has, if it still has it."""
    activity = tx.state.activities.get(command.task_id)
    if (
        activity is None
        or activity.status != "running"
        or activity.owner != command.worker.worker_id
        or activity.attempts != command.attempt
        or activity.lease_expires_at <= tx.now
    ):
        return Refused("not_leased")
    return grant(tx, command.task_id, activity)


def release(tx: Transition, command: ReleaseClaim) -> Done | Refused:
    """Hand back an attempt that never reached its worker: ready again at once, the next claim is a new attempt.

    Refused as `not_leased` when the worker does not have that lease.
    """
    activity = tx.state.activities.get(command.task_id)
    if (
        activity is not None
        and activity.status == "running"
        and activity.owner == command.worker_id
        and command.attempt in (activity.attempts, ANY_ATTEMPT)
    ):
        make_ready(tx, command.task_id, activity)
        return Done()
    return Refused("not_leased")


def grant(tx: Transition, task_id: str, activity: Activity) -> ActivityTaskGrant:
    """What the worker of a leased attempt is given."""
    state = tx.state
    deadlines = {
        "schedule_to_start": activity.schedule_to_start_at,
        "start_to_close": activity.start_to_close_at,
        "schedule_to_close": activity.schedule_to_close_at,
        "heartbeat": activity.heartbeat_at,
    }
    return ActivityTaskGrant(
        task_id=task_id,
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        activity_execution_id=activity.execution_id,
        activity_attempt_id=activity.attempt_id or "",
        attempt_number=activity.attempts,
        activity_type=activity.activity_type,
        payload_codec=activity.payload_codec,
        arguments=scheduled_arguments(tx.history[activity.scheduled_event - 1], activity.payload_codec),
        retry_policy=activity.retry_policy,
        task_queue=activity.queue,
        connection=activity.connection,
        lease_owner=activity.owner or "",
        lease_expires_at=activity.lease_expires_at,
        deadlines={name: at for name, at in deadlines.items() if at is not None},
    )


class _Copy(msgspec.Struct):
    arguments: msgspec.Raw = msgspec.Raw(b"")


class _ScheduledPayload(msgspec.Struct):
    activity: _Copy


class _ScheduledEvent(msgspec.Struct):
    payload: _ScheduledPayload


_scheduled = msgspec.json.Decoder(_ScheduledEvent)


def scheduled_arguments(event: bytes, codec: str) -> bytes:
    """The arguments in a stored ActivityScheduled event as a serialized envelope, b"" when it has none."""
    raw = bytes(_scheduled.decode(event).payload.activity.arguments)
    if raw.startswith(b'"'):
        return b'{"codec":"%b","blob":%b}' % (codec.encode(), raw)
    return raw


# -- heartbeats --------------------------------------------------------------------------------------------------------


def heartbeat(tx: Transition, command: HeartbeatActivity) -> ActivityProgress | Refused:
    """Renew the lease and the heartbeat deadline, or tell the worker to stop (worker-protocol 7.5)."""
    activity = outcomes.guard(tx, command)
    state = tx.state
    if isinstance(activity, Refused):
        if activity.reason != "stale_attempt":
            return activity
        return _stop("stale_attempt" if state.is_open else "run_closed", state)
    if not state.is_open:
        if activity.status == "cancelled":
            stopped = state.status in ("cancelled", "terminated")
            return _stop("run_" + state.status if stopped else "activity_cancelled", state, cancel=True)
        return _stop("run_closed", state)
    if activity.status == "ready" and activity.attempt_id is not None and not activity.capped:
        # Its lease ran out and nobody took the task since: it goes on. Under a cap its place may be another one's by now.
        tx.withdraw(command.task_id)
        activity.status = "running"
    if activity.status != "running":
        return _stop("task_not_leased", state)
    now = tx.now
    activity.last_heartbeat_at = tx.stamp
    activity.progress = command.progress or activity.progress
    activity.lease_expires_at = now + tx.rules.activity_task_lease * SECOND
    if activity.heartbeat is not None:
        activity.heartbeat_at = now + activity.heartbeat * SECOND
    set_deadline(activity)
    tx.record(
        "ActivityHeartbeatRecorded",
        {
            **named(activity),
            **attempted(activity),
            "heartbeat_at": iso(tx.stamp),
            "lease_expires_at": iso(activity.lease_expires_at),
            "progress": command.progress or None,
        },
        step=activity.step,
    )
    return ActivityProgress(
        heartbeat_recorded=True,
        can_continue=True,
        cancel_requested=False,
        reason=None,
        lease_expires_at=activity.lease_expires_at,
        last_heartbeat_at=tx.stamp,
    )


def _stop(reason: str, state: RunState, *, cancel: bool = False) -> ActivityProgress:
    return ActivityProgress(
        heartbeat_recorded=False,
        can_continue=False,
        cancel_requested=cancel,
        reason=reason,
        lease_expires_at=None,
        last_heartbeat_at=None,
        run_closed_reason=state.closed_reason,
        run_closed_at=state.closed_at,
    )


def withdraw_all(tx: Transition) -> None:
    """The run completed or failed by itself: nothing unfinished is dispatched any more.

    No events (engine-semantics 5.5).
    """
    kept: dict[str, Activity] = {}
    for task_id, activity in tx.state.activities.items():
        if activity.status == "ready":
            tx.withdraw(task_id)
        if activity.attempt_id is not None:
            if activity.status != "cancelled":
                activity.status = "withdrawn"
            activity.deadline = NEVER
            kept[task_id] = activity
    tx.state.activities = kept


def cancel_all(tx: Transition, command_id: str | None) -> None:
    """The run was cancelled, terminated or timed out: every unfinished activity ends with it, in step order."""
    kept: dict[str, Activity] = {}
    for task_id, activity in sorted(tx.state.activities.items(), key=lambda item: item[1].step):
        if activity.status == "ready":
            tx.withdraw(task_id)
        keys = attempted(activity) if activity.attempt_id is not None else {}
        tx.record(
            "ActivityCancelled",
            {"workflow_command_id": command_id, **named(activity), **keys, "cancelled_at": iso(tx.stamp)},
            step=activity.step,
            command_id=command_id,
        )
        attempts.ended(tx.state, activity, "cancelled", tx.stamp)
        attempts.settled(tx.state, activity, "cancelled")
        activity.status = "cancelled"
        activity.deadline = NEVER
        if activity.attempt_id is not None:
            kept[task_id] = activity
    tx.state.activities = kept
