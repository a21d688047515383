"""Starts alone, with and without five search attributes: what typed attributes cost where they are written.

Nobody works on what is started. Each start is answered before the next of its connection leaves.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bench.board import WrongAnswerError
from bench.fleet import checked
from bench.http import HttpError, Pool
from bench.payloads import encode
from bench.rows import Result, Row, at_most, per_unit_rows, plain, rate, times_rows
from bench.stage import Stage

MOST_MORE_PERCENT = 15.0


def five_attributes(rng: random.Random) -> dict[str, Any]:
    """A keyword of many values, one of few, a number, a date-time and a list."""
    return {
        "Customer": f"cust-{rng.randrange(20_000)}",
        "Region": f"region-{rng.randrange(8)}",
        "Amount": rng.randrange(10_000),
        "Due": f"2026-05-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:00:00Z",
        "Tags": [f"tag-{rng.randrange(50)}", f"tag-{rng.randrange(50)}"],
    }


class Starts:
    """A closed loop of starts."""

    nodes = 1

    def __init__(self, name: str, *, attributes: bool) -> None:
        self.name = name
        self._attributes = attributes

    async def run(self, stage: Stage) -> dict[str, Any]:
        options, board, node = stage.options, stage.board, stage.nodes[0]
        pool = Pool(node.address)
        rng = random.Random(1)
        blob = encode(["x" * options.payload_bytes])
        stopping = asyncio.Event()

        async def starter(number: int) -> None:
            count = 0
            while not stopping.is_set():
                count += 1
                name = f"{stage.name}-{number}-{count}"
                attributes = five_attributes(rng) if self._attributes else None
                began = board.clock()
                try:
                    request = node.wire.start_workflow(name, "bench.started", stage.name, blob, attributes)
                    checked(await pool.request(request), 201, "start")
                except (HttpError, WrongAnswerError) as error:
                    board.fail(f"start: {error}")
                board.note("start", board.clock() - began)
                board.count("starts")

        for number in range(min(16, options.in_flight)):
            stage.launch(starter(number))
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        pool.close()
        return {}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        found = [
            plain("starts", rate(result, "starts"), "/s"),
            *per_unit_rows(result, "starts", "start"),
            *times_rows(result, {"start": "start"}),
        ]
        if (without := others.get("starts")) is not None and self._attributes:
            more = 100 * (_cost(result) / _cost(without) - 1)
            found.append(at_most("more than without attributes", round(more, 1), "% CPU", MOST_MORE_PERCENT))
        return found


def _cost(result: Result) -> float:
    """CPU seconds of nodes and database per start."""
    groups = result["groups"]
    seconds: float = sum(groups[name]["cpu_seconds"] for name in ("nodes", "postgres") if name in groups)
    return seconds / max(1, result["counts"].get("starts", 0)) or 1.0
