"""What an open run waits for, told from its state (contract engine-semantics 1.4)."""

from __future__ import annotations

from msgspec import Struct

from actors.run.state import RunState
from actors.run.times import Micros


class Waiting(Struct, frozen=True):
    """The first thing that applies, in the contract's order. Times in microseconds; all None when nothing does."""

    kind: str | None = None
    reason: str | None = None
    open_wait_id: str | None = None
    resume_source_kind: str | None = None
    started_at: int | None = None
    deadline_at: int | None = None
    liveness: str = "closed"


def waiting(state: RunState, now: Micros) -> Waiting:
    """What the run waits for at `now` (microseconds)."""
    if not state.is_open:
        return Waiting()
    return (
        _activity(state, now)
        or _update(state, now)
        or _signal(state, now)
        or _timer(state)
        or _condition(state)
        or _task(state, now)
        or _child(state)
        or Waiting(liveness="repair_needed")
    )


def _activity(state: RunState, now: Micros) -> Waiting | None:
    unfinished = [activity for activity in state.activities.values() if activity.status in ("ready", "running")]
    if not unfinished:
        return None
    oldest = min(unfinished, key=lambda activity: (activity.created_at, activity.step))
    leased = oldest.status == "running"
    return Waiting(
        kind="activity",
        reason=f"Waiting for activity {oldest.activity_type}",
        open_wait_id=f"activity:{oldest.execution_id}",
        resume_source_kind="activity_execution",
        started_at=oldest.created_at,
        deadline_at=oldest.lease_expires_at if leased else None,
        liveness="activity_task_leased" if leased else "activity_task_ready",
    )


def _update(state: RunState, now: Micros) -> Waiting | None:
    if not state.updates:
        return None
    update_id, update = next(iter(state.updates.items()))
    return Waiting(
        kind="update",
        reason=f"Waiting for update {update.name}",
        open_wait_id=f"update:{update_id}",
        resume_source_kind="workflow_update",
        started_at=update.accepted_at,
        liveness=_liveness(state, now),
    )


def _signal(state: RunState, now: Micros) -> Waiting | None:
    task = state.open_task
    signal = next((s for s in state.signals if task is not None and s.signal_id == task.signal_id), None)
    if task is None or signal is None:
        return None
    return Waiting(
        kind="signal",
        reason=f"Waiting to apply signal {signal.name}",
        open_wait_id=f"signal-application:{signal.signal_id}",
        resume_source_kind="workflow_signal",
        started_at=task.created_at,
        liveness=_liveness(state, now),
    )


def _timer(state: RunState) -> Waiting | None:
    if not state.timers:
        return None
    timer_id, timer = min(state.timers.items(), key=lambda item: (item[1].due, item[1].step))
    return Waiting(
        kind="timer",
        reason="Waiting for timer",
        open_wait_id=f"timer:{timer_id}",
        resume_source_kind="timer",
        started_at=timer.created_at,
        deadline_at=timer.due,
        liveness="timer_scheduled",
    )


def _condition(state: RunState) -> Waiting | None:
    wait = state.wait
    if wait is None:
        return None
    reason = "Waiting for condition" + (f" {wait.key}" if wait.key else "") + (" or timeout" if wait.timeout_at else "")
    return Waiting(
        kind="condition",
        reason=reason,
        open_wait_id=wait.wait_id,
        resume_source_kind="timer" if wait.timer_id else "external_input",
        started_at=wait.opened_at,
        deadline_at=None if wait.timeout_at is None else wait.due,
        liveness="waiting_for_condition",
    )


def _task(state: RunState, now: Micros) -> Waiting | None:
    task = state.open_task
    if task is None:
        return None
    expired = task.status == "leased" and task.lease_expires_at <= now
    word = "ready" if task.status == "ready" else "lease expired" if expired else "leased to worker"
    return Waiting(
        kind="workflow-task",
        reason=f"Workflow task {word}",
        open_wait_id=f"workflow-task:{task.task_id}",
        resume_source_kind="workflow_task",
        started_at=task.created_at,
        deadline_at=task.lease_expires_at or None,
        liveness=_liveness(state, now),
    )


def _child(state: RunState) -> Waiting | None:
    if not state.children:
        return None
    call_id, child = min(state.children.items(), key=lambda item: item[1].step)
    return Waiting(
        kind="child",
        reason=f"Waiting for child workflow {child.workflow_type}",
        open_wait_id=f"child:{call_id}",
        resume_source_kind="child_workflow_run",
        started_at=child.started_at,
        liveness="waiting_for_child",
    )


def _liveness(state: RunState, now: Micros) -> str:
    task = state.open_task
    if task is None:
        return "repair_needed"
    if task.status == "leased":
        return "repair_needed" if task.lease_expires_at <= now else "workflow_task_leased"
    return "workflow_replay_blocked" if task.last_error else "workflow_task_ready"
