"""Payloads in stored events, where they live: the state only points there (see `state`)."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.run.values import Payload


class _Payload(msgspec.Struct):
    arguments: dict[str, Any] | None = None
    command: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    payload: _Payload


class _Memo(msgspec.Struct):
    memo: msgspec.Raw = msgspec.Raw(b"{}")


class _Started(msgspec.Struct):
    payload: _Memo


_decode_started = msgspec.json.Decoder(_Started).decode
_decode = msgspec.json.Decoder(_Event).decode


def arguments_of(event: bytes) -> Payload | None:
    """The `arguments` envelope of a stored event, None when it has none."""
    envelope = _decode(event).payload.arguments
    if envelope is None:
        return None
    return Payload(envelope["codec"], envelope.get("blob"), envelope.get("external_storage"))


def memo_of(event: bytes) -> bytes:
    """The memo in a stored WorkflowStarted, JSON text."""
    return bytes(_decode_started(event).payload.memo)


def command_of(event: bytes) -> dict[str, Any] | None:
    """The snapshot of the command that a stored event records, None when it has none."""
    return _decode(event).payload.command


def envelope_or_none(payload: Payload | None) -> dict[str, Any] | None:
    """The wire form of an optional payload."""
    return None if payload is None else payload.envelope()


def result_keys(result: Payload | None, codec: str, run_codec: str) -> dict[str, Any]:
    """`result` and `payload_codec` of an event: the bare blob in the run's codec, an envelope otherwise.

    Engine-semantics 2.1.
    """
    if result is None:
        return {"payload_codec": codec}
    if result.external_storage is None and result.codec == run_codec:
        return {"result": result.blob, "payload_codec": result.codec}
    return {"result": result.envelope(), "payload_codec": result.codec}
