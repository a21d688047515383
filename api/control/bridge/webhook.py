"""POST /api/bridge-adapters/webhook/{adapter}: one outside event becomes one command to one workflow, once per key.

Contract: operations 10.1, control-plane 9. Every answer is an outcome; what is wrong with the caller itself, or with the body
as JSON, is answered as anywhere else.
"""

from __future__ import annotations

from typing import Any

from actors.run.replies import CommandAnswered, Refused, UpdateStatus
from actors.run.words import STANDALONE_TYPE
from actors.workflow_commands import REPEATED
from api.control.bridge.events import ADAPTER, Event, read_event
from api.http.request import Request
from api.http.response import Response
from api.http.route import OPERATORS, Route

_SCHEMA = "durable-workflow.v2.bridge-adapter-outcome.contract"
_VERSION = 1

_STATUS = {"accepted": 202, "duplicate": 200, "rejected": 422}

_UPDATE_OUTCOMES = {"completed": "update_completed", "failed": "update_failed"}


async def webhook(request: Request) -> Response:
    """POST /api/bridge-adapters/webhook/{adapter}."""
    adapter = request.path["adapter"]
    if not ADAPTER.match(adapter):
        return _outcome(Event(adapter), "rejected", "unsupported_routing")
    event = await request.read(read_event)
    if "action" not in event.errors and not event.supported:
        return _outcome(event, "rejected", "unsupported_action")
    if event.errors:
        message = next(iter(event.errors.values()))[0]
        return _outcome(event, "rejected", "malformed_payload", message=message, errors=event.errors)
    if event.start is not None:
        return await _start(request, event)
    if event.signal is not None:
        return await _signal(request, event)
    return await _update(request, event)


async def _start(request: Request, event: Event) -> Response:
    assert event.start is not None
    if event.start.workflow_type == STANDALONE_TYPE:
        return _outcome(event, "rejected", "unknown_target")
    reply = await request.services.engine.workflows.start(event.start)
    if isinstance(reply, Refused):
        return _outcome(event, "rejected", "unknown_target")
    named = {
        "workflow_id": reply.workflow_id,
        "run_id": reply.run_id,
        "workflow_type": reply.workflow_type,
        "control_plane_outcome": reply.outcome,
    }
    if reply.outcome == "started_new":
        return _outcome(event, "accepted", **named)
    refused = event.reject_duplicate and reply.outcome == "rejected_duplicate"
    return _outcome(event, "rejected" if refused else "duplicate", "duplicate_start", **named)


async def _signal(request: Request, event: Event) -> Response:
    assert event.signal is not None
    reply = await request.services.engine.workflows.command(request.namespace, event.workflow_id, event.signal)
    if isinstance(reply, CommandAnswered) and reply.outcome == REPEATED:
        return _outcome(event, "duplicate", **_named(reply, REPEATED))
    return _commanded(event, reply)


async def _update(request: Request, event: Event) -> Response:
    assert event.update is not None
    workflows = request.services.engine.workflows
    reply = await workflows.update(request.namespace, event.workflow_id, event.update)
    if not isinstance(reply, UpdateStatus):
        return _commanded(event, reply)
    if reply.repeated:
        return _outcome(event, "duplicate", **_named(reply, REPEATED))
    if reply.status == "accepted" and event.wait_seconds is not None:
        reply = await workflows.update_end(request.namespace, reply, event.wait_seconds)
    return _outcome(event, "accepted", **_named(reply, _UPDATE_OUTCOMES.get(reply.status)))


def _commanded(event: Event, reply: CommandAnswered | Refused) -> Response:
    """The outcome of a command that was no repetition."""
    if isinstance(reply, Refused):
        reason = "unknown_target" if reply.reason == "instance_not_found" else reply.reason
        return _outcome(event, "rejected", reason)
    if reply.rejection is not None:
        return _outcome(event, "rejected", reply.rejection, **_named(reply, reply.outcome))
    return _outcome(event, "accepted", **_named(reply, reply.outcome))


def _named(reply: CommandAnswered | UpdateStatus, outcome: str | None) -> dict[str, Any]:
    return {"workflow_id": reply.workflow_id, "run_id": reply.run_id, "control_plane_outcome": outcome}


def _outcome(event: Event, outcome: str, reason: str | None = None, **more: Any) -> Response:
    """An answer with all members that are not null, in the contract's order."""
    members = {
        "schema": _SCHEMA,
        "version": _VERSION,
        "adapter": event.adapter,
        "action": event.action,
        "accepted": outcome == "accepted",
        "outcome": outcome,
        "reason": reason,
        "idempotency_key": event.key,
        "target": event.target or None,
        "correlation": event.correlation,
        **more,
    }
    return Response(_STATUS[outcome], {name: value for name, value in members.items() if value is not None})


ROUTES = [Route("POST", "/bridge-adapters/webhook/{adapter}", webhook, OPERATORS)]
