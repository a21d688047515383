"""Payloads at the HTTP edge: the Avro generic wrapper, envelope checks, and plain JSON made into envelopes.

Blobs a client sends are kept unchanged; only plain JSON is encoded, only describe's `input` and `output` are decoded.
Contract: control-plane 5.2, worker-protocol 9.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Any

import fastavro
import msgspec

from actors.run.commands import Payload
from api.validation import Fields, label

AVRO = "avro"
JSON = "json"

_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Payload",
        "namespace": "durable_workflow",
        "fields": [{"name": "json", "type": "string"}, {"name": "version", "type": "int"}],
    }
)
_WRAPPER_VERSION = 1
_VALUE_FRAME = bytes.fromhex("c301e2a33dff55802237")

_ENVELOPE_KEYS = frozenset({"codec", "blob"})
_EXTERNAL_KEYS = frozenset({"codec", "external_storage"})


class Undecodable(Exception):
    """A blob that is not what its codec says."""


def compact(value: Any) -> str:
    """Compact JSON text of a value: no blanks, non-ASCII characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def encode(value: Any) -> str:
    """The avro blob of a JSON value (worker-protocol 9.3)."""
    return _wrapped(compact(value))


def _wrapped(text: str) -> str:
    buffer = io.BytesIO(b"\x00")
    buffer.seek(1)
    fastavro.schemaless_writer(buffer, _SCHEMA, {"json": text, "version": _WRAPPER_VERSION})
    return base64.b64encode(buffer.getvalue()).decode()


