"""Times as the contract writes them. Inside the system a time is an int: microseconds since the Unix epoch, UTC.

A time read from a clock, or handed on as the present, is `Micros`; what is reckoned from it is an int again, as sums are.
"""

from __future__ import annotations

import time
from typing import NewType

Micros = NewType("Micros", int)

SECOND = 1_000_000

_cached_second = -1
_cached_text = ""


def iso(micros: int) -> str:
    """`2026-04-20T09:15:00.000000Z`, the form of envelopes (engine-semantics 2.1)."""
    global _cached_second, _cached_text
    second, rest = divmod(micros, SECOND)
    if second != _cached_second:
        _cached_text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _cached_second = second
    return f"{_cached_text}{rest:06d}Z"


def iso_or_none(micros: int | None) -> str | None:
    """`iso`, or None for None."""
    return None if micros is None else iso(micros)


def iso_seconds(micros: int) -> str:
    """`2026-04-20T09:15:00+00:00`, the form of deadlines and messages (worker-protocol 2.7, engine-semantics 5.3)."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(micros // SECOND))
