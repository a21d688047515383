"""The open tasks of a run as the debug snapshot shows them, and what is wrong with them (control-plane 5.6, operations 6.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.run.state import Activity, RunState, WorkflowTask
from actors.run.views.waiting import Waiting
from api.http.times import ts, ts_or_none

_MOST = 25

_LIVENESS = {
    "closed": "The run is closed.",
    "workflow_replay_blocked": "The last workflow task was failed by its worker.",
    "repair_needed": "Nothing would resume the run, or a lease ran out and was not yet recovered.",
    "workflow_task_ready": "A workflow task is ready to run.",
    "workflow_task_leased": "A workflow task is leased to a worker.",
    "workflow_task_waiting_for_compatible_worker": "The workflow task waits for a worker of the run's build.",
    "activity_task_ready": "An activity task is ready to run.",
    "activity_task_leased": "An activity task is leased to a worker.",
    "activity_task_waiting_for_compatible_worker": "The activity task waits for a worker of the run's build.",
    "timer_scheduled": "A timer will fire.",
    "waiting_for_condition": "The workflow waits for a condition.",
    "waiting_for_child": "The workflow waits for a child workflow.",
}


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether live workers match the run's build marker. Both true for a run without one."""

    marker: str | None
    on_queue: bool
    in_fleet: bool

    def fields(self) -> dict[str, Any]:
        """The compatibility keys of a task row; a run without a marker has none."""
        if not self.marker:
            return {}
        return {
            "compatibility": self.marker,
            "compatibility_supported": self.on_queue,
            "compatibility_reason": None if self.on_queue else f"No live worker of the queue has build id {self.marker}.",
            "compatibility_supported_in_fleet": self.in_fleet,
            "compatibility_fleet_reason": (
                None if self.in_fleet else f"No live worker of the namespace has build id {self.marker}."
            ),
        }


@dataclass(frozen=True, slots=True)
class Health:
    """How a run stands. `badge` names the task problem in one word."""

    liveness: str
    reason: str | None
    wait_reason: str | None
    repair_attention: bool
    badge: str | None

    @property
    def task_problem(self) -> bool:
        return self.badge is not None


def pruned(fields: dict[str, Any]) -> dict[str, Any]:
    """Without keys whose value is null or an empty list."""
    return {key: value for key, value in fields.items() if value is not None and value != []}


def health(state: RunState, waiting: Waiting, compatibility: Compatibility) -> Health:
    """What stands in a run's way. Waiting for a compatible worker is told from `liveness` alone when tasks are ready."""
    liveness, wait_reason = waiting.liveness, waiting.reason
    stranded = liveness in ("workflow_task_ready", "activity_task_ready") and not compatibility.on_queue
    if stranded:
        liveness = liveness.replace("_ready", "_waiting_for_compatible_worker")
        if waiting.kind == "workflow-task":
            wait_reason = "Workflow task waiting for a compatible worker"
    return Health(liveness, _LIVENESS.get(liveness), wait_reason, stranded, _badge(state, waiting))


def _badge(state: RunState, waiting: Waiting) -> str | None:
    if not state.is_open:
        return None
    task = state.open_task
    if task is not None and task.last_error:
        return "replay_blocked"
    if waiting.liveness == "repair_needed":
        return "lease_expired" if task is not None else "missing"
    return "repaired" if task is not None and task.repairs else None


# -- workflow tasks ----------------------------------------------------------------------------------------------------


def workflow_tasks(state: RunState, waiting: Waiting, compatibility: Compatibility, now: int) -> list[dict[str, Any]]:
    """The open workflow task, or a row standing for the one the run needs and does not have."""
    task = state.open_task
    if task is not None:
        return [pruned(_workflow_task(state, task, compatibility, now))]
    if not state.is_open or waiting.liveness != "repair_needed":
        return []
    return [
        pruned(
            {
                "task_id": f"missing:workflow:{state.run_id}",
                "task_type": "workflow",
                "status": "missing",
                "transport_state": "missing",
                "summary": "missing",
                "queue": state.task_queue,
                **compatibility.fields(),
                **_flags(),
                "lease_expired": False,
                "attempt_count": 0,
                "repair_count": 0,
                "replay_blocked": False,
                "task_missing": True,
                "synthetic": True,
            }
        )
    ]


def _flags() -> dict[str, bool]:
    """Ready tasks are rows that every node reads: there is no dispatch that could fail, and a failed claim is forgotten."""
    return {"dispatch_failed": False, "dispatch_overdue": False, "claim_failed": False}


def _transport(task: WorkflowTask, now: int) -> tuple[str, str]:
    """`transport_state` and the words for it."""
    if task.status == "leased":
        expired = task.lease_expires_at <= now
        return ("lease_expired", "lease expired") if expired else ("leased", f"leased to {task.owner}")
    return ("scheduled", "scheduled for later") if task.available_at > now else ("ready", "ready to run")


