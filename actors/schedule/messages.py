"""What a schedule tells runs: rows that its commit inserts and the commit of the receiver deletes (architecture, rule 4).

The receiver answers a start with `StartConfirmed` or `StartRefused`, and with `RunClosed` when its chain ends, in the same way.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actors.run.ids import RunId


class Origin(Struct, frozen=True):
    """On a run: the start of a schedule that it goes back to. Continue-as-new hands it on."""

    schedule_id: str
    record_id: str
    number: int


class StartOccurrence(Struct, tag_field="do", frozen=True, tag="start_occurrence"):
    """Begin a run (operations 1.6). `workflow_id` and `run_id` follow from the record and the number alone, so the start is
    idempotent: told again, it meets the run it began and is confirmed again.

    `input`: as in the action, JSON text or value or None. `triggered`: payload of the run's own `ScheduleTriggered` event.
    """

    namespace: str
    workflow_id: str
    run_id: RunId
    origin: Origin
    workflow_type: str
    duplicate_policy: str
    triggered: dict[str, Any]
    task_queue: str | None = None
    input: Any = None
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None
    memo: dict[str, Any] | bytes | None = None
    search_attributes: dict[str, Any] | bytes | None = None


class StopRun(Struct, tag_field="do", frozen=True, tag="stop_run"):
    """Cancel or terminate the current run of a workflow id; whatever comes of it, nobody waits for it (operations 1.5).

    `how`: `cancel` or `terminate`.
    """

    namespace: str
    workflow_id: str
    how: str
    reason: str


Message = StartOccurrence | StopRun


class ScheduleMessage(Struct, frozen=True):
    """A message of a schedule on its way, a row until it is applied; `shard`: where its receiver is."""

    message_id: str
    shard: int
    namespace: str
    workflow_id: str
    command: Message


class Settled(Struct, frozen=True):
    """For whoever waits for the outcome of a start: `reason` is None when the run is there, else why it never will be.

    `skipped`: the refusal counts as a skip, not as a failure.
    """

    number: int
    workflow_id: str
    run_id: str
    reason: str | None = None
    skipped: bool = False
