"""Cancel, terminate and archive (contract engine-semantics 9.1, 9.2, 9.5)."""

from __future__ import annotations

from typing import Any, Literal

from actors.run import ids, requests
from actors.run.commands.control import ArchiveRun, CancelRun, TerminateRun
from actors.run.commands.messages import ParentClosed
from actors.run.events.types import EventType
from actors.run.lifecycle import closing
from actors.run.replies import CommandAnswered, Done, Refused
from actors.run.transition import Transition

_WORDS: dict[str, tuple[EventType, EventType, Literal["cancelled", "terminated"], str]] = {
    "cancel": ("CancelRequested", "WorkflowCancelled", "cancelled", "WorkflowCancelledException"),
    "terminate": ("TerminateRequested", "WorkflowTerminated", "terminated", "WorkflowTerminatedException"),
}


def stop(tx: Transition, command: CancelRun | TerminateRun) -> CommandAnswered:
    """Close the run at once; workers learn of it from their next call."""
    if not tx.state.is_open:
        return requests.not_active(tx)
    kind = "cancel" if isinstance(command, CancelRun) else "terminate"
    numbered = requests.number(tx)
    outcome = _WORDS[kind][2]
    _stop(tx, kind, numbered[0], command.reason, requests.snapshot(tx, numbered, command, outcome, applied=True))
    return requests.accepted(tx, numbered, outcome, command.reason)


def parent_closed(tx: Transition, command: ParentClosed) -> Done | Refused:
    """The parent's close policy: as the command would, without a caller. Refused by a closed run: another may go on for it."""
    if not tx.state.is_open:
        return Refused("run_not_active")
    command_id, _ = requests.number(tx)
    _stop(tx, "cancel" if command.policy == "request_cancel" else "terminate", command_id, command.reason, None)
    return Done()


def _stop(tx: Transition, kind: str, command_id: str, reason: str | None, snapshot: dict[str, Any] | None) -> None:
    requested, ended, status, class_ = _WORDS[kind]
    keys = requests.command_keys(tx, command_id)
    tx.record(requested, {**keys, "command_type": kind, "reason": reason, "command": snapshot}, command_id=command_id)
    closing.cancel_steps(tx, command_id)
    message = f"Workflow {status}: {reason}" if reason else f"Workflow {status}."
    failure: dict[str, Any] = {
        "failure_id": tx.mint(ids.FAILURE),
        "failure_category": status,
        "exception_class": class_,
        "message": message,
    }
    tx.record(ended, {**keys, **failure, "closed_reason": status, "reason": reason}, command_id=command_id)
    closing.close(tx, status, status, failure=failure)


def archive(tx: Transition, command: ArchiveRun) -> CommandAnswered | Refused:
    """Mark a closed run as archived; deletes nothing."""
    state = tx.state
    if state.is_open:
        return requests.rejected(tx, "run_not_closed", "rejected_run_not_closed")
    if state.superseded:
        return Refused("run_continued")  # not the current run any more (engine-semantics 9.5)
    numbered = requests.number(tx)
    keys = requests.command_keys(tx, numbered[0])
    outcome = "archive_not_needed" if state.archived else "archived"
    tx.record(
        "ArchiveRequested",
        {
            **keys,
            "command_type": "archive",
            "outcome": outcome,
            "reason": command.reason,
            "command": requests.snapshot(tx, numbered, command, outcome, applied=True),
        },
        command_id=numbered[0],
    )
    if not state.archived:
        state.archived = True
        tx.record(
            "WorkflowArchived",
            {**keys, "archive_command_id": numbered[0], "reason": command.reason},
            command_id=numbered[0],
        )
    return requests.accepted(tx, numbered, outcome, command.reason)
