"""What clients may do with a schedule, a fire by hand excepted (contract operations 1.1, 1.8, 1.9)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from actors.run.times import SECOND
from actors.schedule import firing, forms, spec
from actors.schedule.commands import CreateSchedule, DeleteSchedule, PauseSchedule, ResumeSchedule, UpdateSchedule
from actors.schedule.replies import ALREADY_EXISTS, INVALID, Acted, Refused, ScheduleReply
from actors.schedule.state import ACTIVE, DELETED, PAUSED, Definition, ScheduleState
from actors.schedule.transition import Transition

# The action's older names (operations 1.1).
ALIASES = {
    "workflow_execution_timeout": "execution_timeout_seconds",
    "workflow_run_timeout": "run_timeout_seconds",
}

# Fires of a clock that was ahead by more than a day are forgotten by an update and a resume; nearer ones never fire again.
_SETBACK = 24 * 3600 * SECOND


def create(tx: Transition, command: CreateSchedule) -> ScheduleReply:
    """Begin, or begin anew after a deletion; the audit history of the id goes on."""
    before = tx.state
    if before.exists:
        if before.record_id == command.record_id:
            return Acted("created")
        return Refused(ALREADY_EXISTS, {"schedule_id": before.schedule_id})
    definition = command.definition
    wrong = spec.problems(definition.spec)
    if wrong:
        return Refused(INVALID, {"errors": wrong})
    tx.state = state = ScheduleState(
        namespace=before.namespace,
        schedule_id=before.schedule_id,
        record_id=command.record_id,
        status=ACTIVE,
        definition=msgspec.structs.replace(
            definition,
            action=canonical(definition.action),
            memo=_filled(definition.memo),
            search_attributes=_filled(definition.search_attributes),
        ),
        note=command.note,
        created_at=tx.stamp,
        remaining_actions=definition.max_runs,
        last_sequence=before.last_sequence,
        recorded_at=before.recorded_at,
        id_clock=before.id_clock,
    )
    tx.definition_changed = True
    tx.plan()
    tx.record("ScheduleCreated", _what_and_when(state), command.attribution)
    if command.paused:
        _pause(tx, None, command.pause_attribution)
    return Acted("created")


def update(tx: Transition, command: UpdateSchedule) -> ScheduleReply:
    """Change what is set; what is due fires before, by what was set until now."""
    if command.spec is not None:
        wrong = spec.problems(command.spec)
        if wrong:
            return Refused(INVALID, {"errors": wrong})
    firing.catch_up(tx)
    state = tx.state
    changes: dict[str, Any] = {
        name: getattr(command, name)
        for name in ("spec", "overlap_policy", "jitter_seconds", "max_runs", "catchup_window_seconds")
        if getattr(command, name) is not None
    }
    if command.action is not None:
        changes["action"] = {**state.definition.action, **canonical(command.action)}
    if command.memo is not UNSET:
        changes["memo"] = _filled(command.memo)
    if command.search_attributes is not UNSET:
        changes["search_attributes"] = _filled(command.search_attributes)
    changed: list[str] = [name for name in ("overlap_policy", "jitter_seconds") if name in changes]
    changed += ["note"] if command.note is not None else []
    changed += [name for name in ("memo", "search_attributes", "max_runs") if name in changes]
    state.note = state.note if command.note is None else command.note
    most = command.max_runs
    if most is not None and (state.remaining_actions is None or most > state.fires_count):
        state.remaining_actions = max(most - state.fires_count, 0)
        changed.append("remaining_actions")
    changed += [name for name in ("catchup_window_seconds",) if name in changes]
    state.definition = msgspec.structs.replace(state.definition, **changes)
    tx.definition_changed = True
    _plan_anew(tx)
    tx.record("ScheduleUpdated", {"changed_fields": ["spec", "action", *changed], **_what_and_when(state)}, command.attribution)
    firing.drain(tx)
    return Acted("updated")


def pause(tx: Transition, command: PauseSchedule) -> ScheduleReply:
    """Stop firing, also what is due at this moment; pausing again is recorded again."""
    _pause(tx, command.note, command.attribution)
    return Acted("paused")


def resume(tx: Transition, command: ResumeSchedule) -> ScheduleReply:
    """Fire again from now on; an active schedule stays as it is."""
    state = tx.state
    if state.status == ACTIVE:
        return Acted("resumed")
    state.status = ACTIVE
    state.paused_at = None
    state.note = state.note if command.note is None else command.note
    _plan_anew(tx)
    tx.record("ScheduleResumed", {"next_fire_at": forms.seconds_or_none(state.next_fire_at)}, command.attribution)
    firing.drain(tx)
    return Acted("resumed")


def delete(tx: Transition, command: DeleteSchedule) -> ScheduleReply:
    """Delete softly; runs that are under way go on."""
    end(tx, "deleted", command.attribution)
    return Acted("deleted")


def end(tx: Transition, reason: str, attribution: bytes | None = None) -> None:
    """The schedule is deleted for this reason."""
    state = tx.state
    state.status = DELETED
    state.deleted_at = tx.stamp
    state.buffer = []
    state.drain_after = 0
    tx.plan_at(None)
    tx.record("ScheduleDeleted", {"reason": reason, "deleted_at": forms.seconds_or_none(tx.stamp)}, attribution)


def canonical(action: dict[str, Any]) -> dict[str, Any]:
    """An action with older names rewritten; a value under the canonical name wins."""
    renamed = {name: value for name, value in action.items() if name not in ALIASES}
    for old, new in ALIASES.items():
        if old in action:
            renamed.setdefault(new, action[old])
    return renamed


def _filled(value: Any) -> Any:
    """None for an empty object."""
    return None if value in ({}, b"{}") else value


def _pause(tx: Transition, note: str | None, attribution: bytes | None) -> None:
    state = tx.state
    state.status = PAUSED
    state.paused_at = tx.stamp
    state.note = state.note if note is None else note
    tx.record("SchedulePaused", {"reason": note, "paused_at": forms.seconds_or_none(tx.stamp)}, attribution)


def _plan_anew(tx: Transition) -> None:
    """Plan from now on, also after a clock that had been far ahead."""
    if tx.state.consumed is not None and tx.state.consumed > tx.now + _SETBACK:
        tx.state.consumed = None
    tx.plan()


def _what_and_when(state: ScheduleState) -> dict[str, Any]:
    definition: Definition = state.definition
    return {
        "spec": definition.spec,
        "action": definition.action,
        "overlap_policy": definition.overlap_policy,
        "next_fire_at": forms.seconds_or_none(state.next_fire_at),
    }
