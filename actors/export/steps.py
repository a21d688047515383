"""Activities, timers and failures of a run, told from its events (operations 9.2)."""

from __future__ import annotations

from typing import Any

from actors.export.section import Section, payload_in
from actors.run.state import RunState
from actors.run.views.failures import FAILURES

Event = dict[str, Any]
Row = dict[str, Any]

# What ends an activity, and the status it has then.
_ENDS = {
    "ActivityCompleted": "completed",
    "ActivityFailed": "failed",
    "ActivityTimedOut": "failed",
    "ActivityCancelled": "cancelled",
}
_AUTHORITY = {"history_authority": "typed_history", "diagnostic_only": False, "history_unsupported_reason": None}


class Activities(Section):
    """`activities` with their attempts: each is written when it is over, or at the end."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._open: dict[str, tuple[int, Row]] = {}
        self._tasks = {activity.execution_id: task_id for task_id, activity in state.activities.items()}

    def take(self, event: Event) -> None:
        """An event, in order."""
        kind, payload = event["event_type"], event["payload"]
        if kind == "ActivityScheduled":
            self._begin(event, payload)
            return
        if not kind.startswith("Activity"):
            return
        execution_id = payload.get("activity_execution_id")
        found = self._open.get(execution_id)
        if found is None:
            return
        row = found[1]
        row["history_event_types"].append(kind)
        at = event["recorded_at"]
        if kind == "ActivityStarted":
            _started(row, payload, at)
        elif kind == "ActivityHeartbeatRecorded":
            _beat(row, payload)
        elif kind == "ActivityRetryScheduled":
            expired = payload.get("retry_reason") == "timeout"
            _ended(row, payload.get("retry_after_attempt_id"), "expired" if expired else "failed", at)
            row["status"] = row["source_status"] = row["row_status"] = "pending"
        elif kind in _ENDS:
            status = _ENDS[kind]
            attempt = "expired" if kind == "ActivityTimedOut" else status
            _ended(row, payload.get("activity_attempt_id"), attempt, at)
            codec, result = payload_in(payload, "result", row["payload_codec"])
            row |= {"status": status, "source_status": status, "row_status": status, "closed_at": at, "result": result}
            self._close(execution_id, codec)

    def finish(self) -> None:
        """Those still open."""
        for execution_id in list(self._open):
            self._close(execution_id, self.codec)

    def _begin(self, event: Event, payload: Row) -> None:
        copy = payload.get("activity") or {}
        codec, arguments = payload_in(copy, "arguments", self.codec)
        execution_id = payload["activity_execution_id"]
        self._open[execution_id] = (
            event["sequence"],
            {
                "id": execution_id,
                "idempotency_key": execution_id,
                "sequence": payload.get("sequence"),
                "activity_type": payload.get("activity_type"),
                "activity_class": payload.get("activity_type"),
                "execution_mode": "remote",
                "local_activity": None,
                "payload_codec": codec,
                "status": "pending",
                "source_status": "pending",
                **_AUTHORITY,
                "history_event_types": ["ActivityScheduled"],
                "row_status": "pending",
                "parallel_group_kind": None,
                "parallel_group_id": None,
                "parallel_group_base_sequence": None,
                "parallel_group_size": None,
                "parallel_group_index": None,
                "parallel_group_path": [],
                "connection": copy.get("connection"),
                "queue": copy.get("queue"),
                "retry_policy": copy.get("retry_policy"),
                "attempt_count": 0,
                "current_attempt_id": None,
                "arguments": arguments,
                "result": None,
                "created_at": event["recorded_at"],
                "started_at": None,
                "last_heartbeat_at": None,
                "last_heartbeat_progress": None,
                "closed_at": None,
                "attempts": [],
            },
        )

    def _close(self, execution_id: str, result_codec: str) -> None:
        key, row = self._open.pop(execution_id)
        for attempt in row["attempts"]:
            attempt["workflow_task_id"] = self._tasks.get(execution_id)
        codec = row["payload_codec"]
        self.add(key, row, arguments=(codec, row["arguments"]), result=(result_codec, row["result"]))


def _started(row: Row, payload: Row, at: str) -> None:
    attempt_id, number = payload.get("activity_attempt_id"), payload.get("attempt_number")
    for attempt in row["attempts"]:
        if attempt["status"] == "running":  # its lease ran out, which is no event
            attempt["status"] = "expired"
    row["attempts"].append(
        {
            "id": attempt_id,
            "activity_execution_id": row["id"],
            "workflow_task_id": None,
            "attempt_number": number,
            "status": "running",
            "lease_owner": None,
            "started_at": at,
            "last_heartbeat_at": None,
            "last_heartbeat_progress": None,
            "lease_expires_at": None,
            "closed_at": None,
        }
    )
    row |= {"status": "running", "source_status": "running", "row_status": "running", "attempt_count": number}
    row |= {"current_attempt_id": attempt_id, "started_at": row["started_at"] or at}


def _beat(row: Row, payload: Row) -> None:
    beat = {
        "last_heartbeat_at": payload.get("heartbeat_at"),
        "last_heartbeat_progress": payload.get("progress"),
    }
    row |= beat
    for attempt in row["attempts"]:
        if attempt["id"] == payload.get("activity_attempt_id"):
            attempt |= {**beat, "lease_expires_at": payload.get("lease_expires_at")}


def _ended(row: Row, attempt_id: str | None, status: str, at: str) -> None:
    for attempt in row["attempts"]:
        if attempt["id"] == attempt_id and attempt["status"] == "running":
            attempt |= {"status": status, "closed_at": at}


class Timers(Section):
    """`timers`, those of waits included."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._open: dict[str, tuple[int, Row]] = {}

    def take(self, event: Event) -> None:
        """An event, in order."""
        kind, payload = event["event_type"], event["payload"]
        timer_id = payload.get("timer_id")
        if kind == "TimerScheduled":
            self._begin(event, payload, timer_id)
        elif kind in ("TimerFired", "TimerCancelled") and timer_id in self._open:
            status = "fired" if kind == "TimerFired" else "cancelled"
            key, row = self._open.pop(timer_id)
            row["history_event_types"].append(kind)
            row |= {"status": status, "source_status": status, "row_status": status}
            row[f"{status}_at"] = payload.get(f"{status}_at") or event["recorded_at"]
            self.add(key, row)

    def finish(self) -> None:
        """Those still open."""
        for key, row in self._open.values():
            self.add(key, row)

    def _begin(self, event: Event, payload: Row, timer_id: str) -> None:
        self._open[timer_id] = (
            event["sequence"],
            {
                "id": timer_id,
                "sequence": payload.get("sequence"),
                "status": "pending",
                "source_status": "pending",
                "delay_seconds": payload.get("delay_seconds"),
                "fire_at": payload.get("fire_at"),
                "fired_at": None,
                "cancelled_at": None,
                "created_at": event["recorded_at"],
                "timer_kind": payload.get("timer_kind"),
                "condition_wait_id": payload.get("condition_wait_id"),
                "condition_key": payload.get("condition_key"),
                "condition_definition_fingerprint": payload.get("condition_definition_fingerprint"),
                "signal_wait_id": None,
                "signal_name": None,
                **_AUTHORITY,
                "history_event_types": ["TimerScheduled"],
                "row_status": "pending",
            },
        )


