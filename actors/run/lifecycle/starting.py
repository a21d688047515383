"""How a run begins, and what a start does that meets one already there (contract control-plane 5.1, engine-semantics 2.4)."""

from __future__ import annotations

from typing import Any

import orjson

from actors.run import ids, opaque, requests
from actors.run.commands.control import NoteDuplicateStart, StartRun
from actors.run.commands.messages import StartChildRun, StartScheduledRun
from actors.run.dialect import Dialect
from actors.run.lifecycle.continuing import record_started
from actors.run.replies import Refused, StandaloneStart, Started
from actors.run.rules import Rules
from actors.run.state import Origin, RunState, Standalone
from actors.run.times import SECOND, Micros
from actors.run.transition import PLAIN_HISTORY, Transition
from actors.run.words import StartOutcome

DEFAULT_QUEUE = "default"
MOST_NOTED_DUPLICATES = 100  # per run, so that outsiders cannot fill a history up to its limit


def create(command: StartRun, now: Micros, rules: Rules, dialect: Dialect = PLAIN_HISTORY) -> Transition:
    """A new run, not yet begun, in a transition of its own."""
    memo_bytes = len(opaque.text_of(command.memo)) if command.memo else 0
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
        memo_bytes=memo_bytes,
        search_attributes=command.search_attributes,
        execution_timeout_seconds=command.execution_timeout_seconds,
        run_timeout_seconds=command.run_timeout_seconds,
        id_clock=ids.minted_at(command.run_id),
    )
    if command.execution_timeout_seconds is not None:
        state.execution_deadline_at = now + command.execution_timeout_seconds * SECOND
    if command.run_timeout_seconds is not None:
        state.run_deadline_at = now + command.run_timeout_seconds * SECOND
    tx = Transition(state, [], now, rules, dialect, command.memo)
    if memo_bytes:
        tx.measure("memo_size", memo_bytes, rules.limits.memo_bytes)
    if command.search_attributes:
        size = len(orjson.dumps(command.search_attributes))
        tx.measure("search_attribute_size", size, rules.limits.structural.search_attribute_size_bytes)
    return tx


def begin(tx: Transition, command: StartRun) -> Started:
    """Record the start and offer the first workflow task; told again, it changes nothing."""
    state = tx.state
    if state.last_sequence:
        return started(state, "started_new")
    record_start(tx, command)
    tx.open_workflow_task()
    return started(state, "started_new")


def record_start(tx: Transition, command: StartRun) -> None:
    """The two events that a start by a caller begins a history with."""
    command_id, outcome = tx.mint(ids.COMMAND), "started_new"
    snapshot = requests.snapshot(tx, (command_id, tx.state.command_sequence), command, outcome, applied=True)
    tx.record(
        "StartAccepted",
        {**requests.command_keys(tx, command_id), **_start_keys(command), "outcome": outcome, "command": snapshot},
        command_id=command_id,
    )
    record_started(tx, command.arguments, {}, command_id)


def create_scheduled(
    command: StartScheduledRun, start: StartRun, now: Micros, rules: Rules, dialect: Dialect = PLAIN_HISTORY
) -> Transition:
    """The run of a schedule's start, not yet begun, in a transition of its own. `start`: the command's, marked with a build."""
    tx = create(start, now, rules, dialect)
    tx.state.scheduled = command.scheduled
    return tx


def begin_scheduled(tx: Transition, command: StartScheduledRun) -> Started:
    """Record what the schedule did and the start, offer the first workflow task and tell the schedule; once, like `begin`."""
    if tx.state.last_sequence:
        return started(tx.state, "started_new")
    reply = begin(tx, command.start)
    tx.record("ScheduleTriggered", command.triggered)
    tx.tell_schedule("started")
    return reply


def create_child(command: StartChildRun, now: Micros, rules: Rules, dialect: Dialect = PLAIN_HISTORY) -> Transition:
    """A child's first run, not yet begun, in a transition of its own."""
    tx = create(command.start, now, rules, dialect)
    origin, policy = command.origin, command.retry_policy
    tx.state.origin = Origin(
        workflow_id=origin.workflow_id,
        run_id=origin.run_id,
        step=origin.step,
        call_id=origin.child_call_id,
        link_id=origin.workflow_link_id,
        retry_snapshot=command.retry_snapshot,
        timeout_snapshot=command.timeout_snapshot,
    )
    if policy is not None:
        tx.state.origin.max_attempts = policy.max_attempts
        tx.state.origin.backoff_seconds = policy.backoff_seconds
        tx.state.origin.non_retryable = policy.non_retryable_error_types
    return tx


def begin_child(tx: Transition, command: StartChildRun) -> Started:
    """Record a child's start, which no command of a caller caused, and offer the first workflow task; once, like `begin`."""
    if tx.state.last_sequence:
        return started(tx.state, "started_new")
    tx.state.command_sequence = 0
    record_started(tx, command.start.arguments, {})
    tx.open_workflow_task(task_id=ids.first_task_of(command.start.run_id))
    return started(tx.state, "started_new")


def duplicate(tx: Transition, command: NoteDuplicateStart) -> Started | Refused:
    """Answer a start whose workflow id this run, the current one, already has.

    The attempt is part of an open run's history: the first of them, the others are only counted.
    """
    state = tx.state
    start = command.start
    if state.namespace != start.namespace:
        return Refused("workflow_id_reserved_in_namespace")
    if state.workflow_type != start.workflow_type:
        return Refused("workflow_type_mismatch", {"workflow_type": state.workflow_type})
    if state.superseded:
        return Refused("run_continued")  # not the current run any more: the one that goes on answers
    existing = start.duplicate_policy == "use-existing" and state.is_open
    outcome: StartOutcome = "returned_existing_active" if existing else "rejected_duplicate"
    if state.is_open:
        state.duplicate_starts += 1
        tx.changed = True
        if state.duplicate_starts <= MOST_NOTED_DUPLICATES:
            _note_duplicate(tx, start, outcome)
    return started(state, outcome)


def _note_duplicate(tx: Transition, start: StartRun, outcome: StartOutcome) -> None:
    numbered = requests.number(tx)
    command_id = numbered[0]
    keys = {**requests.command_keys(tx, command_id), **_start_keys(start), "outcome": outcome}
    if outcome == "returned_existing_active":
        snapshot = requests.snapshot(tx, numbered, start, outcome, applied=True)
        tx.record("StartAccepted", {**keys, "command": snapshot}, command_id=command_id)
    else:
        rejection = "instance_already_started"
        snapshot = requests.snapshot(tx, numbered, start, outcome, rejection=rejection)
        tx.record("StartRejected", {**keys, "rejection_reason": rejection, "command": snapshot}, command_id=command_id)


def started(state: RunState, outcome: StartOutcome) -> Started:
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
        activity=None if state.standalone is None else _standalone(state, state.standalone),
    )


def _standalone(state: RunState, host: Standalone) -> StandaloneStart:
    activity = next(iter(state.activities.values()), host)
    return StandaloneStart(
        execution_id=host.execution_id,
        activity_type=host.activity_type,
        activity_class=host.activity_class,
        task_queue=state.task_queue,
        started_at=state.started_at,
        schedule_to_start_at=activity.schedule_to_start_at,
        schedule_to_close_at=activity.schedule_to_close_at,
    )


def _start_keys(command: StartRun) -> dict[str, Any]:
    return {
        "workflow_class": command.workflow_type,
        "workflow_type": command.workflow_type,
        "business_key": command.business_key,
        "memo": command.memo,
        "search_attributes": command.search_attributes,
    }
