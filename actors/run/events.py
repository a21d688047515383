"""Reading a run's own stored events: where payloads live, the state only points (see `state`)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.run.values import Payload


class _Payload(msgspec.Struct):
    arguments: dict[str, Any] | None = None
    command: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    payload: _Payload


_decode = msgspec.json.Decoder(_Event).decode


def arguments_of(event: bytes) -> Payload | None:
    """The `arguments` envelope of a stored event, None when it has none."""
    envelope = _decode(event).payload.arguments
    if envelope is None:
        return None
    return Payload(envelope["codec"], envelope.get("blob"), envelope.get("external_storage"))


def command_of(event: bytes) -> dict[str, Any] | None:
    """The snapshot of the command that a stored event records, None when it has none."""
    return _decode(event).payload.command


def envelope_or_none(payload: Payload | None) -> dict[str, Any] | None:
    """The wire form of an optional payload."""
    return None if payload is None else payload.envelope()
