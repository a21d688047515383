"""The two framings of avro blobs, byte by byte: the generic wrapper and the Value frame (worker-protocol 9.3, 11.2)."""

from __future__ import annotations

import base64
import io
from typing import Any

import fastavro

from api.http.input.json_text import MAX_DEPTH

_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Payload",
        "namespace": "durable_workflow",
        "fields": [{"name": "json", "type": "string"}, {"name": "version", "type": "int"}],
    }
)
_WRAPPER_VERSION = 1
VALUE_FRAME = bytes.fromhex("c301e2a33dff55802237")


class Undecodable(Exception):
    """A blob that is not what its codec says."""


def wrapped(text: str) -> str:
    """The avro blob of a JSON text."""
    buffer = io.BytesIO(b"\x00")
    buffer.seek(1)
    fastavro.schemaless_writer(buffer, _SCHEMA, {"json": text, "version": _WRAPPER_VERSION})
    return base64.b64encode(buffer.getvalue()).decode()


def unwrap(data: bytes) -> tuple[str, int]:
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
    if length < 0:
        raise ValueError("negative length")
    return at + length


def _block(data: bytes, at: int) -> tuple[int, int]:
    """How many items the block of a list or map at `at` has, 0 at the end of all, and the position of the first."""
    count, at = _varint(data, at)
    if count < 0:
        _, at = _varint(data, at)
    return abs(count), at


# The first byte of a value tells its branch (worker-protocol 11.2): how many bytes the short ones take behind it.
_NULL, _BOOLEAN, _LONG, _DOUBLE, _BYTES, _STRING, _LIST, _MAP = range(0, 16, 2)
_FIXED = {_NULL: 0, _BOOLEAN: 1, _DOUBLE: 8}


def value_end(data: bytes, at: int) -> int:
    """The position behind the Avro `Value` at `at` (worker-protocol 11.2). Raises ValueError or IndexError when broken."""
    size = len(data)
    # Of each list or map around `at`: how many items of its block are still to come, and whether it is a map.
    around: list[tuple[int, bool]] = []
    left, is_map = 1, False
    while at <= size:
        if left == 0:
            if not around:
                return at
            left, at = _block(data, at)
            if left == 0:
                left, is_map = around.pop()
            continue
        left -= 1
        if is_map:
            at = _bytes_end(data, at)
        branch = data[at]
        at += 1
        fixed = _FIXED.get(branch)
        if fixed is not None:
            at += fixed
        elif branch == _LONG:
            at = _varint(data, at)[1]
        elif branch in (_BYTES, _STRING):
            at = _bytes_end(data, at)
        elif branch in (_LIST, _MAP) and len(around) < MAX_DEPTH:
            around.append((left, is_map))
            left, is_map = 0, branch == _MAP  # the count of its first block comes next
        else:
            raise ValueError("unknown branch, or too deep")
    raise ValueError("truncated")


def is_collection(data: bytes) -> bool:
    """Whether a Value frame is one of a list or a map."""
    return _varint(data, len(VALUE_FRAME))[0] in (6, 7)
