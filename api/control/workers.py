"""Registered workers: list, describe and delete (control-plane 7.1)."""

from __future__ import annotations

from typing import Any

from actors.workers.rules import is_stale
from api.http.errors import ApiError
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.times import ts
from api.payloads.codec import shown
from store import workers
from store.workers import Worker


def _item(worker: Worker, status: str) -> dict[str, Any]:
    return {
        "worker_id": worker.worker_id,
        "namespace": worker.namespace,
        "task_queue": worker.task_queue,
        "runtime": worker.runtime,
        "sdk_version": worker.sdk_version,
        "build_id": worker.build_id,
        "supported_workflow_types": worker.supported_workflow_types or [],
        "workflow_definition_fingerprints": worker.workflow_definition_fingerprints,
        "supported_activity_types": worker.supported_activity_types or [],
        "max_concurrent_workflow_tasks": worker.max_concurrent_workflow_tasks,
        "max_concurrent_activity_tasks": worker.max_concurrent_activity_tasks,
        "status": status,
        "heartbeat_interval_seconds": worker.heartbeat_interval_seconds,
        "task_slots": worker.task_slots,
        "process_metrics": shown(worker.process_metrics),
        "last_heartbeat_at": ts(worker.last_heartbeat_at),
        "registered_at": ts(worker.registered_at),
        "updated_at": ts(worker.updated_at),
    }


def _shown(request: Request, worker: Worker) -> dict[str, Any]:
    """A list item with the effective status."""
    stale = is_stale(worker, request.services.clock.now(), request.services.settings.worker_stale_after_seconds)
    return _item(worker, "stale" if stale else worker.status)


def _not_found(request: Request) -> ApiError:
    worker_id = request.path["worker_id"]
    return ApiError(404, "worker_not_found", f"Worker [{worker_id}] not found in namespace [{request.namespace}].")


async def list_(request: Request) -> Response:
    """GET /api/workers: by task queue and effective status, last heartbeat first."""
    query = request.query()
    task_queue = query.get("task_queue", "").strip()
    status = query.get("status", "").strip()
    services = request.services
    listed = await searched(services.workers.listing(request.namespace, task_queue or None, db=services.searches))
    items = [_shown(request, worker) for worker in listed]
    items.sort(key=lambda item: (item["last_heartbeat_at"], item["worker_id"]), reverse=True)
    shown = [item for item in items if not status or item["status"] == status]
    stale_after = request.services.settings.worker_stale_after_seconds
    return Response(200, {"namespace": request.namespace, "workers": shown, "stale_after_seconds": stale_after})


async def describe(request: Request) -> Response:
    """GET /api/workers/{worker_id}."""
    worker = await workers.get(request.services.db, request.namespace, request.path["worker_id"])
    if worker is None:
        raise _not_found(request)
    return Response(200, _shown(request, request.services.workers.touched(worker)))


async def delete(request: Request) -> Response:
    """DELETE /api/workers/{worker_id}."""
    worker_id = request.path["worker_id"]
    if not await workers.delete(request.services.db, request.namespace, worker_id):
        raise _not_found(request)
    request.services.workers.changed(request.namespace, worker_id)
    return Response(200, {"worker_id": worker_id, "outcome": "deregistered"})
