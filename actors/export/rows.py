"""Lists of a bundle, kept as text: in memory while they are short, in a temporary file when they grow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from actors.export.canonical import Written, written

_IN_MEMORY_BYTES = 4 << 20
_AT_ONCE = 64 << 10


class Spool:
    """Texts that are written once and read back in any order. Close it after use."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self._end = 0

    def add(self, text: bytes) -> tuple[int, int]:
        """Keep a text; where it is and how long."""
        self._file.seek(self._end)
        self._file.write(text)
        begin, self._end = self._end, self._end + len(text)
        return begin, len(text)

    def get(self, place: tuple[int, int]) -> bytes:
        """A text that was kept."""
        self._file.seek(place[0])
        return self._file.read(place[1])

    def close(self) -> None:
        """Nothing of it stays."""
        self._file.close()


class Rows:
    """A list of a bundle: rows in the order of their keys, which may be given in any order."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._places: list[tuple[int, tuple[int, int], tuple[int, int] | None]] = []
        self._sorted = True
        self.slots: list[tuple[int, Any]] = []  # what the payload manifest says of a row, with the row's key

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: int, text: Written, slots: Any = None) -> None:
        """One more row. `key`: its place among the others, first come first of equal ones."""
        counted = None if text.counted is text.sent else self._spool.add(text.counted)
        if self._places and key < self._places[-1][0]:
            self._sorted = False
        self._places.append((key, self._spool.add(text.sent), counted))
        if slots is not None:
            self.slots.append((key, slots))

    def sent(self) -> Iterator[bytes]:
        """The JSON text of the list, in pieces."""
        return self._text(counted=False)

    def counted(self) -> Iterator[bytes]:
        """The canonical text of the list, in pieces."""
        return self._text(counted=True)

    def ordered_slots(self) -> list[Any]:
        """The slots in the order of the rows."""
        return [slots for _, slots in sorted(self.slots, key=lambda item: item[0])]

    def _text(self, *, counted: bool) -> Iterator[bytes]:
        if not self._sorted:
            self._places.sort(key=lambda place: place[0])
            self._sorted = True
        piece = bytearray(b"[")
        for index, (_, sent, other) in enumerate(self._places):
            if index:
                piece += b","
            piece += self._spool.get(other if counted and other is not None else sent)
            if len(piece) >= _AT_ONCE:
                yield bytes(piece)
                piece.clear()
        yield bytes(piece + b"]")


class One:
    """A single value of a bundle."""

    def __init__(self, value: Any, odd: bool = False) -> None:
        """`odd`: it may hold a number that is kept as text."""
        self._text = written(value, odd)

    def sent(self) -> Iterator[bytes]:
        """The JSON text."""
        yield self._text.sent

    def counted(self) -> Iterator[bytes]:
        """The canonical text."""
        yield self._text.counted
