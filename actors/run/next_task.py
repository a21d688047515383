"""What gives a run its next workflow task (contract engine-semantics 4.1)."""

from __future__ import annotations

from actors.run import ids
from actors.run.state import RunState, Signal
from actors.run.transition import Transition
from actors.run.values import Resume


def ours(state: RunState, any_id: str, kind: str) -> bool:
    """Whether this run handed out `any_id` as an id of `kind`: ids are minted in order, so none above the last one exists."""
    return ids.run_key_of(any_id) == state.run_key and ids.kind_of(any_id) == kind and ids.minted_at(any_id) <= state.id_clock


def wake_workflow(tx: Transition, context: Resume, step: int) -> str | None:
    """Something happened that a worker must see. Returns the id of the ready task that will show it, if there is one now."""
    state = tx.state
    task = state.open_task
    if task is None:
        return tx.open_workflow_task(context)
    if task.status == "ready" and task.update_id is None:
        return task.task_id
    # An update's task answers the update alone: whatever else happens gets a task of its own afterwards.
    if state.next_context is None and tx.dialect.shows(state, task.dialect, step):
        state.next_context = context
    return None


def next_workflow_task(tx: Transition) -> str | None:
    """After a task ended: the next one, if there is a reason for it. Returns its id."""
    state = tx.state
    if state.next_context is not None:
        return tx.open_workflow_task(state.next_context)
    if state.wait is not None:
        if state.recheck:
            # An update may have made the predicate true: looked at before the next input may make another one true.
            return tx.open_workflow_task()
        if state.signals:
            return signal_task(tx, state.signals[0])
    if state.updates and state.begun:
        return update_task(tx)
    if state.wait is None and not state.activities and not state.timers and not state.children:
        return tx.open_workflow_task()
    return None


def signal_task(tx: Transition, signal: Signal) -> str:
    """A task that applies one signal to the open wait."""
    context = Resume(
        workflow_wait_kind="signal",
        open_wait_id=f"signal-application:{signal.signal_id}",
        resume_source_kind="workflow_signal",
        resume_source_id=signal.signal_id,
        workflow_signal_id=signal.signal_id,
        signal_name=signal.name,
        signal_wait_id=signal.wait_id,
        workflow_command_id=signal.command_id,
    )
    return tx.open_workflow_task(context, signal_id=signal.signal_id)


def update_task(tx: Transition) -> str:
    """A task for the oldest accepted update, and for nothing else."""
    update_id, update = next(iter(tx.state.updates.items()))
    context = Resume(
        workflow_wait_kind="update",
        open_wait_id=f"update:{update_id}",
        resume_source_kind="workflow_update",
        resume_source_id=update_id,
        workflow_update_id=update_id,
        workflow_command_id=update.command_id,
    )
    return tx.open_workflow_task(context, update_id=update_id)
