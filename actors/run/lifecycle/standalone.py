"""Host runs: each is there for one standalone activity, and never has a workflow task (operations 10.2, control-plane 10).

It begins with its activity scheduled, closes with the activity's outcome, and leaves its id free for another one after that.
"""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.activity import scheduling
from actors.run.commands.control import NoteDuplicateStart, StartStandalone
from actors.run.commands.steps import CompleteWorkflow
from actors.run.lifecycle import closing, starting
from actors.run.replies import Refused, Started
from actors.run.state import Standalone, WorkflowTask
from actors.run.transition import Transition

_FAILURE_KEYS = ("failure_category", "non_retryable", "exception_type", "exception_class", "message", "exception")


def begin(tx: Transition, command: StartStandalone) -> Started:
    """Record the start and offer the activity's task; told again, it changes nothing."""
    state = tx.state
    if state.last_sequence:
        return starting.started(state, "started_new")
    state.status = "running"
    state.task = WorkflowTask(task_id="", status="never")
    host = state.standalone = Standalone(command.activity.activity_type, command.activity_class)
    starting.record_start(tx, command)
    task_id = scheduling.schedule(tx, command.activity, tx.next_step())
    host.execution_id = state.activities[task_id].execution_id
    return starting.started(state, "started_new")


def duplicate(tx: Transition, command: NoteDuplicateStart) -> Started | Refused:
    """Answer a start whose id this run, the current one, already has; a closed host run makes way for a new one."""
    state, start = tx.state, command.start
    free = state.standalone is not None and not state.is_open and not state.superseded
    if not free or not isinstance(start, StartStandalone) or start.namespace != state.namespace:
        return starting.duplicate(tx, command)
    new = starting.create(start, tx.now, tx.rules, tx.dialect)
    new.state.run_number = state.run_number + 1
    reply = begin(new, start)
    state.superseded = True
    tx.successor = new
    tx.changed = True
    return reply


def settle(tx: Transition) -> None:
    """The activity of a host run has its outcome, just recorded: the run closes with it."""
    outcome = tx.outcome
    assert outcome is not None
    tx.outcome = None
    if outcome.event_type == "ActivityCompleted":
        closing.complete(tx, CompleteWorkflow(outcome.result))
        return
    host = tx.state.standalone
    assert host is not None
    failure: dict[str, Any] = {"failure_id": tx.mint(ids.FAILURE)}
    failure |= {key: outcome.keys[key] for key in _FAILURE_KEYS if key in outcome.keys}
    tx.record("WorkflowFailed", {**failure, "source_kind": "activity_execution", "source_id": host.execution_id})
    if outcome.event_type == "ActivityFailed":
        closing.close(tx, "failed", "failed", failure=failure)
        return
    told = ("failure_id", "failure_category", "message", "exception_class")
    tx.record(
        "WorkflowTimedOut",
        {**{key: failure[key] for key in told}, "timeout_kind": outcome.keys["timeout_kind"]},
    )
    closing.close(tx, "failed", "timed_out", failure=failure)
