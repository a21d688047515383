"""The price of waiting: thousands of parked polls on one node, no work, and the health check answered meanwhile.

The window is a whole number of poll holds, so that each poll ends empty and is sent again once per hold, as real workers do;
that traffic and the health probes are part of the measured CPU.
"""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Any

from bench.board import WrongAnswerError
from bench.fleet import checked
from bench.http import HttpError, Pool
from bench.programs import EchoProgram
from bench.rows import Result, Row, at_most, plain
from bench.stage import Stage

POLLS_PER_WORKER_AND_FAMILY = 50
HEALTH_PERIOD_SECONDS = 0.5
NODE_CORE_PERCENT = 2.0
NODE_RSS_MIB = 400.0
HEALTH_MS = 20.0


class Idle:
    """Half of the polls ask for workflow tasks, half for activity tasks."""

    name = "idle"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options, board = stage.options, stage.board
        workers = max(1, ceil(options.parked / (2 * POLLS_PER_WORKER_AND_FAMILY)))
        fleet = stage.fleet(EchoProgram(options.payload_bytes), workers)
        node = stage.nodes[0]
        pool = Pool(node.address)

        async def probe() -> None:
            while True:
                began = board.clock()
                try:
                    checked(await pool.request(node.wire.health), 200, "health")
                except (HttpError, WrongAnswerError) as error:
                    board.fail(f"health: {error}")
                board.note("health", board.clock() - began)
                await asyncio.sleep(HEALTH_PERIOD_SECONDS)

        await fleet.register()
        hold = max(1.0, fleet.long_poll_timeout)
        polls_each = ceil(options.parked / (2 * workers))
        # Spread over most of a hold: workers that all re-poll in the same second are another question than idling.
        await fleet.park(polls_each, per_second=options.parked / min(10.0, hold * 0.8))
        stage.background(stage.watch(fleet))
        stage.background(probe())
        await asyncio.sleep(options.warmup)
        parked_at_open = fleet.parked()
        await stage.window(ceil(options.duration / hold) * hold)
        parked_at_close = fleet.parked()
        await stage.finish()
        await fleet.stop()
        pool.close()
        wanted = 2 * workers * polls_each
        if min(parked_at_open, parked_at_close) < 0.99 * wanted:
            board.fail(f"only {parked_at_open} and {parked_at_close} of {wanted} polls are held at the window's borders")
        return {"parked": parked_at_close, "poll_hold_seconds": hold, "polls": sum(poller.polls for poller in fleet.pollers)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        nodes = result["groups"].get("nodes", {})
        health = result["times_ms"].get("health", {})
        return [
            plain("polls parked", result["parked"], ""),
            at_most("CPU nodes", nodes.get("core_percent"), "% of a core", NODE_CORE_PERCENT),
            at_most("RSS nodes", nodes.get("rss_mib"), "MiB", NODE_RSS_MIB),
            plain("health p50", health.get("p50"), "ms"),
            at_most("health max", health.get("max"), "ms", HEALTH_MS),
        ]
