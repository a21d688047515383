"""Schedules: many that are due in the same second, and many that have nothing to do.

Nobody works on the runs they start. The spec is an interval of an hour whose offset lies in the window, so each fires once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from bench.board import WrongAnswerError
from bench.fleet import checked
from bench.http import HttpError, Pool
from bench.rows import Result, Row, at_most, plain
from bench.stage import Stage

LAG_MS = 500.0
CORE_PERCENT = 1.0
RSS_MIB = 250.0
_HOUR = 3600
_CONNECTIONS = 16
_PER_SECOND = 100  # schedules are created faster than that
_SETTLE_SECONDS = 5.0


class Schedules:
    """All are due at one moment of the window: how late they fire, and what that costs."""

    name = "schedules"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        count = options.schedules
        due = int(time.time() + options.warmup + count / _PER_SECOND)
        await _create(stage, count, due % _HOUR)
        await asyncio.sleep(due - time.time() - min(2.0, options.duration / 4))
        await stage.window(options.duration)
        await asyncio.sleep(_SETTLE_SECONDS)
        lags = sorted(await _lags(stage, count))
        if len(lags) != count:
            stage.board.fail(f"{len(lags)} of {count} schedules fired")
        await stage.finish()
        return {"schedules": count, "fired": len(lags), "lag_ms": {point: _point(lags, part) for point, part in _POINTS}}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        fired, lags = result["fired"], result["lag_ms"]
        cost = [
            plain(f"CPU {name}", round(1000 * group["cpu_seconds"] / fired, 3) if fired else None, "ms/fire with its start")
            for name, group in result["groups"].items()
        ]
        return [
            plain("schedules fired", fired, ""),
            plain("lag p50", lags["p50"], "ms"),
            at_most("lag p99", lags["p99"], "ms", LAG_MS),
            plain("lag max", lags["max"], "ms"),
            *cost,
        ]


class IdleSchedules:
    """None is due while it is measured: the price of having them."""

    name = "schedules-idle"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        count = options.idle_schedules
        await _create(stage, count, int(time.time() + _HOUR / 2) % _HOUR)
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        await stage.finish()
        return {"schedules": count}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        nodes = result["groups"].get("nodes", {})
        return [
            plain("schedules", result["schedules"], ""),
            at_most("CPU nodes", nodes.get("core_percent"), "% of a core", CORE_PERCENT),
            at_most("RSS nodes", nodes.get("rss_mib"), "MiB", RSS_MIB),
        ]


_POINTS = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


def _point(values: list[float], part: float) -> float | None:
    return values[min(int(len(values) * part), len(values) - 1)] if values else None


async def _create(stage: Stage, count: int, offset: int) -> None:
    node = stage.nodes[0]
    spec = {"intervals": [{"every": "PT1H", "offset": f"PT{offset}S"}]}
    action = {"workflow_type": "bench.scheduled", "task_queue": stage.name, "input": []}
    await _each(
        stage,
        (
            (node.wire.create_schedule({"schedule_id": f"{stage.name}-{number}", "spec": spec, "action": action}), 201)
            for number in range(count)
        ),
    )


async def _lags(stage: Stage, count: int) -> list[float]:
    """How many milliseconds after its occurrence each schedule fired, as far as they did."""
    node = stage.nodes[0]
    bodies = await _each(stage, ((node.wire.describe_schedule(f"{stage.name}-{number}"), 200) for number in range(count)))
    return [recent["fire_lag_ms"] for body in bodies for recent in body["info"]["recent_actions"] if "fire_lag_ms" in recent]


async def _each(stage: Stage, requests: Iterable[tuple[bytes, int]]) -> list[dict[str, Any]]:
    pool, left, found = Pool(stage.nodes[0].address), iter(requests), list[dict[str, Any]]()

    async def one_after_the_other() -> None:
        for request, expected in left:
            try:
                found.append(checked(await pool.request(request), expected, "schedule"))
            except (HttpError, WrongAnswerError) as error:
                stage.board.fail(f"schedule: {error}")

    await asyncio.gather(*(one_after_the_other() for _ in range(_CONNECTIONS)))
    pool.close()
    return found
