"""Commands of the control plane to a workflow: signal, cancel, terminate, repair, archive (control-plane 5.7, 5.10 to 5.12)."""

from __future__ import annotations

from typing import Any

from actors.run.commands.base import Payload
from actors.run.commands.control import ArchiveRun, CancelRun, Commanded, RepairRun, SignalRun, TerminateRun
from actors.run.replies import CommandAnswered, Refused, UpdateStatus
from api.control.workflows.targets import check_body, operation_name, run_id_of, target_refused
from api.http.attribution import attribution
from api.http.call import Answer, Call
from api.http.fields import Fields
from api.payloads.codec import normalise_message

_LONGEST_REASON = 1000

_REJECTIONS = {
    "run_not_active": "The run is closed.",
    "run_not_closed": "The run is still open.",
    "structural_limit_exceeded": "A structural limit of the run is reached.",
}


def result_fields(call: Call, reply: CommandAnswered | UpdateStatus) -> dict[str, Any]:
    """The fields that name a command and its target in every result, `outcome` and the reasons still to be set."""
    return {
        "outcome": None,
        "workflow_id": reply.workflow_id,
        "run_id": reply.run_id,
        "requested_run_id": run_id_of(call),
        "resolved_run_id": reply.run_id,
        "command_id": reply.command_id,
        "command_sequence": reply.command_sequence,
        "target_scope": "instance",
        "workflow_type": reply.workflow_type,
        "command_status": "accepted",
        "command_source": "control_plane",
        "reason": None,
        "rejection_reason": None,
        "validation_errors": {},
    }


def command_fields(call: Call, reply: CommandAnswered) -> dict[str, Any]:
    """The result of a command that reached a run."""
    body = result_fields(call, reply)
    body["outcome"] = reply.outcome
    if reply.rejection is None:
        body["reason"] = reply.reason
        return body
    body["command_status"] = "rejected"
    body["reason"] = body["rejection_reason"] = reply.rejection
    body["message"] = _REJECTIONS.get(reply.rejection, f"Rejected: {reply.rejection}.")
    return body


async def _command(call: Call, command: Commanded, status: int, **named: str) -> Answer:
    engine = call.services.engine
    reply = await engine.command(call.namespace, call.path["workflow_id"], command, run_id_of(call))
    if isinstance(reply, Refused):
        raise target_refused(call, reply)
    assert isinstance(reply, CommandAnswered)
    return Answer(status if reply.rejection is None else 409, {**command_fields(call, reply), **named})


def _read_signal(call: Call) -> tuple[Fields, Payload | None, str | None]:
    fields = call.fields()
    return fields, normalise_message(fields), fields.text("request_id")


async def signal(call: Call) -> Answer:
    """POST .../signal/{signal_name}: durable on return; `request_id` is recorded and does not deduplicate."""
    name = operation_name(call, "signal_name")
    fields, arguments, request_id = await call.read(_read_signal)
    await check_body(call, fields)
    command = SignalRun(request_id, run_id_of(call) is not None, attribution(call), name, arguments)
    return await _command(call, command, 202, signal_name=name)


def _read_reason(call: Call) -> tuple[Fields, str | None, str | None]:
    fields = call.fields()
    return fields, fields.text("reason", longest=_LONGEST_REASON), fields.text("request_id")


async def _with_reason(call: Call, kind: type[CancelRun] | type[TerminateRun] | type[ArchiveRun]) -> Answer:
    fields, reason, request_id = await call.read(_read_reason)
    await check_body(call, fields)
    return await _command(call, kind(request_id, run_id_of(call) is not None, attribution(call), reason), 200)


async def cancel(call: Call) -> Answer:
    """POST .../cancel: closes the run at once."""
    return await _with_reason(call, CancelRun)


async def terminate(call: Call) -> Answer:
    """POST .../terminate: closes the run at once."""
    return await _with_reason(call, TerminateRun)


async def archive(call: Call) -> Answer:
    """POST /api/workflows/{workflow_id}/archive: a closed run is exempt from retention."""
    return await _with_reason(call, ArchiveRun)


async def repair(call: Call) -> Answer:
    """POST /api/workflows/{workflow_id}/repair: gets a stuck run going again."""
    fields = call.fields()
    request_id = fields.text("request_id")
    await check_body(call, fields)
    return await _command(call, RepairRun(request_id, attribution=attribution(call)), 200)
