"""What gives a run its next workflow task (contract engine-semantics 4.1)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.state import RunState
from actors.run.transition import Transition


def ours(state: RunState, any_id: str, kind: str) -> bool:
    """Whether this run handed out `any_id` as an id of `kind`: ids are minted in order, so none above the last one exists."""
    return ids.run_key_of(any_id) == state.run_key and ids.kind_of(any_id) == kind and ids.minted_at(any_id) <= state.id_clock


def cause(tx: Transition, context: dict[str, Any], step: int) -> str | None:
    """Something happened that a worker must see. Returns the id of the ready task that will show it, if there is one now."""
    state = tx.state
    task = state.open_task
    if task is None:
        return tx.open_workflow_task(context)
    if task.status == "ready":
        return task.task_id
    if state.next_context is None and tx.shown.shows(state, task.dialect, step):
        state.next_context = context
    return None


def follow_up(tx: Transition) -> str | None:
    """After a task ended: the next one, if there is a reason for it (engine-semantics 4.1). Returns its id."""
    state = tx.state
    if state.next_context is not None:
        return tx.open_workflow_task(state.next_context)
    if not state.activities and not state.timers:
        return tx.open_workflow_task({})
    return None
