"""The workflow task of a run and its lease: claim, fencing, heartbeat, history pages, failure (engine-semantics 4)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.run import ids, limits
from actors.run.commands.worker import (
    ANY_ATTEMPT,
    CheckLease,
    ClaimTask,
    FailWorkflowTask,
    HeartbeatWorkflowTask,
    ReadHistoryPage,
    ReleaseClaim,
    RereadClaim,
    WorkflowTaskGuard,
)
from actors.run.lifecycle import closing
from actors.run.next_task import ours
from actors.run.replies import (
    Done,
    HistoryPage,
    NotDue,
    Refused,
    WorkflowTaskFailed,
    WorkflowTaskGrant,
    WorkflowTaskRenewed,
)
from actors.run.state import RunState, WorkflowTask
from actors.run.times import SECOND, Micros, iso, iso_or_none
from actors.run.transition import Transition

# -- claims ------------------------------------------------------------------------------------------------------------


def claim(tx: Transition, command: ClaimTask) -> WorkflowTaskGrant | NotDue | Refused:
    """Lease the ready task to a worker and fix the snapshot it is shown (worker-protocol 4.2, 4.5)."""
    state = tx.state
    task = state.open_task
    if task is None or task.task_id != command.task_id or task.status != "ready":
        return Refused("not_ready")
    if task.available_at > tx.now:
        return NotDue(task.available_at)
    if overdue(state, tx.now):
        closing.time_out(tx)
        return Refused("not_ready")
    task.status = "leased"
    task.attempt += 1
    task.owner = command.worker.worker_id
    task.dialect = command.worker.dialect
    task.leased_at = tx.stamp
    task.lease_expires_at = tx.now + tx.rules.workflow_task_lease * SECOND
    task.claimed_at_event = state.last_sequence
    shown = tx.dialect.claimed(state, task.dialect)
    task.snapshot, task.view_length = shown.length, shown.view_length
    task.repeatable, task.new_receivers = shown.repeatable, shown.new_receivers
    if task.update_id is None:
        state.next_context = None
        state.recheck = False
    tx.withdraw(task.task_id)
    tx.take_permits(task.task_id, command.permits)
    return grant(tx, task, command.history_page_size)


def reread(tx: Transition, command: RereadClaim) -> WorkflowTaskGrant | Refused:
    """The lease a repeated poll already has, with the history of the original claim (worker-protocol 4.3)."""
    task = tx.state.open_task
    if (
        task is None
        or task.task_id != command.task_id
        or task.status != "leased"
        or task.owner != command.worker.worker_id
        or task.attempt != command.attempt
        or task.lease_expires_at <= tx.now
    ):
        return Refused("not_leased")
    return grant(tx, task, command.history_page_size)


def release(tx: Transition, command: ReleaseClaim) -> Done | Refused:
    """Hand back a lease that never reached its worker: the task is ready again at once.

    Refused as `not_leased` when the worker does not have that lease.
    """
    task = tx.state.open_task
    if (
        task is not None
        and task.task_id == command.task_id
        and task.status == "leased"
        and task.owner == command.worker_id
        and command.attempt in (task.attempt, ANY_ATTEMPT)
    ):
        make_ready(tx, task)
        return Done()
    return Refused("not_leased")


def make_ready(tx: Transition, task: WorkflowTask, *, delay_seconds: int = 0) -> None:
    """Put a leased task back. What was recorded meanwhile is shown at its next claim."""
    task.status = "ready"
    task.owner = None
    task.lease_expires_at = 0
    task.available_at = tx.now + delay_seconds * SECOND
    if task.update_id is None:
        tx.state.next_context = None
    tx.offer_workflow_task()


class _StartedPayload(msgspec.Struct):
    arguments: msgspec.Raw


class _StartedEvent(msgspec.Struct):
    payload: _StartedPayload


_started = msgspec.json.Decoder(_StartedEvent)


def run_arguments(tx: Transition) -> bytes:
    """The run's input as a serialized envelope."""
    return bytes(_started.decode(tx.history[tx.state.input_event - 1]).payload.arguments)


def grant(tx: Transition, task: WorkflowTask, page_size: int) -> WorkflowTaskGrant:
    """What the worker of a leased task is given."""
    state = tx.state
    events, count, next_after = tx.dialect.page(state, tx.history, task.dialect, task.snapshot, 0, page_size)
    return WorkflowTaskGrant(
        task_id=task.task_id,
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        workflow_task_attempt=task.attempt,
        workflow_type=state.workflow_type,
        payload_codec=state.payload_codec,
        arguments=run_arguments(tx),
        run_status=state.status,
        last_history_sequence=task.snapshot,
        history_events=events,
        history_count=count,
        next_after=next_after,
        task_queue=state.task_queue,
        compatibility=state.compatibility,
        lease_owner=task.owner or "",
        lease_expires_at=task.lease_expires_at,
        resume=task.context,
        budget=limits.history_budget(state, tx.rules),
    )


