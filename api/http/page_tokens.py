"""Page tokens: opaque texts that name a position, never a count of rows (control-plane 5.3, 6.1; worker-protocol 4.6).

A position in a history is a sequence number, its token is base64 of its decimal digits. A position in a list is the sort key
of the last item shown; its token also says which list it was made for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

_MARK_BYTES = 8


def encode(number: int) -> str:
    """The token of a sequence number."""
    return base64.b64encode(str(number).encode()).decode()


def decode(token: str) -> int | None:
    """The sequence number in a token, None when it is not readable."""
    try:
        digits = base64.b64decode(token.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return int(digits) if digits.isdigit() and len(digits) <= 18 else None


class ListTokens:
    """Tokens of one list: `parts` name it, its namespace and its filters. `key` is the type of a position (a NamedTuple).

    The marks in a token tell damage and foreign tokens apart from good ones; they keep nothing secret and grant nothing.
    """

    def __init__(self, key: Any, *parts: str | None) -> None:
        self._key = key
        self._list = _mark(msgspec.msgpack.encode(parts))

    def encode(self, position: Sequence[Any]) -> str:
        """The token of the position of the last item shown."""
        marked = self._list + msgspec.msgpack.encode(tuple(position))
        return base64.urlsafe_b64encode(_mark(marked) + marked).decode().rstrip("=")

    def decode(self, token: object) -> Any:
        """The position in a token; None for one that is not readable or of another list: the first page (control-plane 5.3)."""
        text = token.strip() if isinstance(token, str) else ""
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        marked = data[_MARK_BYTES:]
        if len(marked) <= _MARK_BYTES or _mark(marked) != data[:_MARK_BYTES]:
            return None
        if marked[:_MARK_BYTES] != self._list:
            return None
        try:
            return msgspec.msgpack.decode(marked[_MARK_BYTES:], type=self._key)
        except msgspec.MsgspecError:
            return None


def _mark(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_MARK_BYTES).digest()
