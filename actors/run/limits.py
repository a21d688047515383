"""Structural limits and history budget of a run (contract engine-semantics 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from actors.run.commands.steps import (
    TERMINAL_STEPS,
    CompleteUpdate,
    OpenConditionWait,
    ScheduleActivity,
    StartChild,
    StartTimer,
    UpsertSearchAttributes,
    WorkflowCommand,
)
from actors.run.payloads import payload_of, size_of
from actors.run.rules import Rules
from actors.run.state import RunState
from actors.run.steps.markers import merge
from actors.run.transition import Transition


def exceeded(tx: Transition, steps: Sequence[WorkflowCommand]) -> dict[str, Any] | None:
    """The fields of a structural refusal if this batch passes a limit, None if it may be applied."""
    noted = len(tx.near)
    refused = _exceeded(tx, steps)
    if refused is not None:
        del tx.near[noted:]  # the batch comes to nothing
    return refused


def _exceeded(tx: Transition, steps: Sequence[WorkflowCommand]) -> dict[str, Any] | None:
    state, limits = tx.state, tx.rules.limits
    structural = limits.structural
    if refused := _oversize(tx, "command_batch_size", len(steps), structural.command_batch_size):
        return refused
    counts = {
        "pending_activity_count": (len(state.activities), limits.pending_activities),
        "pending_timer_count": (len(state.timers) + _timeouts_left(state), structural.pending_timer_count),
        "pending_child_count": (len(state.children), limits.pending_children),
    }
    attributes: dict[str, Any] = state.search_attributes
    for step in steps:
        kind = _counted(step)
        if kind is not None:
            count, most = counts[kind]
            if most and count >= most:
                return _limit(kind, count, most)
            tx.measure(kind, count + 1, most, count)
            counts[kind] = count + 1, most
        if isinstance(step, UpsertSearchAttributes):
            before, attributes = len(attributes), merge(attributes, step)
            # What was inherited or is left of a higher limit may stay, and shrink.
            if len(attributes) > before and (
                refused := _oversize(tx, "search_attribute_count", len(attributes), limits.request.max_search_attributes)
            ):
                return refused
            bytes_ = len(orjson.dumps(attributes))
            if refused := _oversize(tx, "search_attribute_size", bytes_, structural.search_attribute_size_bytes):
                return refused
        if refused := _oversize(tx, "payload_size", size_of(payload_of(step)), structural.payload_size_bytes):
            return refused
    events = sum(map(_events, steps))
    if refused := _oversize(tx, "history_transaction_size", events, structural.history_transaction_size):
        return refused
    tx.measure("history_event_count", state.last_sequence + events, limits.history_events, state.last_sequence)
    ends = any(isinstance(step, TERMINAL_STEPS) for step in steps)
    if limits.history_events and not ends and state.last_sequence + events > limits.history_events:
        return _limit("history_event_count", state.last_sequence + events, limits.history_events)
    return None


def _events(step: WorkflowCommand) -> int:
    """How many events a step itself writes."""
    two = isinstance(step, StartChild | CompleteUpdate) or (isinstance(step, OpenConditionWait) and bool(step.timeout_seconds))
    return 2 if two else 1


def _counted(step: WorkflowCommand) -> str | None:
    """The count a step adds to."""
    if isinstance(step, ScheduleActivity):
        return "pending_activity_count"
    if isinstance(step, StartChild):
        return "pending_child_count"
    if isinstance(step, StartTimer) or (isinstance(step, OpenConditionWait) and step.timeout_seconds):
        return "pending_timer_count"
    return None


def _timeouts_left(state: RunState) -> int:
    """How many timeouts of waits the batch leaves pending.

    Only an update's task does not end the open wait (engine-semantics 6.2).
    """
    wait, task = state.wait, state.open_task
    return int(wait is not None and wait.timer_id is not None and task is not None and task.update_id is not None)


def _oversize(tx: Transition, kind: str, value: int, most: int) -> dict[str, Any] | None:
    """The refusal of a size over its limit; one that is near it is noted."""
    if 0 < most < value:
        return _limit(kind, value, most)
    tx.measure(kind, value, most)
    return None


def _limit(kind: str, value: int, configured: int) -> dict[str, Any]:
    return {"limit_kind": kind, "current_value": value, "configured_limit": configured}


def history_budget(state: RunState, rules: Rules) -> dict[str, Any]:
    """Hints towards continue-as-new, on polled tasks and in describe (engine-semantics 11.2)."""
    reached: list[str] = []
    near: list[str] = []
    for name, value, threshold in (
        ("events", state.last_sequence, rules.budget_events),
        ("bytes", state.history_bytes, rules.budget_bytes),
        ("fan_out", state.fan_out, rules.budget_fan_out),
    ):
        if threshold <= 0:
            continue
        if value >= threshold:
            reached.append(name)
        elif value * 5 >= threshold * 4:
            near.append(name)
    pressure = "continue_as_new_recommended" if reached else "approaching" if near else "ok"
    return {
        "history_size_bytes": state.history_bytes,
        "history_fan_out": state.fan_out,
        "continue_as_new_recommended": bool(reached),
        "history_budget_pressure": pressure,
        "history_budget_pressure_dimensions": reached or near,
    }