class Failures(Section):
    """`failures`. A run that timed out tells of one failure in two events."""

    def __init__(self, state: RunState) -> None:
        super().__init__(state)
        self._seen: set[str] = set()

    def take(self, event: Event) -> None:
        """An event, in order."""
        place, payload = FAILURES.get(event["event_type"]), event["payload"]
        failure_id = payload.get("failure_id")
        if place is None or not failure_id or failure_id in self._seen:
            return
        self._seen.add(failure_id)
        source_kind, id_key, propagation = place
        own = source_kind == "workflow_run"
        exception = payload.get("exception")
        told = exception if isinstance(exception, dict) else {}
        row = {
            "id": failure_id,
            "source_kind": payload.get("source_kind") or source_kind,
            "source_id": payload.get("source_id") or (self.state.run_id if own else payload.get(id_key)),
            "propagation_kind": "timeout" if own and payload.get("failure_category") == "timeout" else propagation,
            "failure_category": payload.get("failure_category"),
            "non_retryable": bool(payload.get("non_retryable")),
            "handled": False,
            "history_authority": "typed_history",
            "diagnostic_only": False,
            "exception_type": payload.get("exception_type"),
            "exception_class": payload.get("exception_class"),
            "exception_resolved_class": None,
            "exception_resolution_source": None,
            "exception_resolution_error": None,
            "exception_replay_blocked": False,
            "message": payload.get("message"),
            "file": told.get("file"),
            "line": told.get("line"),
            "trace_preview": told.get("stack_trace"),
            "created_at": event["recorded_at"],
        }
        self.add(event["sequence"], row)
