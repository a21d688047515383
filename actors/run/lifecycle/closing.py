"""How a run ends: its own terminal commands, its deadlines, cancel and terminate (contract engine-semantics 9 and 10)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.activity import scheduling
from actors.run.commands.steps import CompleteWorkflow, ContinueAsNew, FailWorkflow
from actors.run.events.stored import result_keys
from actors.run.failures import failure_category, workflow_exception
from actors.run.inbox import updates
from actors.run.lifecycle import continuing
from actors.run.steps import children, timers
from actors.run.times import iso_seconds
from actors.run.transition import Transition
from actors.run.values import Payload
from actors.run.words import ClosedReason, RunStatus

TIMEOUT_CLASS = "WorkflowTimeoutException"


def complete(tx: Transition, command: CompleteWorkflow) -> None:
    """The workflow returned."""
    codec = tx.state.payload_codec
    keys = result_keys(command.result, codec, codec)
    tx.record("WorkflowCompleted", {"output": keys.get("result"), "payload_codec": keys["payload_codec"]})
    close(tx, "completed", "completed", result=command.result)


def fail(tx: Transition, command: FailWorkflow) -> None:
    """The workflow raised."""
    exception = workflow_exception(
        command.message, command.exception_type, command.exception_class, command.non_retryable, command.exception
    )
    failure = {
        "failure_id": tx.mint(ids.FAILURE),
        "failure_category": failure_category(command.message),
        "non_retryable": command.non_retryable,
        "exception_type": command.exception_type,
        "exception_class": exception["class"],
        "message": command.message,
        "exception": exception,
    }
    tx.record("WorkflowFailed", {**failure, "source_kind": "workflow_run", "source_id": tx.state.run_id})
    close(tx, "failed", "failed", failure=failure)


def continue_as_new(tx: Transition, command: ContinueAsNew) -> str:
    """The workflow goes on as another run; returns the id of that run's first task."""
    task_id = continuing.continue_as_new(tx, command)
    close(tx, "completed", "continued")
    return task_id


def time_out(tx: Transition) -> None:
    """The run's or the execution's deadline passed: it closes by itself, whatever is leased (engine-semantics 9.3)."""
    state = tx.state
    execution = state.execution_deadline_at is not None and state.execution_deadline_at <= tx.now
    kind, at = ("execution", state.execution_deadline_at) if execution else ("run", state.run_deadline_at)
    message = f"Workflow {kind} deadline expired at {iso_seconds(at or tx.now)}."
    failure: dict[str, Any] = {
        "failure_id": tx.mint(ids.FAILURE),
        "failure_category": "timeout",
        "message": message,
        "exception_class": TIMEOUT_CLASS,
    }
    cancel_steps(tx)
    # Older clients know only the first of the two events; later ones search backwards and meet the second.
    tx.record(
        "WorkflowFailed",
        {
            **failure,
            "source_kind": "workflow_run",
            "source_id": state.run_id,
            "non_retryable": False,
            "exception": {"class": TIMEOUT_CLASS, "message": message, "code": 0},
        },
    )
    tx.record(
        "WorkflowTimedOut",
        {
            **failure,
            "timeout_kind": f"{kind}_timeout",
            "execution_deadline_at": None if state.execution_deadline_at is None else iso_seconds(state.execution_deadline_at),
            "run_deadline_at": None if state.run_deadline_at is None else iso_seconds(state.run_deadline_at),
        },
    )
    failure["exception"] = {"class": TIMEOUT_CLASS, "message": message, "code": 0}
    close(tx, "failed", "timed_out", failure=failure)


def cancel_steps(tx: Transition, command_id: str | None = None) -> None:
    """Cancel, terminate and deadlines end every unfinished step with an event, activities first, in step order.

    `command_id`: the command that caused it, None for a deadline.
    """
    scheduling.cancel_all(tx, command_id)
    timers.cancel_all(tx, command_id)


def close(
    tx: Transition,
    status: RunStatus,
    reason: ClosedReason,
    *,
    result: Payload | None = None,
    failure: dict[str, Any] | None = None,
) -> None:
    """Mark the run closed; its open task, unfinished steps, updates and children go with it, its parent hears of it."""
    state = tx.state
    task = state.open_task
    if task is not None:
        if task.status == "ready":
            tx.withdraw(task.task_id)
        task.status = "cancelled"
        task.lease_expires_at = 0
    scheduling.withdraw_all(tx)
    state.timers = {}
    state.wait = None
    state.next_context = None
    state.status = status
    state.closed_reason = reason
    state.closed_at = state.last_progress_at = tx.stamp
    tx.changed = True
    updates.close_all(tx, reason)
    if reason == "continued":
        state.children = {}
        return
    if state.scheduled is not None:
        tx.tell_schedule("closed")
    children.apply_close_policies(tx, reason)
    backoff = continuing.retry_backoff(tx, status, failure or {})
    if backoff is None:
        continuing.tell_parent_end(tx, result, failure or {})
    else:
        continuing.retry(tx, backoff)
