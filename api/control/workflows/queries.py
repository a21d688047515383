"""POST .../query/{query_name}: a worker of the run's queue answers, nothing is recorded.

Contract: control-plane 5.8, worker-protocol 8.4.
"""

from __future__ import annotations

from typing import Any

from actors.queue.query_types import Query
from actors.run.commands.base import Payload
from actors.run.replies import Refused
from actors.workers.registry import Registration
from api.control.workers import is_stale
from api.control.workflows.targets import HISTORICAL, check_body, operation_name, run_id_of, target_refused
from api.http.call import Answer, Call
from api.http.fields import Fields
from api.payloads.codec import normalise_input, shown

UNAVAILABLE = "query_worker_unavailable"
INCOMPATIBLE = "query_worker_incompatible"

# Why the server has no answer.
_OURS = {
    UNAVAILABLE: (409, "No live worker of the task queue serves this workflow type."),
    INCOMPATIBLE: (409, "The live workers of the task queue are of other builds than the run."),
    "query_task_queue_full": (429, "Too many queries are waiting for the workers of the task queue."),
    "query_task_queue_unavailable": (503, "Queries cannot be handed to workers just now."),
    "query_worker_timeout": (504, "No worker answered the query in time."),
}

# Why a worker has no answer; every other reason it gives is a 409.
_WORKERS = {"rejected_unknown_query": 404, "invalid_query_arguments": 422}


def _read(call: Call) -> tuple[Fields, Payload]:
    fields = call.fields()
    return fields, normalise_input(fields)


async def query(call: Call) -> Answer:
    """POST .../query/{query_name}."""
    name = operation_name(call, "query_name")
    fields, arguments = await call.read(_read)
    await check_body(call, fields)

    async def eligible(workflow_type: str, task_queue: str, compatibility: str | None) -> str | None:
        return await missing_worker(call, workflow_type, task_queue, compatibility)

    workflow_id, run_id = call.path["workflow_id"], run_id_of(call)
    reply = await call.services.engine.query(call.namespace, workflow_id, Query(name, arguments), run_id, eligible)
    body: dict[str, Any] = {
        "workflow_id": workflow_id,
        "run_id": run_id,
        "target_scope": "instance",
        "query_name": name,
        "result": None,
        "result_envelope": None,
        "reason": None,
    }
    if isinstance(reply, Refused):
        if reply.reason in ("instance_not_found", HISTORICAL):
            raise target_refused(call, reply)
        status, text = _OURS.get(reply.reason, (409, f"Refused: {reply.reason}."))
        body |= {"run_id": reply.detail.get("run_id", run_id), "reason": reply.reason, "message": text}
        return Answer(status, body)
    body["run_id"] = reply.run_id
    if reply.reason is not None:
        body |= {"reason": reply.reason, "message": reply.message or "The worker refused the query."}
        return Answer(_WORKERS.get(reply.reason, 409), body)
    body |= {"result": shown(reply.result), "result_envelope": reply.result_envelope}
    return Answer(200, body)


async def missing_worker(call: Call, workflow_type: str, task_queue: str, compatibility: str | None) -> str | None:
    """Why no worker could answer a query of this type, queue and build marker; None when a fresh, active one serves it."""
    reason: str | None = None
    for newest in (False, True):
        # What is remembered may be a moment old; only what is stored now refuses a query.
        listed = await call.services.workers.of_queue(call.namespace, task_queue, newest=newest)
        reason = _missing(call, listed, workflow_type, compatibility)
        if reason is None:
            break
    return reason


def _missing(call: Call, listed: list[Registration], workflow_type: str, compatibility: str | None) -> str | None:
    now = call.services.clock.now()
    stale_after = call.services.settings.worker_stale_after_seconds
    serving = [
        registration.workflow_profile
        for registration in listed
        if registration.worker.status == "active"
        and not is_stale(registration.worker, now, stale_after)
        and registration.workflow_profile.serves(workflow_type, None)
    ]
    if not serving:
        return UNAVAILABLE
    return None if any(profile.serves(workflow_type, compatibility) for profile in serving) else INCOMPATIBLE
