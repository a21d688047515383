"""Registration and heartbeat of workers (worker-protocol 3)."""

from __future__ import annotations

from typing import Any

from actors.upkeep.inline import InlinePasses
from actors.workers.rules import DefinitionChanged
from api.http.errors import ApiError, worker_error
from api.http.input.fields import MOST_FAULTS, Fields, label
from api.http.input.ids import new_ulid
from api.http.request import Request
from api.http.response import Response
from store import workers
from store.workers import Contact, Worker

RUNTIMES = ("php", "python", "typescript", "go", "java", "external", "rust")

_DEFAULT_CONCURRENCY = 100
_MAX_INT4 = 2_147_483_647
_LONGEST_HEARTBEAT_SECONDS = 3600

_SLOTS = {
    "workflow_available": "max_concurrent_workflow_tasks",
    "activity_available": "max_concurrent_activity_tasks",
    "session_available": "max_concurrent_activity_tasks",
}


async def register(request: Request) -> Response:
    """POST /api/worker/register: creates or replaces a registration, 201."""
    services = request.services
    worker = await request.read(_registration)
    try:
        await services.workers.register(worker)
    except DefinitionChanged as changed:
        raise worker_error(
            409,
            "workflow_definition_changed",
            f"The definition of workflow type [{changed.workflow_type}] differs from the one this worker registered.",
            workflow_type=changed.workflow_type,
            remediation="Register the changed definition under a new worker_id.",
        ) from None
    return Response(
        201,
        {
            "worker_id": worker.worker_id,
            "registered": True,
            "task_queue": worker.task_queue,
            "runtime": worker.runtime,
            "status": services.workers.status(worker),
            "heartbeat_interval_seconds": worker.heartbeat_interval_seconds or services.settings.heartbeat_interval_seconds,
            "stale_after_seconds": services.settings.worker_stale_after_seconds,
        },
    )


def _registration(request: Request) -> Worker:
    """The registration a request asks for. Raises ValidationFailed."""
    fields = request.fields()
    worker_id = fields.identifier("worker_id") or new_ulid().upper()
    task_queue = fields.required_text("task_queue")
    runtime = fields.choice("runtime", RUNTIMES)
    if runtime is None and "runtime" not in fields.errors:
        fields.missing("runtime")
    fingerprints = _fingerprints(fields)
    workflow_types = fields.strings("supported_workflow_types")
    activity_types = fields.strings("supported_activity_types")
    most = {
        name: fields.integer(name, low=1, high=_MAX_INT4, default=_DEFAULT_CONCURRENCY) or _DEFAULT_CONCURRENCY
        for name in ("max_concurrent_workflow_tasks", "max_concurrent_activity_tasks")
    }
    sdk_version = fields.text("sdk_version", longest=64)
    build_id = fields.text("build_id")
    capabilities = fields.strings("capabilities") or []
    slots = _clamped(_slots(fields), most)
    metrics = _metrics(fields)
    wish = _heartbeat_wish(fields)
    fields.check()
    now = request.services.clock.now()
    return Worker(
        namespace=request.namespace,
        worker_id=worker_id,
        task_queue=task_queue,
        runtime=runtime or "",
        sdk_version=sdk_version,
        build_id=build_id,
        supported_workflow_types=workflow_types,
        workflow_definition_fingerprints=fingerprints,
        supported_activity_types=activity_types,
        max_concurrent_workflow_tasks=most["max_concurrent_workflow_tasks"],
        max_concurrent_activity_tasks=most["max_concurrent_activity_tasks"],
        capabilities=capabilities,
        task_slots=slots,
        process_metrics=metrics,
        heartbeat_interval_seconds=wish,
        status="active",
        last_heartbeat_at=now,
        registered_at=now,
        updated_at=now,
    )


def _beat(request: Request) -> tuple[str, dict[str, int | None] | None, bytes | None, int | None]:
    """The worker id, the slots as sent, the metrics, and the interval the worker wishes. Raises ValidationFailed."""
    fields = request.fields()
    worker_id = fields.required_text("worker_id")
    slots, metrics, wish = _slots(fields), _metrics(fields), _heartbeat_wish(fields)
    fields.check()
    return worker_id, slots, metrics, wish


async def heartbeat(request: Request) -> Response:
    """POST /api/worker/heartbeat: liveness, slots and metrics of a registered worker."""
    services = request.services
    worker_id, sent, metrics, wish = await request.read(_beat)
    registration = await services.workers.get(request.namespace, worker_id)
    if registration is None:
        raise _not_registered(404, worker_id)
    worker = registration.worker
    slots = _clamped(
        sent,
        {
            "max_concurrent_workflow_tasks": worker.max_concurrent_workflow_tasks,
            "max_concurrent_activity_tasks": worker.max_concurrent_activity_tasks,
        },
    )
    contact = Contact(
        request.namespace, worker_id, request.services.clock.now(), slots, metrics, heartbeat_interval_seconds=wish
    )
    if not await workers.touch(services.db, [contact]):
        services.workers.changed(request.namespace, worker_id)
        raise _not_registered(404, worker_id)
    if wish is not None:
        worker.heartbeat_interval_seconds = wish
    return Response(
        200,
        {
            "worker_id": worker_id,
            "acknowledged": True,
            "retention": await services.kept(InlinePasses).beat(services.upkeep, request.namespace, services.clock.now()),
            "status": services.workers.status(worker),
            "heartbeat_interval_seconds": worker.heartbeat_interval_seconds or services.settings.heartbeat_interval_seconds,
            "stale_after_seconds": services.settings.worker_stale_after_seconds,
        },
    )


def _not_registered(status: int, worker_id: str) -> ApiError:
    return worker_error(status, "worker_not_registered", f"Worker [{worker_id}] is not registered.", worker_id=worker_id)


def _fingerprints(fields: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    name = "workflow_definition_fingerprints"
    for key, value in (fields.object(name) or {}).items():
        if value is None:
            continue
        if "\x00" in key or (isinstance(value, str) and "\x00" in value):
            fields.fault(name, f"The {label(name)} field must not contain NUL characters.")
        elif not isinstance(value, str):
            fields.fault(f"{name}.{key}", f"The {label(name)}.{key} field must be a string.")
        elif len(value.strip()) > 255:
            fields.fault(f"{name}.{key}", f"The {label(name)}.{key} field must not be greater than 255 characters.")
        elif key.strip() and value.strip():
            found[key.strip()] = value.strip()
        if len(fields.errors) >= MOST_FAULTS:
            break
    return found


def _slots(fields: Fields) -> dict[str, int | None] | None:
    """The task slots of a request as sent; None when it sent none."""
    reader = fields.nested("task_slots")
    return None if reader is None else {name: reader.integer(name) for name in _SLOTS}


def _clamped(slots: dict[str, int | None] | None, most: dict[str, int]) -> dict[str, Any] | None:
    """Task slots within what the worker can run."""
    if slots is None:
        return None
    return {name: None if number is None else min(max(number, 0), most[_SLOTS[name]]) for name, number in slots.items()}


def _metrics(fields: Fields) -> bytes | None:
    return fields.opaque_object("process_metrics")


def _heartbeat_wish(fields: Fields) -> int | None:
    number = fields.integer("heartbeat_interval_seconds")
    return None if number is None else min(max(number, 1), _LONGEST_HEARTBEAT_SECONDS)
