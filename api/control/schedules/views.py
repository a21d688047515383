"""Answers about schedules (control-plane 11). Some bodies are JSON text, as what clients stored is handed on unread."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from actors.run import opaque
from actors.schedule.replies import ALREADY_EXISTS, INVALID, NOT_FOUND, Refused
from api.http.errors import ApiError, ValidationFailed, refusal
from api.http.response import Response
from api.http.times import ts0
from store.commit.schedule_writes import AuditRow


def shown(view: dict[str, Any]) -> Response:
    """The answer of a view that may hold JSON text."""
    return Response(200, opaque.text_of(view))


def not_found(namespace: str, schedule_id: str) -> ApiError:
    """404 for an id without a schedule."""
    return ApiError(404, NOT_FOUND, f"Schedule [{schedule_id}] not found in namespace [{namespace}].")


def refused(reply: Refused, namespace: str, schedule_id: str) -> Response:
    """What a schedule refused."""
    if reply.reason == NOT_FOUND:
        return not_found(namespace, schedule_id).response
    if reply.reason == ALREADY_EXISTS:
        text = f"Schedule [{schedule_id}] already exists in namespace [{namespace}]."
        return refusal(409, ALREADY_EXISTS, text, schedule_id=schedule_id)
    if reply.reason == INVALID:
        return ValidationFailed(reply.detail["errors"]).response
    limit = reply.detail.get("limit")
    if limit is None:
        return refusal(422, reply.reason, "The end time must be later than the start time.")
    return refusal(422, reply.reason, f"The range must not hold more than {limit} occurrences.", limit=limit)


def audit_event(event: AuditRow) -> dict[str, Any]:
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
