"""A task queue as the debug snapshot of one run shows it (control-plane 7.3 without `admission`).

Ready tasks and workers are those of the whole queue. Leases are known to their runs only, so `current_leases` and the repair
numbers tell of the run looked at, and counts nobody keeps (leased tasks of all runs, tasks added and dispatched in the last
minute) are left out.
"""

from __future__ import annotations

from typing import Any

from actors.hosting import stored_runs
from actors.run import ids
from actors.run.state import RunState
from api.control.worker_fleet import pollers
from api.http.services import Services
from api.http.times import ts, ts_or_none
from store import ready_tasks
from store.commit.writes import ReadyTaskRow
from store.workers import Worker

_MOST_READY = 1000
_MOST_LEASES = 50


async def task_queue(services: Services, state: RunState, listed: list[Worker], now: int) -> dict[str, Any]:
    """The queue of a run. `listed`: the workers registered for it."""
    name = state.task_queue
    ready = {
        kind: await ready_tasks.ready(services.db, state.namespace, name, kind, _MOST_READY)
        for kind in ("workflow", "activity")
    }
    due = sorted((task for found in ready.values() for task in found if task.available_at <= now), key=_age)
    shown = pollers(listed, services.settings, now)
    leases = sorted(
        _leases(state, now), key=lambda lease: (not lease["is_expired"], lease["lease_expires_at"], lease["task_id"])
    )
    return {
        "name": name,
        "pollers": shown,
        "stats": {
            "approximate_backlog_count": len(due),
            "approximate_backlog_age": _label((now - due[0].available_at) // 1_000_000) if due else None,
            "approximate_backlog_age_seconds": (now - due[0].available_at) // 1_000_000 if due else None,
            "oldest_ready_task": await _oldest(services, due[0], now) if due else None,
            "workflow_tasks": {"ready_count": len(ready["workflow"])},
            "activity_tasks": {"ready_count": len(ready["activity"])},
            "pollers": {
                "active_count": active_count(shown),
                "stale_count": sum(poller["is_stale"] for poller in shown),
                "stale_after_seconds": services.settings.worker_stale_after_seconds,
            },
        },
        "current_leases": leases[:_MOST_LEASES],
        "repair": _repair(state, services, now),
    }


def active_count(shown: list[dict[str, Any]]) -> int:
    """How many of these pollers are fresh and take tasks."""
    return sum(poller["status"] == "active" for poller in shown)


def _age(task: ReadyTaskRow) -> tuple[int, str]:
    return task.available_at, task.task_id


def _label(seconds: int) -> str:
    """An age as people read it: `45s`, `3m`, `5h`, `2d`."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


async def _oldest(services: Services, task: ReadyTaskRow, now: int) -> dict[str, Any]:
    run_key = ids.run_key_of(task.task_id)
    run = None if run_key is None else await stored_runs.load_by_key(services.db, run_key)
    return {
        "task_id": task.task_id,
        "task_type": task.kind,
        "workflow_id": None if run is None else run.identity.workflow_id,
        "run_id": None if run is None else run.run_id,
        "available_at": ts(task.available_at),
        "age_seconds": (now - task.available_at) // 1_000_000,
    }


def _leases(state: RunState, now: int) -> list[dict[str, Any]]:
    """The leases of this run on its own queue."""
    named = {"workflow_id": state.workflow_id, "run_id": state.run_id}
    found: list[dict[str, Any]] = []
    task = state.open_task
    if task is not None and task.status == "leased":
        found.append(
            {
                "task_id": task.task_id,
                "task_type": "workflow",
                **named,
                "lease_owner": task.owner,
                "lease_expires_at": ts(task.lease_expires_at),
                "is_expired": task.lease_expires_at <= now,
                "workflow_task_attempt": task.attempt,
            }
        )
    for task_id, activity in state.activities.items():
        if activity.status == "running" and activity.queue == state.task_queue:
            found.append(
                {
                    "task_id": task_id,
                    "task_type": "activity",
                    **named,
                    "lease_owner": activity.owner,
                    "lease_expires_at": ts(activity.lease_expires_at),
                    "is_expired": activity.lease_expires_at <= now,
                    "activity_attempt_id": activity.attempt_id,
                    "attempt_number": activity.attempts,
                }
            )
    return found


def _repair(state: RunState, services: Services, now: int) -> dict[str, Any]:
    """A ready task is a row every node sees, so its dispatch can neither fail nor be overdue; leases can run out."""
    task = state.open_task
    expired = [task.lease_expires_at] if task is not None and task.status == "leased" and task.lease_expires_at <= now else []
    expired += [
        activity.lease_expires_at
        for activity in state.activities.values()
        if activity.status == "running" and activity.queue == state.task_queue and activity.lease_expires_at <= now
    ]
    oldest = min(expired, default=None)
    return {
        "candidates": len(expired),
        "dispatch_failed": 0,
        "oldest_dispatch_failed_at": None,
        "max_dispatch_failed_age_ms": 0,
        "expired_leases": len(expired),
        "oldest_lease_expired_at": ts_or_none(oldest),
        "max_lease_expired_age_ms": 0 if oldest is None else (now - oldest) // 1000,
        "dispatch_overdue": 0,
        "oldest_dispatch_overdue_since": None,
        "max_dispatch_overdue_age_ms": 0,
        "needs_attention": bool(expired),
        "policy": {"redispatch_after_seconds": services.settings.repair_policy.redispatch_after_seconds},
    }
