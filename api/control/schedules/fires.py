"""Trigger and backfill of schedules (control-plane 11, operations 1.5 to 1.7)."""

from __future__ import annotations

from typing import Any

from actors.schedule.commands import BackfillSchedule, TriggerSchedule
from actors.schedule.replies import Refused
from actors.schedules import FAILED, TRIGGERED, FireOutcome
from api.control.schedules.fields import overlap_policy, read_range
from api.control.schedules.reading import named
from api.control.schedules.views import refused
from api.http.attribution import CommandContext
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts0


def _read_trigger(request: Request) -> tuple[str, TriggerSchedule]:
    schedule_id, fields = named(request), request.fields()
    policy = overlap_policy(fields)
    fields.check()
    return schedule_id, TriggerSchedule(policy, CommandContext(request, schedule_id).of("schedule.trigger"))


async def trigger(request: Request) -> Response:
    """POST /api/schedules/{schedule_id}/trigger: answered when it is known what became of the start."""
    schedule_id, command = await request.read(_read_trigger)
    reply = await request.services.engine.schedules.trigger(request.namespace, schedule_id, command)
    if isinstance(reply, Refused):
        return refused(reply, request.namespace, schedule_id)
    body: dict[str, Any] = {"schedule_id": schedule_id, "outcome": reply.outcome}
    if reply.outcome == TRIGGERED:
        return Response(200, {**body, "workflow_id": reply.workflow_id, "run_id": reply.run_id})
    if reply.outcome == FAILED:
        text = f"The workflow could not be started: {reply.reason}"
        return Response(500, {**body, "outcome": "trigger_failed", "reason": reply.reason, "message": text})
    if reply.buffer_depth is not None:
        return Response(200, {**body, "buffer_depth": reply.buffer_depth})
    return Response(200, {**body, "reason": reply.reason})


def _read_backfill(request: Request) -> tuple[str, BackfillSchedule]:
    schedule_id, fields = named(request), request.fields()
    start, end = read_range(fields)
    policy = overlap_policy(fields)
    fields.check()
    return schedule_id, BackfillSchedule(start, end, policy, CommandContext(request, schedule_id).of("schedule.backfill"))


async def backfill(request: Request) -> Response:
    """POST /api/schedules/{schedule_id}/backfill: answered when it is known what became of all starts."""
    schedule_id, command = await request.read(_read_backfill)
    reply = await request.services.engine.schedules.backfill(request.namespace, schedule_id, command)
    if isinstance(reply, Refused):
        return refused(reply, request.namespace, schedule_id)
    results = [_result(each) for each in reply]
    body = {"schedule_id": schedule_id, "outcome": "backfill_started", "fires_attempted": len(results), "results": results}
    return Response(200, body)


def _result(fire: FireOutcome) -> dict[str, Any]:
    shown: dict[str, Any] = {"fire_time": ts0(fire.occurrence or 0), "outcome": fire.outcome}
    if fire.outcome == TRIGGERED:
        return {**shown, "workflow_id": fire.workflow_id, "outcome": "started"}
    return {**shown, "reason": fire.reason}
