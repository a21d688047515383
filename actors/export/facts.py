"""A run as its bundle sums it up: `workflow`, `summary`, `tasks`, `payloads` (operations 9.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.export.manifest import Entry, entry_of
from actors.export.section import payload_in
from actors.run.limits import history_budget
from actors.run.rules import Rules
from actors.run.state import RunState
from actors.run.times import Micros, iso, iso_or_none
from actors.run.views.status_buckets import is_terminal, status_bucket
from actors.run.views.waiting import waiting

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is exported: a run as it was stored at one moment. Times in microseconds.

    `memo`, `search_attributes`: as JSON values. `current_run_id`: of its workflow id. `at`: when it is exported.
    """

    state: RunState
    rules: Rules
    memo: Any
    search_attributes: Any
    current_run_id: str
    at: Micros

    @property
    def dedupe_key(self) -> str:
        """The same for the same state of the run."""
        state = self.state
        return f"{state.run_id}:{state.last_sequence}:{iso(state.last_progress_at or state.started_at)}"


class Summing:
    """Notes what only the events tell: when and why the run was archived, its arguments and output."""

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._archive: dict[str, Any] = {"archived_at": None, "archive_command_id": None, "archive_reason": None}
        self._arguments: tuple[str, Any] = facts.state.payload_codec, None
        self._output: tuple[str, Any] = facts.state.payload_codec, None
        self._exceptions = 0

    def take(self, event: Event) -> None:
        """An event, in order."""
        kind, payload = event["event_type"], event["payload"]
        if kind == "WorkflowStarted":
            self._arguments = payload_in(payload, "arguments", self._facts.state.payload_codec)
        elif kind == "WorkflowCompleted":
            self._output = payload_in(payload, "output", self._facts.state.payload_codec)
        elif kind == "WorkflowArchived":
            self._archive = {
                "archived_at": event["recorded_at"],
                "archive_command_id": payload.get("archive_command_id"),
                "archive_reason": payload.get("reason"),
            }
        if "failure_id" in payload:
            self._exceptions += 1

    def payloads(self) -> dict[str, Any]:
        """`payloads`."""
        return {
            "codec": self._facts.state.payload_codec,
            "arguments": {"available": self._arguments[1] is not None, "data": self._arguments[1]},
            "output": {"available": self._output[1] is not None, "data": self._output[1]},
        }

    def slots(self) -> dict[str, Entry]:
        """What the manifest says of them."""
        return {
            "payloads.arguments.data": entry_of(*self._arguments),
            "payloads.output.data": entry_of(*self._output),
        }

    def workflow(self) -> dict[str, Any]:
        """`workflow`."""
        facts, state = self._facts, self._facts.state
        return {
            "instance_id": state.workflow_id,
            "run_id": state.run_id,
            "run_number": state.run_number,
            "is_current_run": facts.current_run_id == state.run_id,
            "current_run_id": facts.current_run_id,
            "current_run_source": "instance",
            "workflow_type": state.workflow_type,
            "workflow_class": state.workflow_type,
            "source_runtime": "standalone_server",
            "source_process_class": None,
            "business_key": state.business_key,
            "visibility_labels": [],
            "memo": facts.memo,
            "search_attributes": facts.search_attributes,
            "status": state.status,
            "status_bucket": status_bucket(state.status),
            "closed_reason": state.closed_reason,
            **self._archive,
            "compatibility": state.compatibility,
            "connection": None,
            "queue": state.task_queue,
            "last_history_sequence": state.last_sequence,
            "started_at": iso(state.started_at),
            "closed_at": iso_or_none(state.closed_at),
            "last_progress_at": iso_or_none(state.last_progress_at or None),
        }

    def summary(self) -> dict[str, Any]:
        """`summary`."""
        facts, state = self._facts, self._facts.state
        wait = waiting(state, facts.at)
        task = state.open_task
        budget = history_budget(state, facts.rules)
        return {
            "status": state.status,
            "status_bucket": status_bucket(state.status),
            "closed_reason": state.closed_reason,
            **self._archive,
            "business_key": state.business_key,
            "visibility_labels": [],
            "search_attributes": facts.search_attributes,
            "is_current_run": facts.current_run_id == state.run_id,
            "started_at": iso(state.started_at),
            "closed_at": iso_or_none(state.closed_at),
            "duration_ms": None if state.closed_at is None else max(0, state.closed_at - state.started_at) // 1000,
            "wait_kind": wait.kind,
            "wait_reason": wait.reason,
            "wait_started_at": iso_or_none(wait.started_at),
            "wait_deadline_at": iso_or_none(wait.deadline_at),
            "open_wait_id": wait.open_wait_id,
            "resume_source_kind": wait.resume_source_kind,
            "resume_source_id": None if wait.open_wait_id is None else wait.open_wait_id.partition(":")[2] or wait.open_wait_id,
            "next_task_at": None if task is None else iso(task.available_at),
            "next_task_id": None if task is None else task.task_id,
            "next_task_type": None if task is None else "workflow",
            "next_task_status": None if task is None else task.status,
            "next_task_lease_expires_at": None if task is None else iso_or_none(task.lease_expires_at or None),
            "liveness_state": wait.liveness,
            "liveness_reason": wait.reason,
            "repair_attention": False,
            "task_problem": wait.liveness in ("repair_needed", "workflow_replay_blocked"),
            "task_problem_badge": None,
            "exception_count": self._exceptions,
            "history_event_count": state.last_sequence,
            "history_size_bytes": budget["history_size_bytes"],
            "history_fan_out": budget["history_fan_out"],
            "continue_as_new_recommended": budget["continue_as_new_recommended"],
            "history_budget_pressure": budget["history_budget_pressure"],
            "sort_timestamp": iso(state.started_at),
            "sort_key": f"{iso(state.started_at)}:{state.run_id}",
        }


