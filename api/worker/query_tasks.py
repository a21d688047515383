"""Query tasks on the worker plane: poll, complete, fail (worker-protocol 8)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.errors import Unavailable
from actors.queue.poll import QUERY
from actors.queue.query_types import QueryOutcome, QueryTaskGrant
from actors.run.replies import Refused
from api.http.envelope import encode
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts
from api.payloads.codec import decoded_or_none
from api.payloads.inputs import EMPTY_LIST, check_reference, envelope_in
from api.worker.lease_fence import guard, read_failure
from api.worker.polling import Empty, hold, read_poll

_ATTEMPT = "query_task_attempt"
_LONGEST_CODEC = 64

_TEXTS = {
    "query_task_not_found": "No such query task.",
    "query_task_not_leased": "The query task is not leased.",
    "lease_owner_mismatch": "The query task is leased by another worker.",
    "query_task_attempt_mismatch": "The query task is leased with another attempt.",
    "lease_expired": "The lease of the query task has expired.",
}


def task_object(grant: QueryTaskGrant) -> dict[str, Any]:
    """The task of a poll answer (worker-protocol 8.1)."""
    view, query = grant.view, grant.query
    return {
        "query_task_id": grant.query_task_id,
        "query_task_attempt": grant.query_task_attempt,
        "workflow_id": view.workflow_id,
        "run_id": view.run_id,
        "workflow_type": view.workflow_type,
        "query_name": query.name,
        "payload_codec": view.payload_codec,
        "workflow_arguments": msgspec.Raw(view.arguments) if view.arguments else None,
        "query_arguments": (query.arguments or EMPTY_LIST).envelope(),
        "run_status": view.run_status,
        "last_history_sequence": view.last_history_sequence,
        "history_events": msgspec.Raw(view.history_events),
        "task_queue": view.task_queue,
        "lease_owner": grant.lease_owner,
        "lease_expires_at": ts(grant.lease_expires_at),
    }


async def poll_task(request: Request) -> Response:
    """POST /api/worker/query-tasks/poll."""
    poll, _ = await request.read(lambda request: read_poll(request, QUERY))
    try:
        grant = await hold(request, poll)
    except Unavailable:
        text = "Queries cannot be handed to workers just now."
        return Response(
            503,
            {
                "task": None,
                "reason": "query_task_queue_unavailable",
                "error": text,
                "message": text,
                "namespace": request.namespace,
                "task_queue": poll.queue,
            },
        )
    if isinstance(grant, Empty):
        return Response(200, grant.value)
    assert isinstance(grant, QueryTaskGrant)
    return Response(200, encode({"task": task_object(grant)}))


def _result_envelope(fields: Fields) -> dict[str, Any] | None:
    """`result_envelope` as sent, None when absent; faults are noted."""
    reader = fields.nested("result_envelope")
    if reader is None:
        return None
    codec = reader.required_text("codec", longest=_LONGEST_CODEC)
    if reader.has("external_storage") and not reader.has("blob"):
        payload = check_reference(reader, "external_storage", reader.get("external_storage"), codec)
        return None if payload is None else payload.envelope()
    blob = reader.free_text("blob", required=True)
    if not fields.errors and envelope_in(fields, "result_envelope") is None:
        fields.fault("result_envelope", "The result envelope field must be an object of codec and blob.")
    return {"codec": reader.get("codec"), "blob": blob}


def _completion(request: Request) -> QueryOutcome:
    fields = request.fields()
    owner, attempt = guard(fields, _ATTEMPT)
    envelope = _result_envelope(fields)
    fields.check()
    # A worker that sends the envelope alone leaves the decoding to the server (control-plane 5.8).
    result = fields.opaque("result") if fields.has("result") else decoded_or_none(envelope)
    return QueryOutcome(request.path["query_task_id"], owner, attempt, result=result, result_envelope=envelope)


async def complete(request: Request) -> Response:
    """POST /api/worker/query-tasks/{query_task_id}/complete: the caller gets the result and its envelope as given."""
    return await _finish(request, await request.read(_completion), {"outcome": "completed"})


def _failure(request: Request) -> QueryOutcome:
    fields = request.fields()
    owner, attempt = guard(fields, _ATTEMPT)
    failure, message = read_failure(fields)
    reason = failure.text("reason") or "query_rejected"
    failure.free_text("type")
    failure.free_text("stack_trace")
    fields.check()
    return QueryOutcome(request.path["query_task_id"], owner, attempt, failed=True, reason=reason, message=message)


async def fail(request: Request) -> Response:
    """POST /api/worker/query-tasks/{query_task_id}/fail: the caller gets the reason and the message."""
    outcome = await request.read(_failure)
    return await _finish(request, outcome, {"outcome": "failed", "reason": outcome.reason})


async def _finish(request: Request, outcome: QueryOutcome, told: dict[str, Any]) -> Response:
    reply = await request.services.engine.workflows.finish_query(request.namespace, outcome)
    body: dict[str, Any] = {"query_task_id": outcome.query_task_id}
    if isinstance(reply, Refused):
        status = 404 if reply.reason == "query_task_not_found" else 409
        text = _TEXTS.get(reply.reason, f"Refused: {reply.reason}.")
        told = {"outcome": "rejected", **reply.detail, "reason": reply.reason, "error": text}
        return Response(status, {**body, **told, "status": status})
    return Response(200, {**body, "query_task_attempt": outcome.attempt, **told, "status": 200})