# -- fencing -----------------------------------------------------------------------------------------------------------


def guard(tx: Transition, command: WorkflowTaskGuard[Any]) -> WorkflowTask | Refused:
    """The leased task a call speaks for, or why it may not (worker-protocol 4.7; the order is the contract's)."""
    state = tx.state
    task = state.task
    if not ours(state, command.task_id, ids.WORKFLOW_TASK):
        return Refused("task_not_found")
    current = task is not None and task.task_id == command.task_id
    if task is None or not current or task.status != "leased":
        if not state.is_open:
            return Refused("run_closed", closed_fields(state, task if current else None))
        return Refused("task_not_leased")
    if task.lease_expires_at <= tx.now:
        detail = {"task_status": "leased", "lease_owner": task.owner, "lease_expires_at": iso(task.lease_expires_at)}
        recover(tx, task)
        return Refused("lease_expired", detail)
    if task.owner != command.lease_owner:
        return Refused("lease_owner_mismatch", {"lease_owner": task.owner})
    if task.attempt != command.attempt:
        return Refused("workflow_task_attempt_mismatch", {"current_attempt": task.attempt})
    return task


def closed_fields(state: RunState, task: WorkflowTask | None) -> dict[str, Any]:
    """What a worker learns about the run that closed under it."""
    cancelled = state.status in ("cancelled", "terminated")
    return {
        "stop_reason": f"run_{state.status}",
        "cancel_requested": cancelled,
        "can_continue": False,
        "run_status": state.status,
        "run_closed_reason": state.closed_reason,
        "run_closed_at": iso_or_none(state.closed_at),
        "task_status": "completed" if task is None else task.status,
        "lease_owner": None if task is None else task.owner,
        "lease_expires_at": None,
    }


def recover(tx: Transition, task: WorkflowTask) -> None:
    """A lease ran out: the same task is ready again, and history says so (engine-semantics 4.4)."""
    task.repairs += 1
    make_ready(tx, task)
    state = tx.state
    tx.record(
        "RepairRequested",
        {
            "workflow_instance_id": state.workflow_id,
            "workflow_run_id": state.run_id,
            "command_type": "repair",
            "outcome": "repair_dispatched",
            "liveness_state": "repair_needed",
            "wait_kind": "workflow-task",
            "task_id": task.task_id,
            "task_type": "workflow",
        },
    )


def overdue(state: RunState, now: Micros) -> bool:
    """Whether the run's or the execution's deadline has passed."""
    return (state.run_deadline_at is not None and state.run_deadline_at <= now) or (
        state.execution_deadline_at is not None and state.execution_deadline_at <= now
    )


# -- calls on a leased task --------------------------------------------------------------------------------------------


def heartbeat(tx: Transition, command: HeartbeatWorkflowTask) -> WorkflowTaskRenewed | Refused:
    """Renew the lease by a full period."""
    task = guard(tx, command)
    if isinstance(task, Refused):
        return task
    task.lease_expires_at = tx.now + tx.rules.workflow_task_lease * SECOND
    tx.changed = True
    return WorkflowTaskRenewed(task.lease_expires_at, tx.state.status)


def check(tx: Transition, command: CheckLease) -> Done | Refused:
    """Whether the caller has the lease."""
    task = guard(tx, command)
    return task if isinstance(task, Refused) else Done()


def history_page(tx: Transition, command: ReadHistoryPage) -> HistoryPage | Refused:
    """The next events of the snapshot fixed at the claim (worker-protocol 4.6)."""
    task = guard(tx, command)
    if isinstance(task, Refused):
        return task
    events, count, next_after = tx.dialect.page(
        tx.state, tx.history, task.dialect, task.snapshot, command.after, command.page_size
    )
    return HistoryPage(events, count, task.snapshot, next_after)


def fail(tx: Transition, command: FailWorkflowTask) -> WorkflowTaskFailed | Refused:
    """This attempt could not be executed: the same task again, after a backoff, without end (engine-semantics 4.5)."""
    task = guard(tx, command)
    if isinstance(task, Refused):
        return task
    task.failures += 1
    error = {"message": command.message, "type": command.exception_type, "stack_trace": command.stack_trace}
    task.last_error = {key: value for key, value in error.items() if value is not None}
    make_ready(tx, task, delay_seconds=tx.rules.task_retry(task.failures))
    return WorkflowTaskFailed(tx.state.run_id)
