"""Commands of the control plane to a workflow: signal, cancel, terminate, repair, archive (control-plane 5.7, 5.10 to 5.12)."""

from __future__ import annotations

import contextlib
from typing import Any

from actors.run.commands.control import ArchiveRun, CancelRun, ControlCommand, RepairRun, SignalRun, TerminateRun
from actors.run.replies import CommandAnswered, Refused, UpdateStatus
from actors.run.values import Payload
from api.control.workflows.workflow_target import missing_target, operation_name, run_id_of, target_refused
from api.http.attribution import attribution
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.payloads.inputs import normalise_message
from store.errors import StoreError
from store.upkeep import pruning

_LONGEST_REASON = 1000

_REJECTIONS = {
    "run_not_active": "The run is closed.",
    "run_not_closed": "The run is still open.",
    "structural_limit_exceeded": "A structural limit of the run is reached.",
    "unknown_signal": "A standalone activity takes no signals.",
    "unknown_update": "A standalone activity takes no updates.",
}


def rejection_status(reply: CommandAnswered) -> int:
    """The status a rejected command is answered with (control-plane 5.7)."""
    return 404 if reply.rejection in ("unknown_signal", "unknown_update") else 409


def result_fields(request: Request, reply: CommandAnswered | UpdateStatus) -> dict[str, Any]:
    """The fields that name a command and its target in every result, `outcome` and the reasons still to be set."""
    return {
        "outcome": None,
        "workflow_id": reply.workflow_id,
        "run_id": reply.run_id,
        "requested_run_id": run_id_of(request),
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


def command_fields(request: Request, reply: CommandAnswered) -> dict[str, Any]:
    """The result of a command that reached a run."""
    body = result_fields(request, reply)
    body["outcome"] = reply.outcome
    if reply.rejection is None:
        body["reason"] = reply.reason
        return body
    body["command_status"] = "rejected"
    body["reason"] = body["rejection_reason"] = reply.rejection
    body["message"] = _REJECTIONS.get(reply.rejection, f"Rejected: {reply.rejection}.")
    return body


async def _command(request: Request, command: ControlCommand, status: int, **named: str) -> Response:
    workflows = request.services.engine.workflows
    reply = await workflows.command(request.namespace, request.path["workflow_id"], command, run_id_of(request))
    if isinstance(reply, Refused):
        return target_refused(request, reply)
    return Response(status if reply.rejection is None else rejection_status(reply), {**command_fields(request, reply), **named})


def _read_signal(request: Request) -> tuple[Fields, Payload | None, str | None]:
    fields = request.fields()
    return fields, normalise_message(fields), fields.text("request_id")


async def signal(request: Request) -> Response:
    """POST .../signal/{signal_name}: durable on return; `request_id` is recorded and does not deduplicate."""
    name = operation_name(request, "signal_name")
    fields, arguments, request_id = await request.read(_read_signal)
    missing = await missing_target(request, fields)
    if missing is not None:
        return missing
    command = SignalRun(request_id, run_id_of(request) is not None, attribution(request), name, arguments)
    return await _command(request, command, 202, signal_name=name)


def _read_reason(request: Request) -> tuple[Fields, str | None, str | None]:
    fields = request.fields()
    return fields, fields.text("reason", longest=_LONGEST_REASON), fields.text("request_id")


async def _with_reason(request: Request, kind: type[CancelRun] | type[TerminateRun] | type[ArchiveRun]) -> Response:
    fields, reason, request_id = await request.read(_read_reason)
    missing = await missing_target(request, fields)
    if missing is not None:
        return missing
    return await _command(request, kind(request_id, run_id_of(request) is not None, attribution(request), reason), 200)


async def cancel(request: Request) -> Response:
    """POST .../cancel: closes the run at once."""
    return await _with_reason(request, CancelRun)


async def terminate(request: Request) -> Response:
    """POST .../terminate: closes the run at once."""
    return await _with_reason(request, TerminateRun)


async def archive(request: Request) -> Response:
    """POST /api/workflows/{workflow_id}/archive: a closed run is exempt from retention."""
    response = await _with_reason(request, ArchiveRun)
    if response.status == 200 and isinstance(response.body, dict):
        with contextlib.suppress(StoreError):  # retention notes it as well when it comes by
            await pruning.keep(request.services.db, [response.body["run_id"]])
    return response


async def repair(request: Request) -> Response:
    """POST /api/workflows/{workflow_id}/repair: gets a stuck run going again."""
    fields = request.fields()
    request_id = fields.text("request_id")
    missing = await missing_target(request, fields)
    if missing is not None:
        return missing
    return await _command(request, RepairRun(request_id, attribution=attribution(request)), 200)
