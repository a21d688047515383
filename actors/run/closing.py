"""How a run ends: its own terminal commands and its deadlines (contract engine-semantics 9 and 10)."""

from __future__ import annotations

from typing import Any

from actors.run import activities, ids, timers
from actors.run.activity_parts import result_keys
from actors.run.commands import CompleteWorkflow, FailWorkflow
from actors.run.times import iso_seconds
from actors.run.transition import Transition

TIMEOUT_CLASS = "WorkflowTimeoutException"
_TIMEOUT_TEXTS = ("timed out", "timeout exceeded", "execution deadline", "run deadline")


def complete(tx: Transition, command: CompleteWorkflow) -> None:
    """The workflow returned."""
    codec = tx.state.payload_codec
    keys = result_keys(command.result, codec, codec)
    tx.record("WorkflowCompleted", {"output": keys.get("result"), "payload_codec": keys["payload_codec"]})
    close(tx, "completed", "completed")


def fail(tx: Transition, command: FailWorkflow) -> None:
    """The workflow raised."""
    state = tx.state
    type_ = command.exception_type
    class_ = command.exception_class or type_ or "RuntimeException"
    exception: dict[str, Any] = {
        "type": type_,
        "class": class_,
        "message": command.message,
        "code": 0,
        "file": "",
        "line": 0,
        "trace": [],
        "properties": [],
        "non_retryable": command.non_retryable,
        **(command.exception or {}),
    }
    tx.record(
        "WorkflowFailed",
        {
            "failure_id": tx.mint(ids.FAILURE),
            "source_kind": "workflow_run",
            "source_id": state.run_id,
            "failure_category": failure_category(command.message),
            "non_retryable": command.non_retryable,
            "exception_type": type_,
            "exception_class": class_,
            "message": command.message,
            "exception": {key: value for key, value in exception.items() if value is not None},
        },
    )
    close(tx, "failed", "failed")


def failure_category(message: str) -> str:
    """The category of a workflow failure, told by its message (engine-semantics 10.1)."""
    text = message.lower()
    if any(part in text for part in _TIMEOUT_TEXTS):
        return "timeout"
    return "structural_limit" if message.startswith("Structural limit exceeded:") else "application"


def time_out(tx: Transition) -> None:
    """The run's or the execution's deadline passed: it closes by itself, whatever is leased (engine-semantics 9.3)."""
    state = tx.state
    execution = state.execution_deadline_at is not None and state.execution_deadline_at <= tx.now
    kind, at = ("execution", state.execution_deadline_at) if execution else ("run", state.run_deadline_at)
    message = f"Workflow {kind} deadline expired at {iso_seconds(at or tx.now)}."
    shared = {
        "failure_id": tx.mint(ids.FAILURE),
        "failure_category": "timeout",
        "message": message,
        "exception_class": TIMEOUT_CLASS,
    }
    activities.cancel_all(tx)
    timers.cancel_all(tx)
    # Older clients know only the first of the two events; later ones search backwards and meet the second.
    tx.record(
        "WorkflowFailed",
        {
            **shared,
            "source_kind": "workflow_run",
            "source_id": state.run_id,
            "non_retryable": False,
            "exception": {"class": TIMEOUT_CLASS, "message": message, "code": 0},
        },
    )
    tx.record(
        "WorkflowTimedOut",
        {
            **shared,
            "timeout_kind": f"{kind}_timeout",
            "execution_deadline_at": None if state.execution_deadline_at is None else iso_seconds(state.execution_deadline_at),
            "run_deadline_at": None if state.run_deadline_at is None else iso_seconds(state.run_deadline_at),
        },
    )
    close(tx, "failed", "timed_out")


def close(tx: Transition, status: str, reason: str) -> None:
    """Mark the run closed; its open task and unfinished steps go with it."""
    state = tx.state
    task = state.open_task
    if task is not None:
        if task.status == "ready":
            tx.withdraw(task.task_id)
        task.status = "cancelled"
        task.lease_expires_at = 0
    activities.withdraw_all(tx)
    state.timers = {}
    state.next_context = None
    state.status = status
    state.closed_reason = reason
    state.closed_at = state.last_progress_at = tx.now
    tx.changed = True
