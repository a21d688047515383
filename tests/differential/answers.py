"""How the answers of the core look over HTTP: the status and those fields of the body that must be there as they are."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from actors.run.replies import (
    ActivityProgress,
    ActivityRecorded,
    ActivityTaskGrant,
    CommandAnswered,
    HistoryPage,
    QueryView,
    Refused,
    RunReply,
    Started,
    UpdateStatus,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
    WorkflowTaskGrant,
    WorkflowTaskRenewed,
)
from actors.run.times import iso, iso_or_none
from api.http import page_tokens
from api.worker import activity_tasks, workflow_tasks
from api.worker.error_responses import activity_refused, workflow_task_refused
from tests.cluster.client import Reply

Shown = tuple[int, dict[str, Any]]

_STARTED = {"started_new": 201, "returned_existing_active": 200, "rejected_duplicate": 409}
_FAILED_STARTS = {"workflow_type_mismatch": 422, "workflow_id_reserved_in_namespace": 409}
_TARGETS = {"instance_not_found": 404, "historical_run_command_rejected": 409}


def differences(answer: Reply, shown: Shown) -> list[str]:
    """What of an answer is not as shown: nothing when it has the status and all the fields."""
    status, fields = shown
    found = [] if answer.status == status else [f"status {answer.status}, not {status}"]
    for name, value in fields.items():
        there = answer.body.get(name)
        if name not in answer.body or there != value:
            found += _differ(name, there, value)
    return found


def _differ(name: str, there: Any, value: Any) -> list[str]:
    if isinstance(there, dict) and isinstance(value, dict):
        keys = [key for key in {**there, **value} if there.get(key) != value.get(key)]
        return [text for key in keys for text in _differ(f"{name}.{key}", there.get(key), value.get(key))]
    if isinstance(there, list) and isinstance(value, list) and len(there) == len(value):
        pairs = enumerate(zip(there, value, strict=True))
        return [text for at, (one, other) in pairs if one != other for text in _differ(f"{name}[{at}]", one, other)]
    return [f"{name} {str(there)[:300]}, not {str(value)[:300]}"]


def plain(value: Any) -> dict[str, Any]:
    """A body as it arrives."""
    decoded: dict[str, Any] = orjson.loads(msgspec.json.encode(value))
    return decoded


def start(reply: RunReply) -> Shown:
    """Control-plane 5.1."""
    if isinstance(reply, Refused):
        return _FAILED_STARTS[reply.reason], {}
    assert isinstance(reply, Started)
    names = ("workflow_id", "run_id", "workflow_type", "namespace", "status", "business_key", "payload_codec", "outcome")
    return _STARTED[reply.outcome], {name: getattr(reply, name) for name in names}


def start_alone(reply: RunReply) -> Shown:
    """Control-plane 10."""
    if isinstance(reply, Refused):
        return 409, {}
    assert isinstance(reply, Started)
    activity = reply.activity
    if reply.outcome != "started_new" or activity is None:
        return 409, {"reason": "duplicate_not_allowed", "activity_id": reply.workflow_id}
    return 201, {
        "activity_id": reply.workflow_id,
        "workflow_run_id": reply.run_id,
        "activity_execution_id": activity.execution_id,
        "activity_type": activity.activity_type,
        "started_at": iso(activity.started_at),
        "status": "running",
    }


def polled(reply: RunReply) -> Shown:
    """Worker-protocol 4.4 and 7.1: the whole task."""
    if isinstance(reply, WorkflowTaskGrant):
        return 200, {"task": plain(workflow_tasks.task_object(reply, ""))}
    if isinstance(reply, ActivityTaskGrant):
        return 200, {"task": plain(activity_tasks.task_object(reply))}
    return 0, {}


def workflow_call(reply: RunReply, task_id: str, attempt: int, outcome: str | None) -> Shown:
    """Worker-protocol 4.6 to 4.9. `outcome`: what the call reports."""
    if isinstance(reply, Refused):
        refused = workflow_task_refused(reply, task_id, attempt, outcome)
        return refused.status, plain(refused.body)
    fields: dict[str, Any] = {"task_id": task_id, "workflow_task_attempt": attempt}
    match reply:
        case WorkflowTaskCompleted():
            names = ("run_id", "run_status", "created_task_ids")
            fields |= {"outcome": "completed", "recorded": True, **{name: getattr(reply, name) for name in names}}
        case WorkflowTaskFailed():
            fields |= {"outcome": "failed", "recorded": True}
        case WorkflowTaskRenewed():
            fields |= {"renewed": True, "lease_expires_at": iso(reply.lease_expires_at), "run_status": reply.run_status}
        case HistoryPage():
            fields |= {"history_events": orjson.loads(reply.events), "total_history_events": reply.total}
            fields["next_history_page_token"] = None if reply.next_after is None else page_tokens.encode(reply.next_after)
        case _:
            raise AssertionError(reply)
    return 200, fields


def activity_call(reply: RunReply, task_id: str, attempt_id: str, outcome: str | None) -> Shown:
    """Worker-protocol 7.3 to 7.5."""
    if isinstance(reply, Refused):
        refused = activity_refused(reply, task_id, attempt_id, outcome)
        return refused.status, plain(refused.body)
    fields: dict[str, Any] = {"task_id": task_id, "activity_attempt_id": attempt_id}
    if isinstance(reply, ActivityRecorded):
        return 200, {**fields, "outcome": outcome, "recorded": True, "next_task_id": reply.next_task_id}
    assert isinstance(reply, ActivityProgress)
    names = ("cancel_requested", "can_continue", "reason", "run_closed_reason", "heartbeat_recorded")
    times = ("run_closed_at", "lease_expires_at", "last_heartbeat_at")
    fields |= {name: getattr(reply, name) for name in names}
    return 200, {**fields, **{name: iso_or_none(getattr(reply, name)) for name in times}}


def command(reply: RunReply, accepted: int) -> Shown:
    """Control-plane 5.7 to 5.12. `accepted`: the status of success."""
    if isinstance(reply, Refused):
        return _TARGETS[reply.reason], {"reason": reply.reason}
    if isinstance(reply, UpdateStatus):
        return update(reply)
    assert isinstance(reply, CommandAnswered)
    names = ("workflow_id", "run_id", "workflow_type", "command_id", "command_sequence", "outcome")
    fields = {name: getattr(reply, name) for name in names}
    if reply.rejection is None:
        return accepted, {**fields, "command_status": "accepted", "reason": reply.reason}
    status = 404 if reply.rejection in ("unknown_signal", "unknown_update") else 409
    return status, {**fields, "command_status": "rejected", "rejection_reason": reply.rejection}


def update(reply: UpdateStatus) -> Shown:
    """Control-plane 5.9: an update as it stands."""
    fields: dict[str, Any] = {
        "update_id": reply.update_id,
        "update_status": reply.status,
        "run_id": reply.run_id,
        "workflow_sequence": reply.step,
        "result_envelope": None if reply.result is None else reply.result.envelope(),
        "failure_message": reply.failure_message,
        "failure_id": reply.failure_id,
    }
    if reply.status == "accepted":
        return 202, {**fields, "command_id": reply.command_id, "command_sequence": reply.command_sequence}
    return (200 if reply.status == "completed" else 422), fields


def query_task(reply: RunReply) -> dict[str, Any]:
    """Worker-protocol 8.1: what the core says about the run."""
    assert isinstance(reply, QueryView)
    return {
        "workflow_id": reply.workflow_id,
        "run_id": reply.run_id,
        "workflow_type": reply.workflow_type,
        "payload_codec": reply.payload_codec,
        "workflow_arguments": orjson.loads(reply.arguments),
        "run_status": reply.run_status,
        "task_queue": reply.task_queue,
        "last_history_sequence": reply.last_history_sequence,
        "history_events": orjson.loads(reply.history_events),
    }
