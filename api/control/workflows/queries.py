"""POST .../query/{query_name}: a worker of the run's queue answers, nothing is recorded.

Contract: control-plane 5.8, worker-protocol 8.4.
"""

from __future__ import annotations

from typing import Any

from actors.queue.query_types import Query
from actors.run.replies import Refused
from actors.run.values import Payload
from actors.workers.rules import QUERY_WORKER_INCOMPATIBLE, QUERY_WORKER_UNAVAILABLE
from api.control.workflows.workflow_target import HISTORICAL, missing_target, operation_name, run_id_of, target_refused
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.payloads.codec import shown
from api.payloads.inputs import normalise_input

# Why the server has no answer.
_OURS = {
    QUERY_WORKER_UNAVAILABLE: (409, "No live worker of the task queue serves this workflow type."),
    QUERY_WORKER_INCOMPATIBLE: (409, "The live workers of the task queue are of other builds than the run."),
    "query_task_queue_full": (429, "Too many queries are waiting for the workers of the task queue."),
    "query_task_queue_unavailable": (503, "Queries cannot be handed to workers just now."),
    "run_history_pruned": (409, "The history of the run was pruned; nothing is left to answer from."),
    "query_worker_timeout": (504, "No worker answered the query in time."),
    "rejected_unknown_query": (404, "A standalone activity answers no queries."),
}

# Why a worker has no answer; every other reason it gives is a 409.
_WORKERS = {"rejected_unknown_query": 404, "invalid_query_arguments": 422}


def _read(request: Request) -> tuple[Fields, Payload]:
    fields = request.fields()
    return fields, normalise_input(fields)


async def query(request: Request) -> Response:
    """POST .../query/{query_name}."""
    name = operation_name(request, "query_name")
    fields, arguments = await request.read(_read)
    missing = await missing_target(request, fields)
    if missing is not None:
        return missing

    workflow_id, run_id = request.path["workflow_id"], run_id_of(request)
    reply = await request.services.engine.workflows.query(request.namespace, workflow_id, Query(name, arguments), run_id)
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
            return target_refused(request, reply)
        status, text = _OURS.get(reply.reason, (409, f"Refused: {reply.reason}."))
        body |= {"run_id": reply.detail.get("run_id", run_id), "reason": reply.reason, "message": text}
        return Response(status, body)
    body["run_id"] = reply.run_id
    if reply.reason is not None:
        body |= {"reason": reply.reason, "message": reply.message or "The worker refused the query."}
        return Response(_WORKERS.get(reply.reason, 409), body)
    body |= {"result": shown(reply.result), "result_envelope": reply.result_envelope}
    return Response(200, body)
