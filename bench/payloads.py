"""The Avro generic wrapper (contract worker-protocol 9.3) as a worker makes and reads it, by hand: two varints and a text."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import orjson


def encode(value: Any) -> str:
    """A JSON value as a wrapper blob."""
    text = orjson.dumps(value)
    zigzag = len(text) << 1
    size = bytearray()
    while zigzag > 0x7F:
        size.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    size.append(zigzag)
    return b64encode(b"\x00%b%b\x02" % (bytes(size), text)).decode("ascii")


def decode_stored(value: str | dict[str, str]) -> Any:
    """The JSON value of a payload as events hold it: a blob, or an envelope around one."""
    return decode(value["blob"] if isinstance(value, dict) else value)


def decode(blob: str) -> Any:
    """The JSON value in a wrapper blob; ValueError if it is not exactly one wrapper."""
    data = b64decode(blob, validate=True)
    if len(data) < 3 or data[0] != 0 or data[-1] != 2:
        raise ValueError("not an Avro wrapper")
    zigzag = shift = 0
    at = 1
    while True:
        byte = data[at]
        zigzag |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            break
        if at >= len(data):
            raise ValueError("the wrapper's length does not end")
    if (zigzag >> 1) != len(data) - at - 1:
        raise ValueError("the wrapper's length is not that of its text")
    return orjson.loads(data[at:-1])
