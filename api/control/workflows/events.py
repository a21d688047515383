"""Stored events as the control plane shows them; the payload stays serialized (control-plane 6.1)."""

from __future__ import annotations

from typing import Any

import msgspec


class StoredEvent(msgspec.Struct):
    """An event as it is stored. Its sequence is its place in the history."""

    event_type: str
    recorded_at: str
    payload: msgspec.Raw


stored_event = msgspec.json.Decoder(StoredEvent).decode


def shown(sequence: int, line: bytes) -> dict[str, Any]:
    """An event of a history answer."""
    event = stored_event(line)
    return {
        "sequence": sequence,
        "event_type": event.event_type,
        "timestamp": event.recorded_at,
        "payload": event.payload,
    }
