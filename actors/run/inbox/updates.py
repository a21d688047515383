"""Updates: accepted at once, answered by a workflow task of their own (contract engine-semantics 7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from actors.run import ids, requests
from actors.run.commands.control import ReadUpdate, UpdateRun
from actors.run.commands.steps import CompleteUpdate, FailUpdate, WorkflowCommand
from actors.run.events.stored import arguments_of, envelope_or_none, result_keys
from actors.run.events.types import EventType
from actors.run.failures import failure_category, workflow_exception
from actors.run.next_task import ours, update_task
from actors.run.replies import CommandAnswered, Refused, UpdateStatus
from actors.run.state import Update, WorkflowTask
from actors.run.transition import Transition
from actors.run.values import Payload
from actors.run.words import ClosedReason, Rejection

UPDATE_STEPS = (CompleteUpdate, FailUpdate)


def accept(tx: Transition, command: UpdateRun) -> UpdateStatus | CommandAnswered:
    """Accept an update; one with the `request_id` of an unfinished one is that one."""
    state = tx.state
    if command.request_id is not None:
        for update_id, update in state.updates.items():
            if update.request_id == command.request_id:
                return _status(tx, update_id, update, repeated=True)
    if not state.is_open:
        return requests.not_active(tx)
    if state.standalone is not None:  # nobody would answer it
        return requests.rejected(tx, "unknown_update", "rejected_unknown_update")
    limit = tx.rules.limits.structural.pending_update_count
    if limit and len(state.updates) >= limit:
        return _reject(tx, command, "structural_limit_exceeded")
    tx.measure("pending_update_count", len(state.updates) + 1, limit, len(state.updates))
    command_id, sequence = requests.number(tx)
    update_id = tx.mint(ids.UPDATE)
    update = Update(
        name=command.name,
        event=0,
        command_id=command_id,
        command_sequence=sequence,
        accepted_at=tx.stamp,
        request_id=command.request_id,
        to_run=command.to_run,
    )
    if command.request_id is not None:
        tx.requests.append((command.request_id, update_id))
    record(tx, update_id, update, command.arguments, requests.snapshot(tx, (command_id, sequence), command))
    if state.open_task is None and state.begun:
        update_task(tx)
    return _status(tx, update_id, update)


def _reject(tx: Transition, command: UpdateRun, rejection: Rejection) -> CommandAnswered:
    """Turn an update of an open run away; other than those of a closed one (engine-semantics 2.5) this is recorded."""
    numbered = requests.number(tx)
    update_id = tx.mint(ids.UPDATE)
    arguments = command.arguments
    tx.record(
        "UpdateRejected",
        {
            **requests.command_keys(tx, numbered[0]),
            "update_id": update_id,
            "update_name": command.name,
            "arguments": envelope_or_none(arguments),
            "payload_codec": tx.state.payload_codec if arguments is None else arguments.codec,
            "rejection_reason": rejection,
            "validation_errors": {},
            "command": requests.snapshot(tx, numbered, command, rejection=rejection),
        },
        command_id=numbered[0],
    )
    return requests.rejected(tx, rejection, None, numbered, update_id)


def record(tx: Transition, update_id: str, update: Update, arguments: Payload | None, snapshot: dict[str, Any] | None) -> None:
    """Write the acceptance into history and into the run's inbox."""
    state = tx.state
    behind = state.signals[0] if state.signals else None
    update.event = tx.record(
        "UpdateAccepted",
        {
            **requests.command_keys(tx, update.command_id),
            "update_id": update_id,
            "update_name": update.name,
            "command_sequence": update.command_sequence,
            "arguments": envelope_or_none(arguments),
            "payload_codec": state.payload_codec if arguments is None else arguments.codec,
            "ordering_state": "ready" if behind is None else "queued",
            "queued_behind_command_id": None if behind is None else behind.command_id,
            "queued_behind_command_sequence": None if behind is None else behind.command_sequence,
            "queued_behind_command_type": None if behind is None else "signal",
            "command": snapshot,
        },
        command_id=update.command_id,
    )
    state.updates[update_id] = update


def _status(tx: Transition, update_id: str, update: Update, *, repeated: bool = False) -> UpdateStatus:
    state = tx.state
    return UpdateStatus(
        update_id=update_id,
        name=update.name,
        status="accepted",
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        workflow_type=state.workflow_type,
        command_id=update.command_id,
        command_sequence=update.command_sequence,
        accepted_at=update.accepted_at,
        repeated=repeated,
    )


# -- answers of workers ------------------------------------------------------------------------------------------------


def fault(tx: Transition, task: WorkflowTask, steps: Sequence[WorkflowCommand]) -> str | None:
    """Why the update commands of a batch cannot be applied (worker-protocol 5.10), None when they can."""
    seen: set[str] = set()
    for step in steps:
        if not isinstance(step, UPDATE_STEPS):
            continue
        known = step.update_id in tx.state.updates
        if not known or step.update_id in seen or task.update_id not in (None, step.update_id):
            return f"Update {step.update_id} is not open for this task."
        seen.add(step.update_id)
    return None


