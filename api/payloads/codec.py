"""Blobs and the JSON inside them (control-plane 5.2, worker-protocol 9).

Only plain JSON is encoded, only what the control plane shows is decoded, and neither is looked into: JSON stays text.
"""

from __future__ import annotations

import base64
from typing import Any

from msgspec import Raw

from api.http.input import json_text
from api.payloads.avro_frames import VALUE_FRAME, Undecodable, is_collection, unwrap, value_end, wrapped

AVRO = "avro"
JSON = "json"


def encode(value: Any) -> str:
    """The avro blob of a JSON value (worker-protocol 9.3)."""
    return wrapped(json_text.text_of(value).decode())


def decoded(blob: str, codec: str) -> bytes:
    """The JSON text inside a blob, checked (`api.http.input.json_text.check`).

    Raises Undecodable, also for blobs framed in a way this server does not read.
    """
    try:
        if codec == JSON:
            text = blob.encode()
        elif codec == AVRO:
            text = unwrap(base64.b64decode(blob, validate=True))[0].encode()
        else:
            raise Undecodable(f"unknown codec {codec}")
        json_text.check(text)
    except (ValueError, json_text.Malformed) as error:
        raise Undecodable(str(error)) from error
    return text


def decoded_or_none(envelope: dict[str, Any] | None) -> bytes | None:
    """The JSON text in an envelope, None when there is none or it cannot be decoded (control-plane 5.4 `input`, `output`)."""
    if envelope is None or not isinstance(envelope.get("blob"), str):
        return None
    try:
        return decoded(envelope["blob"], str(envelope.get("codec")))
    except Undecodable:
        return None


def shown(text: bytes | None) -> Raw | None:
    """JSON text as part of an answer."""
    return None if text is None else Raw(text)


def is_avro_blob(text: str) -> bool:
    """Whether a string is a ready avro blob: strict base64 of one wrapper or Value frame (worker-protocol 9.2)."""
    if not text or len(text) % 4:
        return False
    try:
        data = base64.b64decode(text, validate=True)
        if data.startswith(VALUE_FRAME):
            return value_end(data, len(VALUE_FRAME)) == len(data)
        inside, used = unwrap(data)
        json_text.check(inside.encode())
    except (ValueError, IndexError, Undecodable, json_text.Malformed):
        return False
    return used == len(data)


def is_value_collection(blob: str) -> bool:
    """Whether a blob is a complete Value frame of a list or a map, which newer clients send (worker-protocol 11.2)."""
    try:
        data = base64.b64decode(blob, validate=True)
        return data.startswith(VALUE_FRAME) and is_collection(data) and value_end(data, len(VALUE_FRAME)) == len(data)
    except (ValueError, IndexError):
        return False
