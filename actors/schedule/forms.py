"""How times and snapshots of a schedule are written in its events and messages (contract operations 0 and 1.11)."""

from __future__ import annotations

from typing import Any

from actors.run.times import iso, iso_seconds
from actors.schedule.state import ScheduleState


def seconds_or_none(at: int | None) -> str | None:
    """`2026-05-01T09:30:00+00:00`, timestamp form B."""
    return None if at is None else iso_seconds(at)


def occurrence_or_none(at: int | None) -> str | None:
    """`2026-05-01T09:30:00.000000+00:00`, timestamp form C."""
    return None if at is None else f"{iso(at)[:-1]}+00:00"


def snapshot(state: ScheduleState) -> dict[str, Any]:
    """The `schedule` object of audit events, without what is null."""
    keys = {
        "id": state.record_id,
        "schedule_id": state.schedule_id,
        "namespace": state.namespace,
        "status": state.status,
        "overlap_policy": state.definition.overlap_policy,
        "next_fire_at": seconds_or_none(state.next_fire_at),
        "last_fired_at": seconds_or_none(state.last_fired_at),
        "paused_at": seconds_or_none(state.paused_at),
        "deleted_at": seconds_or_none(state.deleted_at),
        "last_skip_reason": state.last_skip_reason,
        "last_skipped_at": seconds_or_none(state.last_skipped_at),
        "fires_count": state.fires_count,
        "skipped_trigger_count": state.skipped_trigger_count,
        "latest_workflow_instance_id": None if state.latest is None else state.latest.workflow_id,
        "note": state.note,
    }
    return {name: value for name, value in keys.items() if value is not None}


def started_by(state: ScheduleState, policy: str, trigger_number: int, occurrence: int | None) -> dict[str, Any]:
    """The payload of the started run's own `ScheduleTriggered` event; what is None may be left out."""
    crons = state.definition.spec.get("cron_expressions") or [None]
    keys = {
        "schedule_id": state.schedule_id,
        "schedule_ulid": state.record_id,
        "cron_expression": crons[0],
        "timezone": state.definition.spec.get("timezone") or "UTC",
        "overlap_policy": policy,
        "trigger_number": trigger_number,
    }
    return keys if occurrence is None else {**keys, "occurrence_time": occurrence_or_none(occurrence)}
