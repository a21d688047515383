"""Structural limits and history budget of a run (contract engine-semantics 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from actors.run.commands import (
    TERMINAL_STEPS,
    CompleteUpdate,
    CompleteWorkflow,
    ContinueAsNew,
    OpenConditionWait,
    Payload,
    RecordSideEffect,
    ScheduleActivity,
    StartChild,
    StartTimer,
    Steps,
    UpsertSearchAttributes,
)
from actors.run.markers import merge
from actors.run.rules import Rules
from actors.run.state import RunState


def exceeded(state: RunState, steps: Sequence[Steps], rules: Rules) -> dict[str, Any] | None:
    """The fields of a structural refusal if this batch passes a limit, None if it may be applied."""
    size = len(steps)
    if rules.max_batch_commands and size > rules.max_batch_commands:
        return _limit("command_batch_size", size, rules.max_batch_commands)
    activities, timers, children = len(state.activities), _pending_timers(state), len(state.children)
    attributes: dict[str, Any] = state.search_attributes
    for step in steps:
        if isinstance(step, ScheduleActivity):
            if rules.max_pending_activities and activities >= rules.max_pending_activities:
                return _limit("pending_activity_count", activities, rules.max_pending_activities)
            activities += 1
            bytes_ = size_of(step.arguments)
        elif isinstance(step, StartTimer):
            if rules.max_pending_timers and timers >= rules.max_pending_timers:
                return _limit("pending_timer_count", timers, rules.max_pending_timers)
            timers += 1
            bytes_ = 0
        elif isinstance(step, OpenConditionWait):
            if step.timeout_seconds:
                if rules.max_pending_timers and timers >= rules.max_pending_timers:
                    return _limit("pending_timer_count", timers, rules.max_pending_timers)
                timers += 1
            bytes_ = 0
        elif isinstance(step, StartChild):
            if rules.max_pending_children and children >= rules.max_pending_children:
                return _limit("pending_child_count", children, rules.max_pending_children)
            children += 1
            bytes_ = size_of(step.arguments)
        elif isinstance(step, UpsertSearchAttributes):
            attributes = merge(attributes, step)
            most = rules.max_search_attribute_bytes
            if most and (size_ := len(orjson.dumps(attributes))) > most:
                return _limit("search_attribute_size", size_, most)
            bytes_ = 0
        elif isinstance(step, CompleteWorkflow | CompleteUpdate | RecordSideEffect):
            bytes_ = size_of(step.result)
        elif isinstance(step, ContinueAsNew):
            bytes_ = size_of(step.arguments)
        else:
            bytes_ = 0
        if rules.max_payload_bytes and bytes_ > rules.max_payload_bytes:
            return _limit("payload_size", bytes_, rules.max_payload_bytes)
    if rules.max_transaction_events and size > rules.max_transaction_events:
        return _limit("history_transaction_size", size, rules.max_transaction_events)
    ends = any(isinstance(step, TERMINAL_STEPS) for step in steps)
    if rules.max_history_events and not ends and state.last_sequence + size > rules.max_history_events:
        return _limit("history_event_count", state.last_sequence + size, rules.max_history_events)
    return None


def _pending_timers(state: RunState) -> int:
    return len(state.timers) + (state.wait is not None and state.wait.timer_id is not None)


def size_of(payload: Payload | None) -> int:
    """The size of a stored blob, in bytes."""
    blob = None if payload is None else payload.blob
    if blob is None:
        return 0
    return len(blob) if blob.isascii() else len(blob.encode())


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
