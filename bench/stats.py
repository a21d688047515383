"""Percentiles of measured times."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TypedDict


class Summary(TypedDict):
    """A distribution of times in milliseconds; the numbers are None when nothing was measured."""

    count: int
    p50: float | None
    p99: float | None
    max: float | None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order; ValueError if there are none."""
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def summarize(seconds: Sequence[float]) -> Summary:
    """Times in seconds, in any order, as a summary in milliseconds."""
    if not seconds:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50": round(percentile(ordered, 50) * 1000, 3),
        "p99": round(percentile(ordered, 99) * 1000, 3),
        "max": round(ordered[-1] * 1000, 3),
    }
