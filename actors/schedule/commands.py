"""What a schedule can be told: by clients, by the clock, and by the runs it started (contract operations 1.4 to 1.9).

Fields are checked by whoever took the request (control-plane 11); a spec once more here, by `spec.problems`. `attribution`: the
`command_context` of the audit events the command causes, as JSON text (operations 1.11), None for nobody's.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from actors.schedule.state import Definition


class Command(Struct, tag_field="do", frozen=True):
    """Base of everything a schedule can be told."""


class CreateSchedule(Command, frozen=True, tag="create_schedule"):
    """Create the schedule. `record_id`: a new id of kind `SCHEDULE` in the schedule's shard, which makes a repetition of the
    same command harmless. `pause_attribution`: of the second event, when it is created paused.
    """

    record_id: str
    definition: Definition
    paused: bool = False
    note: str | None = None
    attribution: bytes | None = None
    pause_attribution: bytes | None = None


class UpdateSchedule(Command, frozen=True, tag="update_schedule"):
    """Change what is set (operations 1.8). `action` is merged key by key, an empty memo or attributes clear theirs."""

    spec: dict[str, Any] | None = None
    action: dict[str, Any] | None = None
    overlap_policy: str | None = None
    jitter_seconds: int | None = None
    max_runs: int | None = None
    memo: dict[str, Any] | bytes | UnsetType = UNSET
    search_attributes: dict[str, Any] | bytes | UnsetType = UNSET
    note: str | None = None
    catchup_window_seconds: int | None = None
    attribution: bytes | None = None


class PauseSchedule(Command, frozen=True, tag="pause_schedule"):
    note: str | None = None
    attribution: bytes | None = None


class ResumeSchedule(Command, frozen=True, tag="resume_schedule"):
    note: str | None = None
    attribution: bytes | None = None


class DeleteSchedule(Command, frozen=True, tag="delete_schedule"):
    attribution: bytes | None = None


class TriggerSchedule(Command, frozen=True, tag="trigger_schedule"):
    """Fire once, now. `overlap_policy`: in place of the stored one, for this fire."""

    overlap_policy: str | None = None
    attribution: bytes | None = None


class BackfillSchedule(Command, frozen=True, tag="backfill_schedule"):
    """Fire for every occurrence from `start` to before `end` (operations 1.7).

    `at_most`: how many in this transition; the reply says where to go on, so that starts with large inputs need not be one
    commit. `first`: False for such a continuation, whose range was checked before.
    """

    start: int
    end: int
    overlap_policy: str | None = None
    attribution: bytes | None = None
    at_most: int = 1000
    first: bool = True


class WakeUp(Command, frozen=True, tag="wake_up"):
    """Do what is due."""


class StartConfirmed(Command, frozen=True, tag="start_confirmed"):
    """From a run: the start with this number was applied, now or before. `record_id`: of the record that sent it."""

    record_id: str
    number: int


class StartRefused(Command, frozen=True, tag="start_refused"):
    """From where the run was to be: the start was not applied and never will be. `reason` is for clients."""

    record_id: str
    number: int
    reason: str


class RunClosed(Command, frozen=True, tag="run_closed"):
    """From the last run of the chain that a start began: it is closed. A run that continued as new tells nothing, the one that
    goes on in its place has the origin instead.
    """

    record_id: str
    number: int


ClientCommand = (
    CreateSchedule | UpdateSchedule | PauseSchedule | ResumeSchedule | DeleteSchedule | TriggerSchedule | BackfillSchedule
)
ScheduleCommand = ClientCommand | WakeUp | StartConfirmed | StartRefused | RunClosed
