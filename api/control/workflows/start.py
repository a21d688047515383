"""POST /api/workflows: the fields of a start, and how its outcome is answered (control-plane 5.1)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from actors.run.commands.control import StartRun
from actors.run.ids import RunId
from actors.run.replies import Refused, Started
from actors.visibility.values import typed
from api.control.annotations import read_search_attributes, start_memo
from api.http.attribution import attribution
from api.http.errors import ValidationFailed, refusal
from api.http.input.fields import LONGEST_SECONDS, Fields
from api.http.input.ids import new_ulid
from api.http.input.reserved import workflow_type_in
from api.http.request import Request
from api.http.response import Response
from api.payloads.inputs import normalise_input
from api.settings import Settings

WORKFLOW_ID = re.compile(r"[a-zA-Z0-9._:-]+\Z")
_FAIRNESS_KEY = re.compile(r"[A-Za-z0-9._:-]+\Z")

_POLICIES = ("fail", "use-existing")

_UNSUPPORTED = {
    "request_id": "The request_id field is not supported.",
    "idempotency_key": "The idempotency_key field is not supported.",
    "retry_policy": "The retry_policy field is not supported.",
    "workflow_execution_timeout": "Use execution_timeout_seconds instead of workflow_execution_timeout.",
    "workflow_run_timeout": "Use run_timeout_seconds instead of workflow_run_timeout.",
    "workflow_task_timeout": "The workflow_task_timeout field is not supported.",
}


_UNSUPPORTED_NAMES = frozenset(_UNSUPPORTED)


async def start(request: Request) -> Response:
    """POST /api/workflows."""
    command = await request.read(_read)
    if command.search_attributes:
        types = await request.services.attribute_types.of(request.namespace)
        command = msgspec.structs.replace(command, search_attributes=typed(command.search_attributes, types))
    reply = await request.services.engine.workflows.start(command)
    if isinstance(reply, Refused):
        return _refused(reply, command)
    return _started(reply)


def _read(request: Request) -> StartRun:
    return read_start(request.fields(), request.namespace, request.services.settings, attribution(request))


def read_start(fields: Fields, namespace: str, settings: Settings, caused_by: dict[str, Any] | None = None) -> StartRun:
    """The start command of a request's fields, without a run id (the engine makes it). Raises ValidationFailed."""
    if fields.has_any(_UNSUPPORTED_NAMES):
        for name, text in _UNSUPPORTED.items():
            if fields.has(name):
                fields.fault(name, text)
    workflow_type = workflow_type_in(fields)
    workflow_id = fields.identifier("workflow_id", longest=128, pattern=WORKFLOW_ID)
    task_queue = fields.text("task_queue")
    business_key = fields.text("business_key")
    if fields.get("payload_codec") is not None:
        fields.choice("payload_codec", ("avro",), text="The payload codec field only supports avro.")
    policy_text = "The duplicate_policy field only supports fail or use-existing."
    policy = fields.choice("duplicate_policy", _POLICIES, text=policy_text, default="fail")
    arguments = normalise_input(fields)
    memo = start_memo(fields, settings)
    attributes = read_search_attributes(fields, settings)
    execution_timeout = fields.integer("execution_timeout_seconds", low=1, high=LONGEST_SECONDS)
    run_timeout = fields.integer("run_timeout_seconds", low=1, high=LONGEST_SECONDS)
    turn = read_turn(fields)
    fields.check()
    return StartRun(
        namespace=namespace,
        workflow_id=workflow_id or new_ulid(),
        run_id=RunId(""),
        workflow_type=workflow_type,
        task_queue=task_queue,
        arguments=arguments,
        payload_codec=arguments.codec,
        business_key=business_key,
        memo=memo,
        search_attributes=attributes,
        duplicate_policy=policy or "fail",
        execution_timeout_seconds=execution_timeout,
        run_timeout_seconds=run_timeout,
        **turn,
        compatibility=settings.current_compatibility,
        attribution=caused_by,
    )


def read_turn(fields: Fields) -> dict[str, Any]:
    """When the tasks of what is started have their turn: `priority`, `fairness_key` and `fairness_weight`."""
    priority = fields.integer("priority", low=0, high=9, default=5)
    fairness_key = fields.text("fairness_key", longest=64, pattern=_FAIRNESS_KEY)
    return {
        "priority": 5 if priority is None else priority,
        "fairness_key": fairness_key.lower() if fairness_key else None,
        "fairness_weight": fields.integer("fairness_weight", low=1, high=1000, default=1) or 1,
    }


def _started(reply: Started) -> Response:
    body: dict[str, Any] = {
        "workflow_id": reply.workflow_id,
        "run_id": reply.run_id,
        "workflow_type": reply.workflow_type,
        "namespace": reply.namespace,
        "status": reply.status,
        "business_key": reply.business_key,
        "payload_codec": reply.payload_codec,
        "outcome": reply.outcome,
    }
    if reply.outcome == "started_new":
        return Response(201, body)
    if reply.outcome == "returned_existing_active":
        return Response(200, body)
    body["message"] = "The workflow has already been started."
    body["reason"] = "duplicate_not_allowed"
    body["rejection_reason"] = "instance_already_started"
    return Response(409, body)


def _refused(reply: Refused, command: StartRun) -> Response:
    if reply.reason == "workflow_type_mismatch":
        text = f"The workflow type field must be the type [{command.workflow_id}] was started with."
        return ValidationFailed({"workflow_type": [text]}).response
    if reply.reason == "workflow_id_reserved_in_namespace":
        text = "The workflow id is reserved in another namespace."
        return refusal(409, reply.reason, text, workflow_id=command.workflow_id)
    return refusal(409, reply.reason, "The start was refused.", workflow_id=command.workflow_id, **reply.detail)
