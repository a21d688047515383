"""Workflow tasks on the worker plane: poll, history page, heartbeat, complete, fail (worker-protocol 4)."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from actors.queue.poll import WORKFLOW
from actors.run.commands.steps import UpsertSearchAttributes, WorkflowCommand
from actors.run.commands.worker import (
    CheckLease,
    CompleteWorkflowTask,
    FailWorkflowTask,
    HeartbeatWorkflowTask,
    ReadHistoryPage,
    WorkflowTaskGuard,
)
from actors.run.replies import (
    Done,
    HistoryPage,
    Refused,
    WorkflowTaskGrant,
)
from api.http import page_tokens
from api.http.compression import compress
from api.http.envelope import encode
from api.http.errors import ValidationFailed
from api.http.input.offload import for_size
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts
from api.worker.commands.attributes import typed_upsert
from api.worker.commands.batch import Batches
from api.worker.error_responses import workflow_task_refused
from api.worker.lease_fence import guard, read_failure
from api.worker.polling import Empty, hold, page_size, read_poll

COMPRESSION_THRESHOLD_EVENTS = 50

_ATTEMPT = "workflow_task_attempt"


def _events(events: bytes, count: int, accepted: str) -> dict[str, Any]:
    """The history fields of a task or page, compressed when asked for and worth it (worker-protocol 4.6)."""
    if accepted and count >= COMPRESSION_THRESHOLD_EVENTS:
        names = {name.split(";")[0].strip() for name in accepted.lower().split(",")}
        encoding = "gzip" if "gzip" in names else "deflate" if "deflate" in names else None
        if encoding is not None:
            return {
                "history_events": [],
                "history_events_compressed": base64.b64encode(compress(events, encoding)).decode(),
                "history_events_encoding": encoding,
            }
    return {"history_events": msgspec.Raw(events)}


def _token(next_after: int | None) -> str | None:
    return None if next_after is None else page_tokens.encode(next_after)


def task_object(grant: WorkflowTaskGrant, accepted_encoding: str) -> dict[str, Any]:
    """The task of a poll answer (worker-protocol 4.4)."""
    return {
        "task_id": grant.task_id,
        "workflow_id": grant.workflow_id,
        "run_id": grant.run_id,
        "workflow_task_attempt": grant.workflow_task_attempt,
        "workflow_type": grant.workflow_type,
        "payload_codec": grant.payload_codec,
        "arguments": msgspec.Raw(grant.arguments) if grant.arguments else None,
        "run_status": grant.run_status,
        "last_history_sequence": grant.last_history_sequence,
        **grant.budget,
        **_events(grant.history_events, grant.history_count, accepted_encoding),
        "total_history_events": grant.last_history_sequence,
        "next_history_page_token": _token(grant.next_after),
        "task_queue": grant.task_queue,
        "connection": None,
        "compatibility": grant.compatibility,
        "lease_owner": grant.lease_owner,
        "lease_expires_at": ts(grant.lease_expires_at),
        **msgspec.structs.asdict(grant.resume),
    }


async def poll_task(request: Request) -> Response:
    """POST /api/worker/workflow-tasks/poll."""
    poll, accepted = await request.read(lambda request: read_poll(request, WORKFLOW))
    grant = await hold(request, poll)
    if isinstance(grant, Empty):
        return Response(200, grant.value)
    assert isinstance(grant, WorkflowTaskGrant)
    compressed = grant.history_events if accepted and grant.history_count >= COMPRESSION_THRESHOLD_EVENTS else b""
    return Response(200, encode({"task": await for_size(compressed, task_object, grant, accepted)}))


def _page(request: Request) -> tuple[WorkflowTaskGuard[HistoryPage | Done], str]:
    """What is asked of the run, and the encodings the worker takes."""
    settings = request.services.settings
    fields = request.fields()
    owner, attempt = guard(fields, _ATTEMPT)
    token = fields.required_text("next_history_page_token", longest=None)
    size = page_size(fields, settings.history_page_size_default, settings.history_page_size_max)
    accepted = fields.text("accept_history_encoding", longest=64) or ""
    fields.check()
    after = page_tokens.decode(token)
    task_id = request.path["task_id"]
    if after is None:  # an unreadable token, of which only the owner of the lease is told
        return CheckLease(task_id, owner, attempt), accepted
    return ReadHistoryPage(task_id, owner, attempt, after, size), accepted


async def history_page(request: Request) -> Response:
    """POST /api/worker/workflow-tasks/{task_id}/history."""
    task_id = request.path["task_id"]
    command, accepted = await request.read(_page)
    attempt = command.attempt
    reply = await request.services.engine.runs.ask_task(request.namespace, task_id, command)
    if isinstance(reply, Refused):
        return workflow_task_refused(reply, task_id, attempt)
    if isinstance(reply, Done):
        body = {"task_id": task_id, "error": "The page token is not readable.", "reason": "invalid_page_token"}
        return Response(400, body)
    return Response(
        200,
        {
            "task_id": task_id,
            "workflow_task_attempt": attempt,
            **await for_size(reply.events if accepted else b"", _events, reply.events, reply.count, accepted),
            "total_history_events": reply.total,
            "next_history_page_token": _token(reply.next_after),
        },
    )


def _holder(request: Request) -> tuple[str, int]:
    fields = request.fields()
    holder = guard(fields, _ATTEMPT)
    fields.check()
    return holder


async def heartbeat(request: Request) -> Response:
    """POST /api/worker/workflow-tasks/{task_id}/heartbeat: extends the lease."""
    task_id = request.path["task_id"]
    owner, attempt = await request.read(_holder)
    reply = await request.services.engine.runs.ask_task(
        request.namespace, task_id, HeartbeatWorkflowTask(task_id, owner, attempt)
    )
    if isinstance(reply, Refused):
        return workflow_task_refused(reply, task_id, attempt)
    return Response(
        200,
        {
            "task_id": task_id,
            "workflow_task_attempt": attempt,
            "lease_owner": owner,
            "renewed": True,
            "lease_expires_at": ts(reply.lease_expires_at),
            "run_status": reply.run_status,
            "task_status": "leased",
            "reason": None,
        },
    )


def _completion(request: Request) -> tuple[str, int, list[WorkflowCommand], dict[str, list[str]]]:
    """Owner, attempt, steps, and the faults that only the owner of the lease is told."""
    fields = request.fields()
    owner, attempt = guard(fields, _ATTEMPT)
    faults: dict[str, list[str]] = {}
    steps = request.services.kept(Batches).read(fields, faults)
    fields.check()
    return owner, attempt, steps, faults


async def complete(request: Request) -> Response:
    """POST /api/worker/workflow-tasks/{task_id}/complete: all commands are applied, or none."""
    task_id = request.path["task_id"]
    owner, attempt, steps, faults = await request.read(_completion)
    runs = request.services.engine.runs
    if faults:
        # Faults of content are told to the owner of the lease only: ask the fence, change nothing.
        fence = await runs.ask_task(request.namespace, task_id, CheckLease(task_id, owner, attempt))
        if isinstance(fence, Refused):
            return workflow_task_refused(fence, task_id, attempt, "completed")
        raise ValidationFailed(faults)
    if any(type(step) is UpsertSearchAttributes for step in steps):
        types = await request.services.attribute_types.of(request.namespace)
        steps = [typed_upsert(step, types) if type(step) is UpsertSearchAttributes else step for step in steps]
    reply = await runs.ask_task(request.namespace, task_id, CompleteWorkflowTask(task_id, owner, attempt, steps))
    if isinstance(reply, Refused):
        return workflow_task_refused(reply, task_id, attempt, "completed")
    return Response(
        200,
        {
            "task_id": task_id,
            "workflow_task_attempt": attempt,
            "outcome": "completed",
            "recorded": True,
            "run_id": reply.run_id,
            "run_status": reply.run_status,
            "created_task_ids": reply.created_task_ids,
            "reason": None,
        },
    )


def _failure(request: Request) -> FailWorkflowTask:
    fields = request.fields()
    owner, attempt = guard(fields, _ATTEMPT)
    failure, message = read_failure(fields)
    kind = failure.free_text("type")
    trace = failure.free_text("stack_trace")
    fields.check()
    return FailWorkflowTask(request.path["task_id"], owner, attempt, message, kind, trace)


async def fail(request: Request) -> Response:
    """POST /api/worker/workflow-tasks/{task_id}/fail: this attempt failed, not the workflow."""
    task_id = request.path["task_id"]
    command = await request.read(_failure)
    attempt = command.attempt
    reply = await request.services.engine.runs.ask_task(request.namespace, task_id, command)
    if isinstance(reply, Refused):
        return workflow_task_refused(reply, task_id, attempt, "failed")
    return Response(
        200,
        {
            "task_id": task_id,
            "workflow_task_attempt": attempt,
            "outcome": "failed",
            "recorded": True,
            "reason": None,
            "next_task_id": None,
        },
    )
