"""Activity tasks on the worker plane: poll, complete, fail, heartbeat (worker-protocol 7)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.queue.poll import ACTIVITY
from actors.run.commands.worker import CompleteActivity, FailActivity, HeartbeatActivity
from actors.run.replies import ActivityTaskGrant, Refused
from actors.run.values import Failure
from api.http.envelope import encode
from api.http.input.fields import Fields, label
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts, ts0, ts_or_none
from api.payloads.codec import AVRO, JSON
from api.payloads.inputs import check_envelope, envelope_in, normalise_value
from api.worker.error_responses import activity_refused
from api.worker.lease_fence import read_failure
from api.worker.polling import Empty, hold, read_poll

_KINDS = (
    "application",
    "timeout",
    "cancellation",
    "malformed_output",
    "handler_crash",
    "decode_failure",
    "unsupported_payload",
)
_TIMEOUTS = ("schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat", "deadline_exceeded")


def task_object(grant: ActivityTaskGrant) -> dict[str, Any]:
    """The task of a poll answer; keys without a value are left out (worker-protocol 7.1)."""
    task: dict[str, Any] = {
        "task_id": grant.task_id,
        "workflow_id": grant.workflow_id,
        "run_id": grant.run_id,
        "activity_execution_id": grant.activity_execution_id,
        "activity_attempt_id": grant.activity_attempt_id,
        "attempt_number": grant.attempt_number,
        "activity_type": grant.activity_type,
        "payload_codec": grant.payload_codec,
        "task_queue": grant.task_queue,
        "lease_owner": grant.lease_owner,
        "lease_expires_at": ts(grant.lease_expires_at),
    }
    if grant.arguments:
        task["arguments"] = msgspec.Raw(grant.arguments)
    if grant.retry_policy is not None:
        task["retry_policy"] = grant.retry_policy
    if grant.connection is not None:
        task["connection"] = grant.connection
    if grant.deadlines:
        task["deadlines"] = {name: ts0(at) for name, at in grant.deadlines.items()}
    return task


async def poll_task(request: Request) -> Response:
    """POST /api/worker/activity-tasks/poll."""
    poll, _ = await request.read(lambda request: read_poll(request, ACTIVITY))
    grant = await hold(request, poll)
    if isinstance(grant, Empty):
        return Response(200, grant.value)
    assert isinstance(grant, ActivityTaskGrant)
    return Response(200, encode({"task": task_object(grant)}))


def _guard(fields: Fields) -> tuple[str, str]:
    """`activity_attempt_id` and `lease_owner`, which every call on an attempt carries."""
    return fields.required_text("activity_attempt_id"), fields.required_text("lease_owner")


def _completion(request: Request) -> CompleteActivity:
    fields = request.fields()
    attempt_id, owner = _guard(fields)
    result = normalise_value(fields, "result")
    fields.check()
    return CompleteActivity(request.path["task_id"], attempt_id, owner, result)


async def complete(request: Request) -> Response:
    """POST /api/worker/activity-tasks/{task_id}/complete."""
    return await _report(request, await request.read(_completion), "completed")


async def _report(request: Request, command: CompleteActivity | FailActivity, outcome: str) -> Response:
    """Have the outcome of an attempt recorded."""
    task_id, attempt_id = command.task_id, command.attempt_id
    reply = await request.services.engine.runs.ask_task(request.namespace, task_id, command)
    if isinstance(reply, Refused):
        return activity_refused(reply, task_id, attempt_id, outcome)
    return Response(
        200,
        {
            "task_id": task_id,
            "activity_attempt_id": attempt_id,
            "outcome": outcome,
            "recorded": True,
            "reason": None,
            "next_task_id": reply.next_task_id,
        },
    )


def _failed(request: Request) -> FailActivity:
    fields = request.fields()
    attempt_id, owner = _guard(fields)
    failure = _failure(fields)
    fields.check()
    return FailActivity(request.path["task_id"], attempt_id, owner, failure)


async def fail(request: Request) -> Response:
    """POST /api/worker/activity-tasks/{task_id}/fail."""
    return await _report(request, await request.read(_failed), "failed")


def _failure(fields: Fields) -> Failure:
    reader, message = read_failure(fields)
    kind = reader.choice("kind", _KINDS)
    if kind is None:
        kind = (
            "cancellation"
            if reader.boolean("cancelled")
            else "malformed_output"
            if reader.boolean("malformed_output")
            else None
        )
    code = reader.get("code")
    if code is not None and (isinstance(code, bool) or not isinstance(code, int | str)):
        reader.fault("code", "The code field must be an integer or a string.")
        code = None
    elif isinstance(code, int):
        code = reader.opaque("code")
    elif not reader.without_nul("code"):
        code = None
    details: bytes | str | None = None
    codec: str | None = None
    envelope = envelope_in(reader, "details")
    if envelope is not None:
        payload = check_envelope(reader, "details", envelope, (AVRO, JSON))
        if payload is not None:
            details, codec = payload.blob, payload.codec
    elif reader.without_nul("details"):
        details = reader.opaque("details")
    return Failure(
        message=message,
        type=reader.free_text("type"),
        class_=reader.free_text("class"),
        code=code,
        stack_trace=reader.free_text("stack_trace"),
        non_retryable=reader.boolean("non_retryable") or not reader.boolean("retryable", default=True),
        kind=kind,
        timeout_type=reader.choice("timeout_type", _TIMEOUTS),
        details=details,
        details_payload_codec=codec,
    )


def _number(fields: Fields, name: str) -> int | float | bytes | None:
    """A number of any size, which is only shown."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        fields.fault(name, f"The {label(name)} field must be a number.")
        return None
    return fields.opaque(name)


def _progress(fields: Fields) -> dict[str, Any]:
    """The progress of a heartbeat: those of its five fields that were sent (worker-protocol 7.5)."""
    sent: dict[str, Any] = {
        "message": fields.free_text("message", longest=280),
        "current": _number(fields, "current"),
        "total": _number(fields, "total"),
        "unit": fields.free_text("unit", longest=64),
        "details": fields.opaque_object("details"),
    }
    if sent["unit"] is not None and sent["current"] is None and sent["total"] is None:
        fields.fault("unit", "The unit field needs the current or the total field.")
    return {name: value for name, value in sent.items() if value is not None}


def _beat(request: Request) -> HeartbeatActivity:
    fields = request.fields()
    attempt_id, owner = _guard(fields)
    progress = _progress(fields)
    fields.check()
    return HeartbeatActivity(request.path["task_id"], attempt_id, owner, progress)


async def heartbeat(request: Request) -> Response:
    """POST /api/worker/activity-tasks/{task_id}/heartbeat: liveness, progress and the answer whether to go on."""
    task_id = request.path["task_id"]
    command = await request.read(_beat)
    attempt_id, owner = command.attempt_id, command.lease_owner
    reply = await request.services.engine.runs.ask_task(request.namespace, task_id, command)
    if isinstance(reply, Refused):
        return activity_refused(reply, task_id, attempt_id)
    return Response(
        200,
        {
            "task_id": task_id,
            "activity_attempt_id": attempt_id,
            "lease_owner": owner,
            "cancel_requested": reply.cancel_requested,
            "can_continue": reply.can_continue,
            "reason": reply.reason,
            "run_closed_reason": reply.run_closed_reason,
            "run_closed_at": ts_or_none(reply.run_closed_at),
            "heartbeat_recorded": reply.heartbeat_recorded,
            "lease_expires_at": ts_or_none(reply.lease_expires_at),
            "last_heartbeat_at": ts_or_none(reply.last_heartbeat_at),
        },
    )