def _unwrap(data: bytes) -> tuple[str, int]:
    """The JSON text of a wrapper and how many bytes the wrapper takes."""
    if data[:1] != b"\x00":
        raise Undecodable("not a generic wrapper")
    buffer = io.BytesIO(data)
    buffer.seek(1)
    try:
        record: Any = fastavro.schemaless_reader(buffer, _SCHEMA, None)
    except (EOFError, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise Undecodable(str(error)) from error
    return record["json"], buffer.tell()


def decode(blob: str, codec: str) -> Any:
    """The JSON value inside a blob. Raises Undecodable, also for blobs framed in a way this server does not read."""
    try:
        if codec == JSON:
            return msgspec.json.decode(blob)
        if codec != AVRO:
            raise Undecodable(f"unknown codec {codec}")
        text, _ = _unwrap(base64.b64decode(blob, validate=True))
        return msgspec.json.decode(text)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(str(error)) from error


def decoded_or_none(envelope: dict[str, Any] | None) -> Any:
    """The value inside an envelope, None when there is none or it cannot be decoded (control-plane 5.4 `input`, `output`)."""
    if envelope is None or not isinstance(envelope.get("blob"), str):
        return None
    try:
        return decode(envelope["blob"], str(envelope.get("codec")))
    except Undecodable:
        return None


def is_avro_blob(text: str) -> bool:
    """Whether a string is a ready avro blob: strict base64 of one wrapper or Value frame (worker-protocol 9.2)."""
    if not text or len(text) % 4:
        return False
    try:
        data = base64.b64decode(text, validate=True)
        if data.startswith(_VALUE_FRAME):
            return _value_end(data, len(_VALUE_FRAME), 0) == len(data)
        json_text, used = _unwrap(data)
        msgspec.json.decode(json_text)
    except (binascii.Error, ValueError, IndexError, Undecodable, msgspec.DecodeError, RecursionError):
        return False
    return used == len(data)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The zigzag integer at `at` and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("integer too long")


def _bytes_end(data: bytes, at: int) -> int:
    length, at = _varint(data, at)
    if length < 0 or at + length > len(data):
        raise ValueError("truncated")
    return at + length


def _value_end(data: bytes, at: int, depth: int) -> int:
    """The position behind the Avro `Value` at `at` (worker-protocol 11.2). Raises ValueError or IndexError when broken."""
    if depth > 512:
        raise ValueError("too deep")
    branch, at = _varint(data, at)
    if branch == 0:
        return at
    if branch == 1:
        return at + 1
    if branch == 2:
        return _varint(data, at)[1]
    if branch == 3:
        return at + 8
    if branch in (4, 5):
        return _bytes_end(data, at)
    if branch not in (6, 7):
        raise ValueError("unknown branch")
    while True:
        count, at = _varint(data, at)
        if count == 0:
            return at
        if count < 0:
            _, at = _varint(data, at)
        for _ in range(abs(count)):
            if branch == 7:
                at = _bytes_end(data, at)
            at = _value_end(data, at, depth + 1)


def is_envelope(value: Any) -> bool:
    """Whether a value has the shape of an envelope or an external reference: exactly its two keys."""
    return isinstance(value, dict) and len(value) == 2 and (value.keys() == _ENVELOPE_KEYS or value.keys() == _EXTERNAL_KEYS)


def check_envelope(fields: Fields, name: str, value: dict[str, Any], codecs: tuple[str, ...]) -> Payload | None:
    """The payload of an envelope-shaped value (see `is_envelope`); None after noting its fault.

    External references are refused: no storage driver is usable yet (worker-protocol 9.4).
    """
    codec = value["codec"]
    if not isinstance(codec, str) or codec not in codecs:
        fields.fault(f"{name}.codec", f"The {label(name)}.codec field must be {' or '.join(codecs)}.")
        return None
    if "external_storage" in value:
        reference = value["external_storage"]
        if isinstance(reference, dict) and reference.get("codec") != codec:
            fields.fault(f"{name}.external_storage.codec", "The reference has another codec than its envelope.")
        else:
            fields.fault(f"{name}.external_storage", "The namespace has no usable external payload storage.")
        return None
    if not isinstance(value["blob"], str):
        fields.fault(f"{name}.blob", f"The {label(name)}.blob field must be a string.")
        return None
    return Payload(codec, value["blob"])


def normalise_input(fields: Fields, name: str = "input") -> Payload:
    """The argument list of a start (control-plane 5.2): an envelope as is, plain JSON encoded as a list of arguments."""
    value = fields.data.get(name)
    if value is None or value in ({}, []):
        return EMPTY_LIST
    if is_envelope(value):
        return check_envelope(fields, name, value, (AVRO,)) or EMPTY_LIST
    if isinstance(value, dict):
        return Payload(AVRO, encode(list(value.values())))
    if isinstance(value, list):
        return Payload(AVRO, encode(value))
    fields.fault(name, f"The {label(name)} field must be a list or an object.")
    return EMPTY_LIST


def normalise_message(fields: Fields, name: str = "input") -> Payload | None:
    """The arguments of a signal or an update (control-plane 5.2): None for none, a map of other keys stays a map.

    A blob must hold a list or a map; the values of a map are the positional arguments.
    """
    value = fields.data.get(name)
    if value is None or value in ({}, []):
        return None
    if is_envelope(value):
        payload = check_envelope(fields, name, value, (AVRO,))
        return None if payload is None or payload.blob is None else _positional(fields, name, payload.blob)
    if isinstance(value, dict | list):
        return Payload(AVRO, encode(value))
    fields.fault(name, f"The {label(name)} field must be a list or an object.")
    return None


def _positional(fields: Fields, name: str, blob: str) -> Payload | None:
    if _is_value_collection(blob):
        return Payload(AVRO, blob)
    try:
        value = decode(blob, AVRO)
    except Undecodable:
        value = None
    if isinstance(value, list):
        return Payload(AVRO, blob)
    if isinstance(value, dict):
        return Payload(AVRO, encode(list(value.values())))
    fields.fault(f"{name}.blob", f"The {label(name)}.blob field must hold a list or a map.")
    return None


def _is_value_collection(blob: str) -> bool:
    """Whether a blob is a complete Value frame of a list or a map, which newer clients send (worker-protocol 11.2)."""
    try:
        data = base64.b64decode(blob, validate=True)
        if not data.startswith(_VALUE_FRAME):
            return False
        start = len(_VALUE_FRAME)
        return _varint(data, start)[0] in (6, 7) and _value_end(data, start, 0) == len(data)
    except (binascii.Error, ValueError, IndexError):
        return False


def normalise_value(fields: Fields, name: str) -> Payload | None:
    """A result (worker-protocol 9.2): None when null or absent; plain JSON is stored in the codec the run will say."""
    value = fields.data.get(name)
    if value is None:
        return None
    if is_envelope(value):
        return check_envelope(fields, name, value, (AVRO, JSON))
    return _plain(value)


def normalise_side_effect(fields: Fields, name: str) -> Payload | None:
    """The same for a side effect, whose text may be a ready blob of a run with codec `json`, too."""
    value = fields.data.get(name)
    payload = normalise_value(fields, name)
    if payload is not None and isinstance(value, str) and _is_json(value):
        return Payload(AVRO, payload.blob, plain=value)
    return payload


def normalise_arguments(fields: Fields, name: str) -> Payload | None:
    """Arguments of a command (worker-protocol 9.2): as `normalise_value`, plain JSON that is no list becomes a list of one."""
    value = fields.data.get(name)
    if value is None or isinstance(value, list) or is_envelope(value):
        return normalise_value(fields, name)
    return _plain(value, [value])


def _plain(value: Any, listed: Any = None) -> Payload:
    """Plain JSON in both codecs. `listed`: what is encoded when the value is no ready blob in the codec, default itself."""
    text = compact(value if listed is None else listed)
    ready = isinstance(value, str) and is_avro_blob(value)
    return Payload(AVRO, value if ready else _wrapped(text), plain=text)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


EMPTY_LIST = Payload(AVRO, encode([]))
