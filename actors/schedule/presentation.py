"""A schedule as clients see it (contract operations 1.10, control-plane 11): JSON values, `bytes` in them being JSON text."""

from __future__ import annotations

from typing import Any

from actors.schedule.forms import occurrence_or_none, seconds_or_none
from actors.schedule.state import PAUSED, Buffered, Recent, ScheduleState


def list_item(state: ScheduleState) -> dict[str, Any]:
    """One of the schedules of a list."""
    definition = state.definition
    return {
        **_both(state),
        "workflow_type": definition.action.get("workflow_type"),
        "next_fire": seconds_or_none(state.next_fire_at),
        "last_fire": seconds_or_none(state.last_fired_at),
        "jitter_seconds": definition.jitter_seconds,
        "max_runs": definition.max_runs,
        "remaining_actions": state.remaining_actions,
    }


def detail(state: ScheduleState) -> dict[str, Any]:
    """A schedule whole."""
    definition, latest = state.definition, state.latest
    shown = {
        **_both(state),
        "state": {"status": state.status, "paused": state.status == PAUSED, "note": state.note},
        "info": {
            "next_fire": seconds_or_none(state.next_fire_at),
            "last_fire": seconds_or_none(state.last_fired_at),
            "fires_count": state.fires_count,
            "failures_count": state.failures_count,
            "recent_actions": [_recent(each) for each in state.recent],
            "buffered_actions": [_buffered(each) for each in state.buffer],
            "skipped_trigger_count": state.skipped_trigger_count,
            "last_skip_reason": state.last_skip_reason,
            "last_skipped_at": seconds_or_none(state.last_skipped_at),
        },
        "memo": definition.memo or {},
        "search_attributes": definition.search_attributes or {},
        "created_at": seconds_or_none(state.created_at),
        "updated_at": seconds_or_none(state.updated_at),
        "jitter_seconds": definition.jitter_seconds,
        "max_runs": definition.max_runs,
        "remaining_actions": state.remaining_actions,
        "latest_workflow_instance_id": None if latest is None else latest.workflow_id,
    }
    if definition.catchup_window_seconds:
        shown["catchup_window_seconds"] = definition.catchup_window_seconds
    return shown


def _both(state: ScheduleState) -> dict[str, Any]:
    """What a list and a detail have in common, flat fields for the SDK included."""
    return {
        "schedule_id": state.schedule_id,
        "namespace": state.namespace,
        "spec": state.definition.spec,
        "action": state.definition.action,
        "overlap_policy": state.definition.overlap_policy,
        "status": state.status,
        "paused": state.status == PAUSED,
        "note": state.note,
        "fires_count": state.fires_count,
        "failures_count": state.failures_count,
        "next_fire_at": seconds_or_none(state.next_fire_at),
        "last_fired_at": seconds_or_none(state.last_fired_at),
        "paused_at": seconds_or_none(state.paused_at),
    }


def _recent(recent: Recent) -> dict[str, Any]:
    if recent.workflow_id is None:
        return {"outcome": recent.outcome, "reason": recent.reason, "fired_at": seconds_or_none(recent.fired_at)}
    shown: dict[str, Any] = {
        "workflow_id": recent.workflow_id,
        "run_id": recent.run_id,
        "outcome": recent.outcome,
        "fired_at": seconds_or_none(recent.fired_at),
    }
    if recent.occurrence is not None:
        shown["occurrence_time"] = occurrence_or_none(recent.occurrence)
        shown["fire_lag_ms"] = (recent.fired_at - recent.occurrence) // 1000
    return shown


def _buffered(buffered: Buffered) -> dict[str, Any]:
    shown = {"buffered_at": seconds_or_none(buffered.buffered_at)}
    if buffered.occurrence is not None:
        shown["occurrence_time"] = occurrence_or_none(buffered.occurrence)
    return shown
