"""Time zones as pieces of constant offset, from the rules of the `tzdata` package (contract operations 1.2).

The package alone is read, never the machine's own zones: all nodes go by the same rules, which are part of the lock files.
A time is an int of seconds since the Unix epoch; a local time is one as if the zone were UTC.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo

DEFAULT = "UTC"

HOUR = 3600
DAY = 86_400

# Changes of offset are further apart than this in every zone (tests/schedule/test_zones.py).
_STEP = 6 * HOUR
# The longest jump of a clock is a day, so a change matters at most so long after it.
_BEHIND = 2 * DAY


class Piece(NamedTuple):
    """From `start` to before `end` the offset is `offset`; just before it was `before`, in seconds east of Greenwich."""

    start: int
    end: int
    before: int
    offset: int


@cache
def _names() -> dict[str, str]:
    """Every zone name by its folded spelling."""
    return {name.casefold(): name for name in files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()}


def known(name: str) -> str | None:
    """The zone's name as the database spells it, None for no zone; small and capital letters are the same here."""
    return _names().get(name.casefold())


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of a known name."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, name)


def offset_at(name: str, at: int) -> int:
    """Seconds that the zone is ahead of UTC."""
    offset = datetime.fromtimestamp(at, zone(name)).utcoffset()
    assert offset is not None
    return offset.days * DAY + offset.seconds


def piece_at(name: str, at: int) -> Piece:
    """The piece that `at` lies in, cut at the ends of UTC years."""
    year = datetime.fromtimestamp(at, UTC).year
    starts, pieces = _pieces(name, year)
    return pieces[bisect_right(starts, at) - 1]


@lru_cache(maxsize=8192)
def _pieces(name: str, year: int) -> tuple[list[int], list[Piece]]:
    """All pieces of a year, and of a little before it."""
    first, last = (int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) for each in (year, year + 1))
    first -= _BEHIND
    offset = offset_at(name, first)
    changes = [(first, offset, offset)]
    low = first
    while low < last:
        high = min(low + _STEP, last)
        after = offset_at(name, high)
        if after != offset:
            changes.append((_change(name, low, high, offset), offset, after))
            offset = after
        low = high
    changes = [each for each in changes if each[0] < last]
    ends = [*[each[0] for each in changes[1:]], last]
    return [each[0] for each in changes], [
        Piece(start, end, before, now) for (start, before, now), end in zip(changes, ends, strict=True)
    ]


def _change(name: str, low: int, high: int, offset: int) -> int:
    """The first instant after `low`, and at `high` at the latest, that has another offset."""
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(name, middle) == offset:
            low = middle
        else:
            high = middle
    return high
