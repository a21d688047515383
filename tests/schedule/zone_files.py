"""The changes of offset that a zone file lists, read byte by byte (RFC 8536), without Python's `zoneinfo`."""

from __future__ import annotations

import struct
from functools import cache
from importlib.resources import files


@cache
def changes(name: str) -> list[tuple[int, int, int]]:
    """Instant, offset before, offset after, in seconds; those of the rule for the far future are not in the list."""
    data = files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    _, size = _header(data, 0, 4)
    counts, _ = _header(data, size, 8)
    utc_flags, standard_flags, leaps, times, types, letters = counts
    assert utc_flags + standard_flags + leaps + letters >= 0
    at = size + 44
    instants = struct.unpack_from(f">{times}q", data, at)
    at += 8 * times
    indexes = data[at : at + times]
    at += times
    offsets = [struct.unpack_from(">iBB", data, at + 6 * each)[0] for each in range(types)]
    found = []
    before = offsets[0]
    for instant, index in zip(instants, indexes, strict=True):
        if offsets[index] != before:
            found.append((instant, before, offsets[index]))
        before = offsets[index]
    return found


@cache
def names() -> list[str]:
    return files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()


def _header(data: bytes, at: int, width: int) -> tuple[tuple[int, ...], int]:
    """The six counts of a block, and where the block ends."""
    assert data[at : at + 4] == b"TZif"
    counts = struct.unpack_from(">6l", data, at + 20)
    utc_flags, standard_flags, leaps, times, types, letters = counts
    length = times * width + times + types * 6 + letters + leaps * (width + 4) + standard_flags + utc_flags
    return counts, at + 44 + length
