"""A task queue as it is shown: statistics, leases and repair numbers (control-plane 7.3, operations 2.1 and 6.1); pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.cluster.rates import Rate
from api.control.task_queues.leases import Held
from api.control.worker_fleet import pollers
from api.http.times import ts, ts_or_none
from api.settings import Settings
from store.views.task_queues import ReadyTasks
from store.workers import Worker

_KINDS = ("workflow", "activity")
_MOST_LEASES = 50
_NONE = Rate(0, 0)


@dataclass(frozen=True, slots=True)
class Queue:
    """What is known of a queue `now` (microseconds). `runs`: workflow id and run id by the id of an oldest ready task;
    `queries`: how many wait for a worker; `active_everywhere`: leases of the whole namespace that have not run out, by kind.
    """

    name: str
    namespace: str
    now: int
    ready: Mapping[str, ReadyTasks] = field(default_factory=dict)  # by kind
    leases: Sequence[Held] = ()
    workers: Sequence[Worker] = ()
    rates: Mapping[str, Rate] = field(default_factory=dict)  # by kind
    runs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    queries: int = 0
    active_everywhere: Mapping[str, int] = field(default_factory=dict)

    @property
    def oldest(self) -> tuple[int, str, str] | None:
        """When the oldest due task became available, its id and kind."""
        found = [(*task.oldest, kind) for kind, task in self.ready.items() if task.oldest is not None]
        return min(found, default=None)

    def is_expired(self, held: Held) -> bool:
        """Whether the time of a lease is over."""
        return held.lease.expires_at <= self.now


def item(queue: Queue, settings: Settings) -> dict[str, Any]:
    """A queue in a list."""
    return {
        "name": queue.name,
        "namespace": queue.namespace,
        "stats": stats(queue, settings),
        "repair": repair(queue, settings),
    }


def detail(queue: Queue, settings: Settings) -> dict[str, Any]:
    """A queue with its pollers and leases."""
    return {
        "name": queue.name,
        "namespace": queue.namespace,
        "pollers": pollers(list(queue.workers), settings, queue.now),
        "stats": stats(queue, settings),
        "current_leases": current_leases(queue),
        "repair": repair(queue, settings),
    }


def stats(queue: Queue, settings: Settings) -> dict[str, Any]:
    """`stats` of operations 2.1."""
    oldest = queue.oldest
    age = None if oldest is None else max(queue.now - oldest[0], 0) // 1_000_000
    kinds = {kind: _of_kind(queue, kind) for kind in _KINDS}
    shown = pollers(list(queue.workers), settings, queue.now)
    stale = sum(poller["is_stale"] for poller in shown)
    return {
        "approximate_backlog_count": sum(each["ready_count"] for each in kinds.values()),
        "approximate_backlog_age": None if age is None else age_label(age),
        "approximate_backlog_age_seconds": age,
        "oldest_ready_task": None if oldest is None else _oldest(queue, oldest),
        "workflow_tasks": kinds["workflow"],
        "activity_tasks": kinds["activity"],
        "pollers": {
            "active_count": len(shown) - stale,
            "stale_count": stale,
            "stale_after_seconds": settings.worker_stale_after_seconds,
        },
        "tasks_added_last_minute": sum(each["added_last_minute"] for each in kinds.values()),
        "tasks_dispatched_last_minute": sum(each["dispatched_last_minute"] for each in kinds.values()),
    }


def _of_kind(queue: Queue, kind: str) -> dict[str, int]:
    ready = queue.ready.get(kind)
    leases = [held for held in queue.leases if held.lease.kind == kind]
    rate = queue.rates.get(kind, _NONE)
    return {
        "ready_count": 0 if ready is None else ready.due,
        "leased_count": len(leases),
        "expired_lease_count": sum(map(queue.is_expired, leases)),
        "added_last_minute": rate.added,
        "dispatched_last_minute": rate.dispatched,
    }


def age_label(seconds: int) -> str:
    """An age as people read it: `45s`, `3m05s`, `1h02m03s`."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m{seconds:02}s"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def _oldest(queue: Queue, oldest: tuple[int, str, str]) -> dict[str, Any]:
    available_at, task_id, kind = oldest
    workflow_id, run_id = queue.runs.get(task_id, (None, None))
    return {
        "task_id": task_id,
        "task_type": kind,
        "workflow_id": workflow_id,
        "run_id": run_id,
        "available_at": ts(available_at),
        "age_seconds": max(queue.now - available_at, 0) // 1_000_000,
    }


def current_leases(queue: Queue) -> list[dict[str, Any]]:
    """The first leases, expired ones before others, then by task id."""
    ordered = sorted(queue.leases, key=lambda held: (not queue.is_expired(held), held.lease.task_id))
    return [_lease(queue, held) for held in ordered[:_MOST_LEASES]]


def _lease(queue: Queue, held: Held) -> dict[str, Any]:
    lease = held.lease
    shown = {
        "task_id": lease.task_id,
        "task_type": lease.kind,
        "workflow_id": held.workflow_id,
        "run_id": held.run_id,
        "lease_owner": lease.owner,
        "lease_expires_at": ts(lease.expires_at),
        "is_expired": queue.is_expired(held),
    }
    if lease.kind == "workflow":
        return {**shown, "workflow_task_attempt": lease.attempt}
    return {**shown, "activity_attempt_id": lease.attempt_id, "attempt_number": lease.attempt}


def repair(queue: Queue, settings: Settings) -> dict[str, Any]:
    """`repair` of operations 2.1. A ready task is a row every node sees: its dispatch cannot fail, only wait for a poll."""
    expired = [held.lease.expires_at for held in queue.leases if queue.is_expired(held)]
    overdue = sum(task.overdue for task in queue.ready.values())
    oldest = queue.oldest
    since = oldest[0] if overdue and oldest is not None else None
    lost = min(expired, default=None)
    return {
        "candidates": len(expired) + overdue,
        "dispatch_failed": 0,
        "oldest_dispatch_failed_at": None,
        "max_dispatch_failed_age_ms": 0,
        "expired_leases": len(expired),
        "oldest_lease_expired_at": ts_or_none(lost),
        "max_lease_expired_age_ms": 0 if lost is None else (queue.now - lost) // 1000,
        "dispatch_overdue": overdue,
        "oldest_dispatch_overdue_since": ts_or_none(since),
        "max_dispatch_overdue_age_ms": 0 if since is None else (queue.now - since) // 1000,
        "needs_attention": bool(expired) or overdue > 0,
        "policy": {"redispatch_after_seconds": settings.repair_policy.redispatch_after_seconds},
    }
