"""What runs tell each other (engine-semantics 8)."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from actors.run.commands.base import Command
from actors.run.commands.control import StartRun
from actors.run.ids import RunId
from actors.run.replies import Done, Started
from actors.run.state import ScheduledBy
from actors.run.values import Payload, RetryPolicy
from actors.run.words import ClosedReason, RunStatus


class ChildOrigin(Struct, frozen=True):
    """Where a child came from and what its parent wants to know (engine-semantics 8.1)."""

    workflow_id: str
    run_id: RunId
    step: int
    child_call_id: str
    workflow_link_id: str


class StartChildRun(Command[Started], frozen=True, tag="start_child"):
    """Parent to child: begin. `start.run_id` was chosen by the parent."""

    start: StartRun
    origin: ChildOrigin
    retry_policy: RetryPolicy | None = None
    retry_snapshot: dict[str, Any] | None = None
    timeout_snapshot: dict[str, Any] | None = None


class ChildRestarted(Command[Done], frozen=True, tag="child_restarted"):
    """Child to parent: another run of the same call began (continued as new, or retried after a failure)."""

    child_call_id: str
    run_id: RunId
    run_number: int
    workflow_type: str
    workflow_link_id: str
    execution_deadline_at: int | None
    run_deadline_at: int | None
    retry_attempt: int | None = None
    retry_of_run_id: str | None = None
    retry_backoff_seconds: int | None = None
    retry_policy: dict[str, Any] | None = None
    timeout_policy: dict[str, Any] | None = None
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None


class ChildClosed(Command[Done], frozen=True, tag="child_closed"):
    """Child to parent: the last run of the call is closed. `failure` holds the exception keys of its ending."""

    child_call_id: str
    run_id: RunId
    run_number: int
    workflow_type: str
    status: RunStatus
    closed_reason: ClosedReason
    closed_at: int
    result: Payload | None = None
    payload_codec: str = "avro"
    failure: dict[str, Any] = {}


class ParentClosed(Command[Done], frozen=True, tag="parent_closed"):
    """Parent to child: its close policy applies. `policy` is `terminate` or `request_cancel`."""

    policy: str
    reason: str


class StartScheduledRun(Command[Started], frozen=True, tag="start_scheduled"):
    """From a schedule: begin (operations 1.6). `triggered`: payload of the run's own ScheduleTriggered event."""

    start: StartRun
    scheduled: ScheduledBy
    triggered: dict[str, Any]


class ScheduleNews(Command[Done], frozen=True, tag="schedule_news"):
    """To the schedule that a run goes back to: the run is there, or its chain is closed (operations 1.5, 1.6)."""

    record_id: str
    number: int
    what: Literal["started", "closed"]


MessageCommand = StartChildRun | ChildRestarted | ChildClosed | ParentClosed | ScheduleNews
