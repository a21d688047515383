"""The canonical text of JSON values that checksums of bundles are made of, and the text that is sent (operations 9.4).

Both are the same but for numbers that a reader cannot hold: one beyond the range of a double is sent as it was recorded and
counts in the checksum as whoever verifies it reads it (`Infinity`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

CANONICALIZATION = "json-recursive-ksort-v1"

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
# Numbers that are not what Python's own reader and writer would make of them, or that these refuse.
_ODD = re.compile(rb"[0-9]{300}|[0-9.][eE]\+?0*[0-9]{3}")
_LONGEST_INT = 4300  # digits that Python reads as an int


class Number(str):
    """A number as it was recorded, of any length."""

    __slots__ = ()

    @property
    def read(self) -> str:
        """As a verifier writes it that has read it."""
        if not set(self) & set(".eE"):
            return str(self)
        value = float(self)
        return ("-Infinity" if value < 0 else "Infinity") if math.isinf(value) else repr(value)


def read(text: bytes) -> tuple[Any, bool]:
    """A JSON text as values, and whether some numbers had to stay text (`Number`)."""
    if _ODD.search(text) is None:
        return json.loads(text), False
    odd: list[str] = []

    def number(digits: str) -> Any:
        if set(digits) & set(".eE"):
            if not math.isinf(value := float(digits)):
                return value
        elif len(digits) < _LONGEST_INT:
            return int(digits)
        odd.append(digits)
        return Number(digits)

    return json.loads(text, parse_int=number, parse_float=number), bool(odd)


class Written:
    """A value as text: `sent`, and `counted` in the checksum, mostly the same."""

    __slots__ = ("counted", "sent")

    def __init__(self, sent: bytes, counted: bytes | None = None) -> None:
        self.sent = sent
        self.counted = sent if counted is None else counted


def written(value: Any, odd: bool = False) -> Written:
    """A value as canonical text. `odd`: it may hold a `Number`."""
    if not odd:
        return Written(_encode(value).encode())
    return Written(_text(value, str).encode(), _text(value, lambda number: number.read).encode())


def event_text(line: bytes, shaped: Callable[[Any], Any]) -> tuple[Any, Written]:
    """A stored JSON text read, and what `shaped` makes of it as canonical text."""
    value, odd = read(line)
    return value, written(shaped(value), odd)


def _text(value: Any, number: Callable[[Number], str]) -> str:
    pieces: list[str] = []
    _write(value, number, pieces.append)
    return "".join(pieces)


def _write(value: Any, number: Callable[[Number], str], write: Callable[[str], None]) -> None:
    """One call per level: values may be as deep as half of what Python allows."""
    if isinstance(value, Number):
        write(number(value))
    elif isinstance(value, dict):
        begin = "{"
        for key in sorted(value):
            write(f"{begin}{encode_basestring(key)}:")
            _write(value[key], number, write)
            begin = ","
        write("}" if value else "{}")
    elif isinstance(value, list):
        begin = "["
        for item in value:
            write(begin)
            _write(item, number, write)
            begin = ","
        write("]" if value else "[]")
    else:
        write(_encode(value))


class Seal:
    """Checksum, and signature where there is a key, of what is counted in canonical order."""

    def __init__(self, key: str | None, key_id: str | None) -> None:
        """`key`: of the signature; None or empty for none."""
        self._sha = hashlib.sha256()
        self._mac = hmac.new(key.encode(), digestmod=hashlib.sha256) if key else None
        self._key_id = key_id

    def count(self, text: bytes) -> None:
        """What comes next."""
        self._sha.update(text)
        if self._mac is not None:
            self._mac.update(text)

    def integrity(self) -> dict[str, Any]:
        """The `integrity` object of the bundle."""
        signed = self._mac is not None
        return {
            "canonicalization": CANONICALIZATION,
            "checksum_algorithm": "sha256",
            "checksum": self._sha.hexdigest(),
            "signature_algorithm": "hmac-sha256" if signed else None,
            "signature": self._mac.hexdigest() if self._mac is not None else None,
            "key_id": self._key_id if signed else None,
        }
