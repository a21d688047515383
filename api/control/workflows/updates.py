"""POST .../update/{update_name}: accepted at once, waited for when asked (control-plane 5.9)."""

from __future__ import annotations

from typing import Any

from actors.run.commands.control import UpdateRun
from actors.run.replies import CommandAnswered, Refused, UpdateStatus
from actors.run.values import Payload
from api.control.workflows.commands import command_fields, rejection_status, result_fields
from api.control.workflows.workflow_target import missing_target, operation_name, run_id_of, target_refused
from api.http.attribution import attribution
from api.http.input.fields import LONGEST_SECONDS, Fields
from api.http.input.offload import for_size
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts, ts_or_none
from api.payloads.codec import decoded_or_none, shown
from api.payloads.inputs import normalise_message

# How the SDK words a validator's refusal; nothing else marks one (worker-protocol 5.10).
_REFUSED_BY_VALIDATOR = "update validator failed: "


def _read(request: Request) -> tuple[Fields, Payload | None, str | None, str | None, int | None]:
    """The reader of the fields, then the arguments, the request id, what is waited for and how many seconds."""
    fields = request.fields()
    arguments = normalise_message(fields)
    request_id = _request_id(request, fields)
    wait_for = fields.choice("wait_for", ("accepted", "completed"), default="accepted")
    timeout = fields.integer(
        "wait_timeout_seconds", low=1, high=LONGEST_SECONDS, default=request.services.settings.update_wait_seconds
    )
    if fields.has("wait_policy"):
        fields.fault("wait_policy", "The wait_policy field is no longer supported. Use wait_for.")
    return fields, arguments, request_id, wait_for, timeout


async def update(request: Request) -> Response:
    """POST .../update/{update_name}."""
    name = operation_name(request, "update_name")
    fields, arguments, request_id, wait_for, timeout = await request.read(_read)
    missing = await missing_target(request, fields)
    if missing is not None:
        return missing
    seconds = timeout if wait_for == "completed" else None
    run_id = run_id_of(request)
    command = UpdateRun(request_id, run_id is not None, attribution(request), name, arguments)
    reply = await request.services.engine.workflows.update(
        request.namespace, request.path["workflow_id"], command, run_id, None if seconds is None else float(seconds)
    )
    if isinstance(reply, Refused):
        return target_refused(request, reply)
    waited = {"wait_for": wait_for, "wait_timed_out": False, "wait_timeout_seconds": seconds}
    if isinstance(reply, CommandAnswered):
        return Response(rejection_status(reply), {**_rejected(request, reply), **waited, "update_name": name})
    waited["wait_timed_out"] = seconds is not None and reply.status == "accepted"
    return _answer({**await _status(request, reply), **waited, "update_name": name}, reply)


def _request_id(request: Request, fields: Fields) -> str | None:
    """The id that makes a repeated update the same one: the body's, else the header's."""
    request_id = fields.text("request_id")
    header = request.headers.get(b"x-request-id")
    if request_id is not None or header is None or "request_id" in fields.errors:
        return request_id
    return Fields({"request_id": header.decode("latin-1")}, fields.prefix, fields.errors).text("request_id")


def _rejected(request: Request, reply: CommandAnswered) -> dict[str, Any]:
    at = ts(request.services.clock.now())
    return {
        **command_fields(request, reply),
        "update_id": reply.update_id,
        "update_status": "rejected",
        "workflow_sequence": None,
        "result": None,
        "result_envelope": None,
        "failure_id": None,
        "failure_message": None,
        "accepted_at": None,
        "applied_at": None,
        "rejected_at": at,
        "closed_at": at,
    }


async def _status(request: Request, reply: UpdateStatus) -> dict[str, Any]:
    """The result of an accepted update as it stands now."""
    envelope = None if reply.result is None else reply.result.envelope()
    blob = None if reply.result is None else reply.result.blob
    closed_at = ts_or_none(reply.closed_at or None)
    return {
        **result_fields(request, reply),
        "update_id": reply.update_id,
        "update_status": reply.status,
        "workflow_sequence": reply.step,
        "result": shown(await for_size(blob or "", decoded_or_none, envelope)),
        "result_envelope": envelope,
        "failure_id": reply.failure_id,
        "failure_message": reply.failure_message,
        "accepted_at": ts_or_none(reply.accepted_at or None),
        "applied_at": closed_at if reply.status == "completed" else None,
        "rejected_at": None,
        "closed_at": closed_at,
    }


def _answer(body: dict[str, Any], reply: UpdateStatus) -> Response:
    if reply.status == "completed":
        body["outcome"] = "update_completed"
        return Response(200, body)
    if reply.status != "failed":
        return Response(202, body)
    message = reply.failure_message or "The update failed."
    refused = message.startswith(_REFUSED_BY_VALIDATOR)
    body["outcome"] = "update_failed"
    body["reason"] = "update_rejected" if refused else "update_handler_failed"
    body["message"] = message
    return Response(409 if refused else 422, body)
