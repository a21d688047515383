"""Answers about schedules (control-plane 11). Bodies are JSON text, since what clients stored in a schedule is handed on unread."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from actors.run import opaque
from actors.schedule.replies import Fired
from api.http.errors import ApiError, ValidationFailed
from api.http.response import Response
from api.http.times import ts0

ALREADY_EXISTS = "schedule_already_exists"


def shown(view: dict[str, Any], status: int = 200) -> Response:
    """The answer of a view that may hold JSON text."""
    return Response(status, opaque.text_of(view))


def not_found(namespace: str, schedule_id: str) -> ApiError:
    """404 for an id without a schedule."""
    return ApiError(404, "schedule_not_found", f"Schedule [{schedule_id}] not found in namespace [{namespace}].")


def refused(reason: str, detail: dict[str, Any], namespace: str, schedule_id: str) -> ApiError:
    """What a schedule refused (`actors.schedule.replies.Refused`)."""
    if reason == "schedule_not_found":
        return not_found(namespace, schedule_id)
    if reason == ALREADY_EXISTS:
        text = f"Schedule [{schedule_id}] already exists in namespace [{namespace}]."
        return ApiError(409, ALREADY_EXISTS, text, schedule_id=schedule_id)
    if reason == "validation_failed":
        return ValidationFailed(detail["errors"])
    return ApiError(422, reason, "The end time must be later than the start time, and the range hold at most 1000 occurrences.")


def triggered(schedule_id: str, fired: Fired) -> Response:
    """The outcome of a trigger, once it is settled (operations 1.6): 500 when the run could not be started."""
    body: dict[str, Any] = {"schedule_id": schedule_id, "outcome": fired.outcome}
    if fired.outcome == "started":
        return Response(200, {**body, "outcome": "triggered", "workflow_id": fired.workflow_id, "run_id": fired.run_id})
    if fired.outcome == "buffered":
        return Response(200, {**body, "buffer_depth": fired.buffer_depth})
    if fired.outcome == "failed":
        text = f"The workflow could not be started: {fired.reason}."
        return Response(500, {**body, "outcome": "trigger_failed", "reason": fired.reason, "message": text})
    return Response(200, {**body, "reason": fired.reason})


def backfilled(schedule_id: str, results: list[Fired]) -> Response:
    """What became of each occurrence of a backfill, oldest first (operations 1.7)."""
    items = [_filled_in(each) for each in results]
    body = {"schedule_id": schedule_id, "outcome": "backfill_started", "fires_attempted": len(items), "results": items}
    return Response(200, body)


def _filled_in(fired: Fired) -> dict[str, Any]:
    item: dict[str, Any] = {"fire_time": ts0(fired.occurrence or 0), "outcome": fired.outcome}
    if fired.outcome == "started":
        item["workflow_id"] = fired.workflow_id
    if fired.reason is not None:
        item["reason"] = fired.reason
    return item


def audit_event(event: Any) -> dict[str, Any]:
    """One event of the audit history (operations 1.11)."""
    return {
        "id": event.event_id,
        "sequence": event.sequence,
        "event_type": event.event_type,
        "payload": Raw(event.payload),
        "workflow_instance_id": event.workflow_instance_id,
        "workflow_run_id": event.workflow_run_id,
        "recorded_at": ts0(event.recorded_at),
    }
