"""POST /api/activities: an activity that runs by itself, in a host run under its id (control-plane 10, operations 10.2)."""

from __future__ import annotations

from typing import Any

from actors.run.commands.control import StartStandalone
from actors.run.commands.steps import ScheduleActivity
from actors.run.ids import RunId
from actors.run.replies import Refused, Started
from actors.run.words import STANDALONE_TYPE
from api.control.workflows.start import WORKFLOW_ID, read_turn
from api.http.attribution import attribution
from api.http.errors import refusal
from api.http.input.fields import LONGEST_SECONDS
from api.http.input.ids import new_ulid
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts, ts_or_none
from api.payloads.inputs import normalise_input
from api.worker.commands.readers import ACTIVITY_TIMEOUT_ORDER, ACTIVITY_TIMEOUTS, retry_policy


async def start(request: Request) -> Response:
    """POST /api/activities."""
    command = await request.read(_read)
    reply = await request.services.engine.workflows.start(command)
    if isinstance(reply, Refused):
        if reply.reason == "workflow_id_reserved_in_namespace":
            text = "The activity id is reserved in another namespace."
            return refusal(409, reply.reason, text, activity_id=command.workflow_id)
        if reply.reason != "workflow_type_mismatch":
            return refusal(409, reply.reason, "The start was refused.", activity_id=command.workflow_id)
        return _taken(command, "The activity id is that of a workflow.")
    if reply.outcome != "started_new":
        return _taken(command, "The activity has already been started.")
    return _started(reply)


def _read(request: Request) -> StartStandalone:
    fields = request.fields()
    activity_type = fields.required_text("activity_type")
    task_queue = fields.required_text("task_queue")
    activity_id = fields.identifier("activity_id", longest=128, pattern=WORKFLOW_ID)
    activity_class = fields.text("activity_class")
    business_key = fields.text("business_key")
    arguments = normalise_input(fields)
    policy = retry_policy(fields, one_backoff=True)
    timeouts: dict[str, Any] = {
        name: fields.integer(f"{name}_seconds", low=1, high=LONGEST_SECONDS) for name in ACTIVITY_TIMEOUTS
    }
    for first, second in ACTIVITY_TIMEOUT_ORDER:
        if (timeouts[first] or 0) > (timeouts[second] or LONGEST_SECONDS):
            fields.fault(f"{first}_seconds", f"{first}_seconds cannot exceed {second}_seconds.")
    turn = read_turn(fields)
    fields.check()
    return StartStandalone(
        namespace=request.namespace,
        workflow_id=activity_id or new_ulid(),
        run_id=RunId(""),
        workflow_type=STANDALONE_TYPE,
        task_queue=task_queue,
        arguments=arguments,
        payload_codec=arguments.codec,
        business_key=business_key,
        compatibility=request.services.settings.current_compatibility,
        attribution=attribution(request),
        activity=ScheduleActivity(activity_type, arguments, retry_policy=policy, **timeouts),
        activity_class=activity_class or activity_type,
        **turn,
    )


def _taken(command: StartStandalone, text: str) -> Response:
    return refusal(409, "duplicate_not_allowed", text, activity_id=command.workflow_id)


def _started(reply: Started) -> Response:
    activity = reply.activity
    assert activity is not None
    return Response(
        201,
        {
            "started": True,
            "activity_id": reply.workflow_id,
            "activity_execution_id": activity.execution_id,
            "workflow_run_id": reply.run_id,
            "workflow_id": reply.workflow_id,
            "workflow_type": reply.workflow_type,
            "activity_type": activity.activity_type,
            "activity_class": activity.activity_class,
            "task_queue": activity.task_queue,
            "namespace": reply.namespace,
            "status": reply.status,
            "payload_codec": reply.payload_codec,
            "started_at": ts(activity.started_at),
            "schedule_to_start_deadline_at": ts_or_none(activity.schedule_to_start_at),
            "schedule_to_close_deadline_at": ts_or_none(activity.schedule_to_close_at),
            "outcome": reply.outcome,
            "command_status": "accepted",
            "command_source": "control_plane",
        },
    )