def complete(tx: Transition, step: CompleteUpdate) -> None:
    """The handler returned."""
    state = tx.state
    update = state.updates.pop(step.update_id)
    number = tx.next_step()
    arguments = arguments_of(tx.history[update.event - 1])
    keys = {**requests.command_keys(tx, update.command_id), "update_id": step.update_id, "update_name": update.name}
    applied = tx.record(
        "UpdateApplied",
        {
            **keys,
            "arguments": envelope_or_none(arguments),
            "payload_codec": state.payload_codec if arguments is None else arguments.codec,
        },
        step=number,
        command_id=update.command_id,
    )
    state.receivers.append(applied)
    result = result_keys(step.result, state.payload_codec, state.payload_codec)
    tx.record("UpdateCompleted", {**keys, **result}, step=number, command_id=update.command_id)
    tx.closed_updates.append(step.update_id)
    state.recheck = state.wait is not None


def fail(tx: Transition, step: FailUpdate) -> None:
    """The handler or its validator raised: replay must not apply such an update."""
    update = tx.state.updates.pop(step.update_id)
    number = tx.next_step()
    exception = workflow_exception(step.message, step.exception_type, step.exception_class, step.non_retryable, step.exception)
    tx.record(
        "UpdateCompleted",
        {
            **requests.command_keys(tx, update.command_id),
            "update_id": step.update_id,
            "update_name": update.name,
            "failure_id": tx.mint(ids.FAILURE),
            "failure_category": failure_category(step.message),
            "non_retryable": step.non_retryable,
            "exception_type": step.exception_type,
            "exception_class": exception["class"],
            "message": step.message,
            "code": 0,
            "exception": exception,
        },
        step=number,
        command_id=update.command_id,
    )
    tx.closed_updates.append(step.update_id)


def close_all(tx: Transition, reason: ClosedReason) -> None:
    """The run closed before they could be applied: their callers are released."""
    for update_id, update in list(tx.state.updates.items()):
        message = f"Workflow run closed as {reason} before accepted update {update.name} could be applied."
        tx.record(
            "UpdateCompleted",
            {
                **requests.command_keys(tx, update.command_id),
                "update_id": update_id,
                "update_name": update.name,
                "failure_id": tx.mint(ids.FAILURE),
                "failure_category": "application",
                "non_retryable": True,
                "exception_class": "RuntimeException",
                "message": message,
                "code": 0,
                "exception": {"class": "RuntimeException", "message": message, "code": 0},
                "terminal_reason": reason,
            },
            command_id=update.command_id,
        )
        tx.closed_updates.append(update_id)
    tx.state.updates = {}


def hand_over(tx: Transition, old: Transition) -> None:
    """Continue-as-new: updates addressed to the instance go on in the new run, in order."""
    for update_id, update in list(old.state.updates.items()):
        if update.to_run:
            continue
        state = tx.state
        state.command_sequence += 1
        moved = Update(
            name=update.name,
            event=0,
            command_id=update.command_id,
            command_sequence=state.command_sequence,
            accepted_at=update.accepted_at,
            request_id=update.request_id,
        )
        before = old.history[update.event - 1]
        record(tx, update_id, moved, arguments_of(before), requests.moved_snapshot(tx, before, moved.command_sequence))
        del old.state.updates[update_id]


# -- reading -----------------------------------------------------------------------------------------------------------


class _Closed(msgspec.Struct):
    update_id: str | None = None
    update_name: str = ""
    command_sequence: int = 0
    sequence: int | None = None
    result: str | dict[str, object] | None = None
    payload_codec: str = "avro"
    failure_id: str | None = None
    message: str | None = None


class _ClosedEvent(msgspec.Struct):
    recorded_at: datetime
    payload: _Closed
    workflow_command_id: str | None = None


_closed = msgspec.json.Decoder(_ClosedEvent).decode


def read(tx: Transition, command: ReadUpdate) -> UpdateStatus | Refused:
    """An update as it stands: open ones from the state, closed ones from history."""
    state = tx.state
    update = state.updates.get(command.update_id)
    if update is not None:
        return _status(tx, command.update_id, update)
    if not (ours(state, command.update_id, ids.UPDATE) or ids.kind_of(command.update_id) == ids.UPDATE):
        return Refused("update_not_found")
    event = _find(tx.history, "UpdateCompleted", command.update_id)
    if event is not None:
        closed = event.payload
        accepted = _find(tx.history, "UpdateAccepted", command.update_id)
        result: Payload | None = None
        if isinstance(closed.result, str):
            result = Payload(closed.payload_codec, closed.result)
        elif closed.result is not None:
            result = msgspec.convert(
                (closed.result["codec"], closed.result.get("blob"), closed.result.get("external_storage")), Payload
            )
        return UpdateStatus(
            update_id=command.update_id,
            name=closed.update_name,
            status="completed" if closed.failure_id is None else "failed",
            workflow_id=state.workflow_id,
            run_id=state.run_id,
            workflow_type=state.workflow_type,
            command_id=event.workflow_command_id or "",
            command_sequence=0 if accepted is None else accepted.payload.command_sequence,
            accepted_at=0 if accepted is None else _micros(accepted.recorded_at),
            step=closed.sequence,
            result=result,
            failure_id=closed.failure_id,
            failure_message=closed.message,
            closed_at=_micros(event.recorded_at),
        )
    return Refused("update_not_found")


def _find(history: list[bytes], event_type: EventType, update_id: str) -> _ClosedEvent | None:
    """The last event of a type about an update; told by its bytes first, so that few events are decoded."""
    mark, kind = update_id.encode(), f'"event_type":"{event_type}"'.encode()
    for line in reversed(history):
        if mark in line and kind in line[:80]:
            event = _closed(line)
            if event.payload.update_id == update_id:
                return event
    return None


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)