def complete(state: RunState) -> bool:
    """Whether the history ends with this bundle."""
    return is_terminal(state.status)


def tasks(state: RunState) -> list[dict[str, Any]]:
    """`tasks`: those of now, as the run's state has them. Timers have one each."""
    found = []
    task = state.task
    if task is not None and state.standalone is None:  # a host run has none, and says so there
        row = _task(state, task.task_id, "workflow", task.status, state.task_queue, task.created_at, task.available_at)
        row |= {
            "payload": {name: value for name, value in _struct(task.context).items() if value is not None},
            "attempt_count": task.attempt,
            "repair_count": task.repairs,
            "leased_at": iso_or_none(task.leased_at or None),
            "lease_owner": task.owner,
            "lease_expires_at": iso_or_none(task.lease_expires_at or None),
            "last_dispatch_error": task.last_error,
        }
        found.append(row)
    for task_id, activity in state.activities.items():
        leased = activity.status == "running"
        status = "leased" if leased else "ready" if activity.status == "ready" else activity.status
        row = _task(state, task_id, "activity", status, activity.queue, activity.created_at, activity.available_at)
        row |= {
            "payload": {"activity_execution_id": activity.execution_id},
            "attempt_count": activity.attempts,
            "leased_at": iso_or_none(activity.started_at or None) if leased else None,
            "lease_owner": activity.owner if leased else None,
            "lease_expires_at": iso_or_none(activity.lease_expires_at or None) if leased else None,
        }
        found.append(row)
    for timer_id, timer in state.timers.items():
        row = _task(state, timer.task_id, "timer", "ready", state.task_queue, timer.created_at, timer.due)
        row["payload"] = {"timer_id": timer_id}
        found.append(row)
    return found


def _task(state: RunState, task_id: str, kind: str, status: str, queue: str, created: int, available: int) -> dict[str, Any]:
    return {
        "id": task_id,
        "type": kind,
        "status": {"withdrawn": "cancelled"}.get(status, status),
        "payload": {},
        "connection": None,
        "queue": queue,
        "compatibility": state.compatibility,
        "attempt_count": 0,
        "repair_count": 0,
        "available_at": iso_or_none(available or None),
        "leased_at": None,
        "lease_owner": None,
        "lease_expires_at": None,
        "last_dispatch_attempt_at": None,
        "last_dispatched_at": None,
        "last_dispatch_error": None,
        "last_claim_failed_at": None,
        "last_claim_error": None,
        "repair_available_at": None,
        "created_at": iso_or_none(created or None),
    }


def _struct(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}
