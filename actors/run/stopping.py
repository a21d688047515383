"""Cancel, terminate, repair and archive (contract engine-semantics 9.1, 9.2, 9.4, 9.5)."""

from __future__ import annotations

from typing import Any

from actors.run import ids, requests
from actors.run.commands.control import ArchiveRun, CancelRun, RepairRun, TerminateRun
from actors.run.commands.messages import ParentClosed
from actors.run.lifecycle import closing
from actors.run.next_task import follow_up
from actors.run.replies import Done, Refused, RunReply
from actors.run.transition import Transition
from actors.run.waiting import waiting
from actors.run.workflow_task import lease

_WORDS = {
    "cancel": ("CancelRequested", "WorkflowCancelled", "cancelled", "WorkflowCancelledException"),
    "terminate": ("TerminateRequested", "WorkflowTerminated", "terminated", "WorkflowTerminatedException"),
}


def stop(tx: Transition, command: CancelRun | TerminateRun) -> RunReply:
    """Close the run at once; workers learn of it from their next call."""
    if not tx.state.is_open:
        return requests.not_active(tx)
    kind = "cancel" if isinstance(command, CancelRun) else "terminate"
    numbered = requests.number(tx)
    outcome = _WORDS[kind][2]
    _stop(tx, kind, numbered[0], command.reason, requests.snapshot(tx, numbered, command, outcome, applied=True))
    return requests.accepted(tx, numbered, outcome, command.reason)


def parent_closed(tx: Transition, command: ParentClosed) -> RunReply:
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


def repair(tx: Transition, command: RepairRun) -> RunReply:
    """Get a stuck run going again; never touches a valid lease or a result."""
    state = tx.state
    if not state.is_open:
        return requests.not_active(tx)
    numbered = requests.number(tx)
    found = waiting(state, tx.now)
    task = state.open_task
    dispatched = tx.set_right
    if task is None:
        dispatched = follow_up(tx) is not None or dispatched
    elif task.status == "leased":
        if task.lease_expires_at <= tx.now:
            lease.make_ready(tx, task)
            task.repairs += 1
            dispatched = True
    elif task.available_at > tx.now:
        task.available_at = tx.now
        tx.withdraw(task.task_id)
        tx.offer_workflow_task()
        dispatched = True
    outcome = "repair_dispatched" if dispatched else "repair_not_needed"
    open_task = state.open_task
    tx.record(
        "RepairRequested",
        {
            **requests.command_keys(tx, numbered[0]),
            "command_type": "repair",
            "outcome": outcome,
            "liveness_state": found.liveness,
            "wait_kind": found.kind,
            "task_id": None if open_task is None else open_task.task_id,
            "task_type": None if open_task is None else "workflow",
            "command": requests.snapshot(tx, numbered, command, outcome, applied=True),
        },
        command_id=numbered[0],
    )
    return requests.accepted(tx, numbered, outcome)


def archive(tx: Transition, command: ArchiveRun) -> RunReply:
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
