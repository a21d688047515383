"""How a run begins, and what a start does that meets one already there (contract control-plane 5.1, engine-semantics 2.4)."""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.commands import NoteDuplicateStart, StartRun
from actors.run.presentation import Chronological
from actors.run.replies import Refused, RunReply, Started
from actors.run.rules import DEFAULT_RULES, Rules
from actors.run.state import RunState
from actors.run.times import SECOND, iso, iso_seconds
from actors.run.transition import PLAIN, Transition

DEFAULT_QUEUE = "default"


def create(command: StartRun, now: int, rules: Rules = DEFAULT_RULES, shown: Chronological = PLAIN) -> Transition:
    """A new run, not yet begun, in a transition of its own."""
    state = RunState(
        namespace=command.namespace,
        workflow_id=command.workflow_id,
        run_id=command.run_id,
        workflow_type=command.workflow_type,
        task_queue=command.task_queue or DEFAULT_QUEUE,
        started_at=now,
        last_progress_at=now,
        payload_codec=command.payload_codec,
        business_key=command.business_key,
        compatibility=command.compatibility,
        priority=command.priority,
        fairness_key=command.fairness_key,
        fairness_weight=command.fairness_weight,
        memo=command.memo,
        search_attributes=command.search_attributes,
        execution_timeout_seconds=command.execution_timeout_seconds,
        run_timeout_seconds=command.run_timeout_seconds,
        id_clock=ids.minted_at(command.run_id),
    )
    if command.execution_timeout_seconds is not None:
        state.execution_deadline_at = now + command.execution_timeout_seconds * SECOND
    if command.run_timeout_seconds is not None:
        state.run_deadline_at = now + command.run_timeout_seconds * SECOND
    return Transition(state, [], now, rules, shown)


def begin(tx: Transition, command: StartRun) -> RunReply:
    """Record the start and offer the first workflow task."""
    state = tx.state
    command_id = tx.mint(ids.COMMAND)
    tx.record(
        "StartAccepted",
        {**_command_keys(state, command_id), **_start_keys(command), "outcome": "started_new"},
        command_id=command_id,
    )
    state.input_event = tx.record(
        "WorkflowStarted",
        {
            **_command_keys(state, command_id),
            **_start_keys(command),
            "workflow_id": state.workflow_id,
            "timestamp": iso(tx.now),
            "payload_codec": command.arguments.codec,
            "arguments": command.arguments.envelope(),
            "task_queue": state.task_queue,
            "execution_timeout_seconds": state.execution_timeout_seconds,
            "run_timeout_seconds": state.run_timeout_seconds,
            "execution_deadline_at": _seconds(state.execution_deadline_at),
            "run_deadline_at": _seconds(state.run_deadline_at),
        },
        command_id=command_id,
    )
    tx.open_workflow_task({})
    return started(state, "started_new")


def duplicate(tx: Transition, command: NoteDuplicateStart) -> RunReply:
    """Answer a start whose workflow id this run, the current one, already has; the attempt is part of history."""
    state = tx.state
    start = command.start
    if state.namespace != start.namespace:
        return Refused("workflow_id_reserved_in_namespace")
    if state.workflow_type != start.workflow_type:
        return Refused("workflow_type_mismatch", {"workflow_type": state.workflow_type})
    state.command_sequence += 1
    command_id = tx.mint(ids.COMMAND)
    keys = {**_command_keys(state, command_id), **_start_keys(start)}
    if start.duplicate_policy == "use-existing" and state.is_open:
        outcome = "returned_existing_active"
        tx.record("StartAccepted", {**keys, "outcome": outcome}, command_id=command_id)
    else:
        outcome = "rejected_duplicate"
        rejected = {**keys, "outcome": outcome, "rejection_reason": "instance_already_started"}
        tx.record("StartRejected", rejected, command_id=command_id)
    return started(state, outcome)


def started(state: RunState, outcome: str) -> Started:
    """The answer to a start."""
    return Started(
        workflow_id=state.workflow_id,
        run_id=state.run_id,
        workflow_type=state.workflow_type,
        namespace=state.namespace,
        status=state.status,
        business_key=state.business_key,
        payload_codec=state.payload_codec,
        outcome=outcome,
    )


def _command_keys(state: RunState, command_id: str) -> dict[str, Any]:
    return {
        "workflow_command_id": command_id,
        "workflow_instance_id": state.workflow_id,
        "workflow_run_id": state.run_id,
    }


def _start_keys(command: StartRun) -> dict[str, Any]:
    return {
        "workflow_class": command.workflow_type,
        "workflow_type": command.workflow_type,
        "business_key": command.business_key,
        "memo": command.memo,
        "search_attributes": command.search_attributes,
    }


def _seconds(micros: int | None) -> str | None:
    return None if micros is None else iso_seconds(micros)