def _workflow_task(state: RunState, task: WorkflowTask, compatibility: Compatibility, now: int) -> dict[str, Any]:
    transport, summary = _transport(task, now)
    leased = task.status == "leased"
    error = (task.last_error or {}).get("message")
    context = task.context
    return {
        "task_id": task.task_id,
        "task_type": "workflow",
        "status": task.status,
        "transport_state": transport,
        "summary": summary,
        "queue": state.task_queue,
        **compatibility.fields(),
        "available_at": ts(task.available_at),
        "leased_at": ts_or_none(task.leased_at) if leased else None,
        "lease_owner": task.owner if leased else None,
        "lease_expires_at": ts(task.lease_expires_at) if leased else None,
        "lease_expired": transport == "lease_expired",
        "attempt_count": task.attempt,
        "repair_count": task.repairs,
        **_flags(),
        "last_error": error,
        "workflow_wait_kind": context.workflow_wait_kind,
        "workflow_open_wait_id": context.open_wait_id,
        "workflow_resume_source_kind": context.resume_source_kind,
        "workflow_resume_source_id": context.resume_source_id,
        "replay_blocked": bool(task.last_error),
        "replay_blocked_reason": error,
        "task_missing": False,
        "synthetic": False,
    }


# -- activities --------------------------------------------------------------------------------------------------------


def activities(state: RunState, now: int) -> list[dict[str, Any]]:
    """The unfinished activities in step order."""
    unfinished = [activity for activity in state.activities.values() if activity.status in ("ready", "running")]
    if not state.is_open:
        return []
    return [pruned(_activity(activity, now)) for activity in sorted(unfinished, key=lambda activity: activity.step)[:_MOST]]


def _activity(activity: Activity, now: int) -> dict[str, Any]:
    running = activity.status == "running"
    beat = ts_or_none(activity.last_heartbeat_at or None)
    attempt: dict[str, Any] | None = None
    if activity.attempt_id is not None:
        attempt = pruned(
            {
                "activity_attempt_id": activity.attempt_id,
                "attempt_number": activity.attempts,
                "status": "running" if running else "expired",
                "lease_owner": activity.owner,
                "started_at": ts_or_none(activity.started_at or None),
                "last_heartbeat_at": beat,
                "lease_expires_at": ts_or_none(activity.lease_expires_at or None),
                "lease_expired": not running or activity.lease_expires_at <= now,
            }
        )
    return {
        "activity_execution_id": activity.execution_id,
        "activity_type": activity.activity_type,
        "activity_class": activity.activity_type,
        "status": "running" if running else "pending",
        "queue": activity.queue,
        "attempt_count": activity.attempts,
        "current_attempt_id": activity.attempt_id,
        "started_at": ts_or_none(activity.started_at or None),
        "last_heartbeat_at": beat,
        "schedule_deadline_at": ts_or_none(activity.schedule_to_start_at),
        "close_deadline_at": ts_or_none(activity.start_to_close_at),
        "schedule_to_close_deadline_at": ts_or_none(activity.schedule_to_close_at),
        "heartbeat_deadline_at": ts_or_none(activity.heartbeat_at),
        "current_attempt": attempt,
    }


# -- what comes next ---------------------------------------------------------------------------------------------------


def next_scheduled(state: RunState, waiting: Waiting) -> dict[str, Any] | None:
    """The run's next task: its workflow task, else the activity or timer that is due first."""
    if not state.is_open:
        return None
    candidates: list[tuple[int, str, str, str, int]] = []
    task = state.open_task
    if task is not None:
        candidates = [(task.available_at, task.task_id, "workflow", task.status, task.lease_expires_at)]
    else:
        candidates += [
            (activity.available_at, task_id, "activity", _word(activity), activity.lease_expires_at)
            for task_id, activity in state.activities.items()
            if activity.status in ("ready", "running")
        ]
        candidates += [(timer.due, timer.task_id, "timer", "ready", 0) for timer in state.timers.values()]
        wait = state.wait
        if wait is not None and wait.timer_task_id is not None and wait.timeout_at is not None:
            candidates.append((wait.due, wait.timer_task_id, "timer", "ready", 0))
    if not candidates:
        return None
    available_at, task_id, kind, status, lease_expires_at = min(candidates)
    return pruned(
        {
            "source": "run_summary",
            "task_id": task_id,
            "task_type": kind,
            "task_status": status,
            "available_at": ts(available_at),
            "lease_expires_at": ts(lease_expires_at) if status == "leased" else None,
            "wait_deadline_at": ts_or_none(waiting.deadline_at),
        }
    )


def _word(activity: Activity) -> str:
    return "leased" if activity.status == "running" else "ready"
