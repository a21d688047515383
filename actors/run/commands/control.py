"""What the control plane tells a run (control-plane 5)."""

from __future__ import annotations

from typing import Any

from actors.run.commands.base import Command, R_co
from actors.run.commands.steps import ScheduleActivity
from actors.run.ids import RunId
from actors.run.replies import CommandAnswered, QueryView, Started, UpdateStatus
from actors.run.values import Payload


class StartRun(Command[Started], frozen=True, tag="start"):
    """Create the first run of a workflow id (control-plane 5.1). `run_id` comes from `ids.new_run_id`.

    `attribution`: who caused it, for the command's snapshot in history (configuration-and-security 5); none for children.
    """

    namespace: str
    workflow_id: str
    run_id: RunId
    workflow_type: str
    task_queue: str | None
    arguments: Payload
    payload_codec: str = "avro"
    business_key: str | None = None
    memo: dict[str, Any] | bytes = {}
    search_attributes: dict[str, Any] = {}
    duplicate_policy: str = "fail"
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None
    priority: int = 5
    fairness_key: str | None = None
    fairness_weight: int = 1
    compatibility: str | None = None
    attribution: dict[str, Any] | None = None


class StartStandalone(StartRun, frozen=True, tag="start_standalone", kw_only=True):
    """Create a host run for one standalone activity (operations 10.2): a start with what is to be scheduled.

    A command of its own, so that a node that knows no host runs refuses it instead of starting a workflow.
    """

    activity: ScheduleActivity
    activity_class: str


class NoteDuplicateStart(Command[Started], frozen=True, tag="note_duplicate_start"):
    """A start met this run as the instance's current one: record it and answer by the duplicate policy."""

    start: StartRun | StartStandalone


class ControlCommandBase(Command[R_co], frozen=True):
    """A command of the control plane to an existing run (control-plane 5.7 to 5.12).

    `to_run`: addressed to this run and not to the instance. `request_id` makes updates idempotent. `attribution`: who
    caused it, for the command's snapshot in history (configuration-and-security 5).
    """

    request_id: str | None = None
    to_run: bool = False
    attribution: dict[str, Any] | None = None


class SignalRun(ControlCommandBase[CommandAnswered], frozen=True, tag="signal"):
    name: str = ""
    arguments: Payload | None = None


class SignalOnce(SignalRun, frozen=True, tag="signal_once", kw_only=True):
    """A signal that the workflow id accepts once, over all of its runs (operations 10.1).

    `once`: what a repetition is known by. It stands among the request ids of updates, and differs from all that callers send.
    """

    once: str


class UpdateRun(ControlCommandBase[UpdateStatus | CommandAnswered], frozen=True, tag="update"):
    name: str = ""
    arguments: Payload | None = None


class CancelRun(ControlCommandBase[CommandAnswered], frozen=True, tag="cancel"):
    reason: str | None = None


class TerminateRun(ControlCommandBase[CommandAnswered], frozen=True, tag="terminate"):
    reason: str | None = None


class RepairRun(ControlCommandBase[CommandAnswered], frozen=True, tag="repair"):
    pass


class ArchiveRun(ControlCommandBase[CommandAnswered], frozen=True, tag="archive"):
    reason: str | None = None


# What the control plane may command a run to do, an update excepted: that has an answer of its own.
ControlCommand = SignalRun | SignalOnce | CancelRun | TerminateRun | RepairRun | ArchiveRun


class ReadUpdate(Command[UpdateStatus], frozen=True, tag="read_update"):
    """The present state of an update this run accepted."""

    update_id: str


class ReadForQuery(Command[QueryView], frozen=True, tag="read_for_query"):
    """The run as a query of a worker of `dialect` must see it: every accepted signal included (engine-semantics 7.4, V6)."""

    dialect: str = ""
