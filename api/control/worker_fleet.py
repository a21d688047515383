"""Registered workers as cluster info, task queues and debug show them (control-plane 3.3 `worker_fleet`, 7.3 `pollers`)."""

from __future__ import annotations

from typing import Any

from actors.workers.rules import is_stale
from api.http.times import ts
from api.settings import Settings
from store.workers import Worker


def live_workers(listed: list[Worker], settings: Settings, now: int) -> list[Worker]:
    """Those whose last contact is recent at `now`, in microseconds."""
    return [worker for worker in listed if not is_stale(worker, now, settings.worker_stale_after_seconds)]


def active_workers(listed: list[Worker], settings: Settings, now: int) -> list[Worker]:
    """Those of them that may be given tasks: their build id does not drain."""
    return [worker for worker in live_workers(listed, settings, now) if worker.status == "active"]


def worker_fleet(namespace: str, listed: list[Worker], settings: Settings, now: int) -> dict[str, Any]:
    """The live workers of the namespace, draining ones too; `listed` are all its registrations (operations 4.5)."""
    shown_for = settings.worker_fleet_seconds
    live = [worker for worker in listed if not is_stale(worker, now, shown_for)]
    return {
        "namespace": namespace,
        "active_workers": len(live),
        "active_worker_scopes": len({(worker.task_queue, worker.build_id) for worker in live}),
        "queues": sorted({worker.task_queue for worker in live}),
        "build_ids": sorted({worker.build_id for worker in live if worker.build_id}),
        "workers": [
            {
                "worker_id": worker.worker_id,
                "queues": [worker.task_queue],
                "build_ids": [worker.build_id] if worker.build_id else [],
                "recorded_at": ts(worker.last_heartbeat_at),
                "expires_at": ts(worker.last_heartbeat_at + shown_for * 1_000_000),
            }
            for worker in live
        ],
    }


def pollers(listed: list[Worker], settings: Settings, now: int) -> list[dict[str, Any]]:
    """The workers registered for a queue, fresh ones first, then by worker id."""
    stale_after = settings.worker_stale_after_seconds
    shown = [_poller(worker, is_stale(worker, now, stale_after), stale_after) for worker in listed]
    return sorted(shown, key=lambda poller: (poller["is_stale"], poller["worker_id"]))


def _poller(worker: Worker, stale: bool, stale_after_seconds: int) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "runtime": worker.runtime,
        "sdk_version": worker.sdk_version,
        "build_id": worker.build_id,
        "last_heartbeat_at": ts(worker.last_heartbeat_at),
        "heartbeat_expires_at": ts(worker.last_heartbeat_at + stale_after_seconds * 1_000_000),
        "status": "stale" if stale else worker.status,
        "is_stale": stale,
        "supported_workflow_types": worker.supported_workflow_types or [],
        "supported_activity_types": worker.supported_activity_types or [],
        "max_concurrent_workflow_tasks": worker.max_concurrent_workflow_tasks,
        "max_concurrent_activity_tasks": worker.max_concurrent_activity_tasks,
    }
