"""Rows of the report: a measured number, and the target beside it where there is one."""

from __future__ import annotations

from typing import Any, NamedTuple

Result = dict[str, Any]
"""One workload's result: what the load generator told (`bench.stage.Stage.result`) and `groups` (`bench.runner`)."""


class Row(NamedTuple):
    """`target` is empty for a number without one; `met` is None then, and for a number that was not measured."""

    label: str
    value: float | None
    unit: str
    target: str = ""
    met: bool | None = None


def at_most(label: str, value: float | None, unit: str, limit: float) -> Row:
    """A row whose value should not exceed `limit`."""
    return Row(label, value, unit, f"<= {limit:g}", None if value is None else value <= limit)


def at_least(label: str, value: float | None, unit: str, limit: float) -> Row:
    """A row whose value should reach `limit`."""
    return Row(label, value, unit, f">= {limit:g}", None if value is None else value >= limit)


def plain(label: str, value: float | None, unit: str) -> Row:
    """A row without a target."""
    return Row(label, value, unit)


def times_rows(result: Result, kinds: dict[str, str]) -> list[Row]:
    """p50 and p99 of the kinds of times named, without targets."""
    times = result["times_ms"]
    return [
        plain(f"{label} {point}", times.get(kind, {}).get(point), "ms")
        for kind, label in kinds.items()
        for point in ("p50", "p99")
    ]


def cpu_rows(result: Result) -> list[Row]:
    """CPU per completed workflow of each process group that was measured."""
    return [
        plain(f"CPU {name}", group["cpu_ms_per_workflow"], "ms/workflow")
        for name, group in result["groups"].items()
        if group["cpu_ms_per_workflow"] is not None
    ]


def rate(result: Result, kind: str) -> float | None:
    """How many things of `kind` were done per second of the window."""
    seconds = result["window_seconds"]
    return round(result["counts"].get(kind, 0) / seconds, 2) if seconds else None


def per_unit_rows(result: Result, kind: str, unit: str) -> list[Row]:
    """CPU per thing of `kind` done, of each process group that was measured; `unit` is that thing's name."""
    done = result["counts"].get(kind, 0)
    return [
        plain(f"CPU {name}", round(1000 * group["cpu_seconds"] / done, 4) if done else None, f"ms/{unit}")
        for name, group in result["groups"].items()
    ]
