"""What the debug snapshot tells of a run's history: its last event, its recent failures.

Contract: control-plane 5.6, engine-semantics 10.2.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.run.views.failures import FAILURES
from api.control.workflows.events import StoredEvent, stored_event
from api.http.input import json_text
from store import history as stored_history
from store.connections.pool import Database

_PREVIEW_BYTES = 4096
_MOST_KEYS = 20
_MOST_FAILURES = 10

# Failures are looked for in this many last events, so that a snapshot of a long run stays cheap.
_TAIL = 1000


class _Failed(msgspec.Struct):
    """What a failure record shows of an event's payload."""

    failure_id: str | None = None
    failure_category: Any = None
    exception_class: msgspec.Raw = msgspec.Raw(b"null")  # these two as the worker chose them
    message: msgspec.Raw = msgspec.Raw(b"null")
    non_retryable: Any = None
    activity_execution_id: Any = None
    child_workflow_run_id: Any = None
    update_id: Any = None


_failed = msgspec.json.Decoder(_Failed).decode


async def tail(db: Database, run_id: str, last_sequence: int) -> list[bytes]:
    """The last events of a run, serialized."""
    return await stored_history.load(db, run_id, max(0, last_sequence - _TAIL), last_sequence)


def last_event(lines: list[bytes], sequence: int, with_payload: bool) -> dict[str, Any] | None:
    """`execution.last_event`: what the event is and the shape of its payload; on request the beginning of the payload."""
    if not lines:
        return None
    event = stored_event(lines[-1])
    text = bytes(event.payload)
    keys = json_text.names(text)
    shown: dict[str, Any] = {
        "sequence": sequence,
        "event_type": event.event_type,
        "timestamp": event.recorded_at,
        "payload_summary": {
            "included": with_payload,
            "encoding": "json",
            "size_bytes": len(text),
            "top_level_type": "object",
            "top_level_key_count": len(keys),
            "top_level_keys": keys[:_MOST_KEYS],
            "top_level_keys_truncated": len(keys) > _MOST_KEYS,
            "preview_max_bytes": _PREVIEW_BYTES,
        },
    }
    if with_payload:
        shown["payload_preview"] = {
            "encoding": "json",
            "size_bytes": len(text),
            "max_bytes": _PREVIEW_BYTES,
            "truncated": len(text) > _PREVIEW_BYTES,
            "data": text[:_PREVIEW_BYTES].decode("utf-8", "ignore"),
        }
    return shown


def recent_failures(lines: list[bytes], run_id: str) -> list[dict[str, Any]]:
    """The failure records among these events, newest first."""
    found: dict[str, dict[str, Any]] = {}
    for line in reversed(lines):
        if b'"failure_id"' not in line:
            continue
        event = stored_event(line)
        record = _failure(event, run_id)
        if record is None:
            continue
        # A timed-out run tells of one failure in two events.
        found.setdefault(record["failure_id"], record)
        if len(found) == _MOST_FAILURES:
            break
    return list(found.values())


def _failure(event: StoredEvent, run_id: str) -> dict[str, Any] | None:
    place = FAILURES.get(event.event_type)
    if place is None:
        return None
    payload = _failed(event.payload)
    if not payload.failure_id:
        return None
    source_kind, id_key, propagation = place
    category = payload.failure_category
    own = source_kind == "workflow_run"
    return {
        "failure_id": payload.failure_id,
        "source_kind": source_kind,
        "source_id": run_id if own else getattr(payload, id_key),
        "propagation_kind": "timeout" if own and category == "timeout" else propagation,
        "failure_category": category,
        "exception_class": _or_none(payload.exception_class),
        "message": _or_none(payload.message),
        "non_retryable": bool(payload.non_retryable),
        "handled": False,
        "created_at": event.recorded_at,
    }


def _or_none(text: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(text) == b"null" else text
