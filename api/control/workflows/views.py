"""How runs look on the control plane: list items, run items and the full description (control-plane 5.3 to 5.5)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.run.limits import history_budget
from actors.run.rules import Rules
from actors.run.state import RunState
from actors.run.times import Micros
from actors.run.views.status_buckets import is_terminal, status_bucket
from actors.run.views.waiting import waiting
from api.http.times import ts, ts0, ts0_or_none, ts_or_none
from api.payloads.codec import decoded_or_none, shown
from store.runs import RunItem, StoredRun


class _Payloads(msgspec.Struct):
    payload_codec: str = "avro"
    arguments: dict[str, Any] | str | None = None
    output: dict[str, Any] | str | None = None


class _Event(msgspec.Struct):
    payload: _Payloads


_decode = msgspec.json.Decoder(_Event).decode


def list_item(item: RunItem) -> dict[str, Any]:
    """An item of GET /api/workflows."""
    return {
        "workflow_id": item.workflow_id,
        "run_id": item.run_id,
        "workflow_type": item.workflow_type,
        "business_key": item.business_key,
        "status": item.status,
        "status_bucket": status_bucket(item.status),
        "task_queue": item.task_queue,
        "is_terminal": is_terminal(item.status),
        "started_at": ts(item.started_at),
        "closed_at": ts_or_none(item.closed_at),
        "search_attributes": msgspec.Raw(item.search_attributes),
        "namespace": item.namespace,
        "engine_source": "v2",
    }


def run_item(item: RunItem, is_current: bool) -> dict[str, Any]:
    """An item of GET /api/workflows/{id}/runs."""
    return {
        "workflow_id": item.workflow_id,
        "run_id": item.run_id,
        "run_number": item.run_number,
        "workflow_type": item.workflow_type,
        "business_key": item.business_key,
        "status": item.status,
        "status_bucket": status_bucket(item.status),
        "is_current_run": is_current,
        "closed_reason": item.closed_reason,
        "task_queue": item.task_queue,
        "started_at": ts(item.started_at),
        "closed_at": ts_or_none(item.closed_at),
    }


def envelope_of(event: bytes | None, key: str) -> dict[str, Any] | None:
    """The payload under `key` of a serialized event as an envelope; None when the event has none."""
    if event is None:
        return None
    payload = _decode(event).payload
    value: dict[str, Any] | str | None = getattr(payload, key)
    return {"codec": payload.payload_codec, "blob": value} if isinstance(value, str) else value


def description(
    run: StoredRun,
    state: RunState,
    rules: Rules,
    *,
    is_current: bool,
    run_count: int,
    started: bytes | None,
    closed: bytes | None,
    now: Micros,
) -> dict[str, Any]:
    """The body of a describe, with the history budget hints (engine-semantics 11.2).

    `started` is the serialized WorkflowStarted event, `closed` the WorkflowCompleted event, `now` in microseconds.
    """
    identity, row = run.identity, run.row
    terminal = is_terminal(row.status)
    active = is_current and not terminal
    heard = state.standalone is None  # a standalone activity takes no signals, updates and queries
    input_envelope = envelope_of(started, "arguments")
    output_envelope = envelope_of(closed, "output")
    wait = waiting(state, now)
    return {
        "workflow_id": identity.workflow_id,
        "run_id": run.run_id,
        "namespace": identity.namespace,
        "workflow_type": identity.workflow_type,
        "business_key": identity.business_key,
        "status": row.status,
        "status_bucket": status_bucket(row.status),
        "is_terminal": terminal,
        "closed_reason": row.closed_reason,
        "task_queue": identity.task_queue,
        "run_number": identity.run_number,
        "run_count": run_count,
        "is_current_run": is_current,
        "compatibility": identity.compatibility,
        "payload_codec": state.payload_codec,
        "execution_timeout_seconds": state.execution_timeout_seconds,
        "run_timeout_seconds": state.run_timeout_seconds,
        "execution_deadline_at": ts0_or_none(state.execution_deadline_at),
        "run_deadline_at": ts0_or_none(state.run_deadline_at),
        "input": shown(decoded_or_none(input_envelope)),
        "output": shown(decoded_or_none(output_envelope)),
        "input_envelope": input_envelope,
        "output_envelope": output_envelope,
        "started_at": ts(identity.started_at),
        "closed_at": ts_or_none(row.closed_at),
        "last_progress_at": ts0(row.last_progress_at),
        "wait_kind": wait.kind,
        "wait_reason": wait.reason,
        "total_history_events": row.last_sequence,
        **history_budget(state, rules),
        "memo": msgspec.Raw(identity.memo),
        "search_attributes": msgspec.Raw(identity.search_attributes),
        "actions": {
            "can_signal": active and heard,
            "can_query": not terminal and heard,
            "can_update": active and heard,
            "can_cancel": active,
            "can_terminate": active,
            "can_repair": active,
            "can_archive": terminal and not state.archived,
        },
        "engine_source": "v2",
        "import_source": None,
        "import_id": None,
        "import_dedupe_key": None,
        "import_contract_version": None,
        "imported_at": None,
    }
