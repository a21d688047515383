"""Task wake latency at low load: the standard workflow in an open loop at a fixed rate of starts, all polls parked.

A start does not wait for the one before, so a slow server cannot thin out its own load.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.programs import EchoProgram
from bench.rows import Result, Row, at_most, cpu_rows, plain, times_rows
from bench.stage import Stage

WAKE_P50_MS = 5.0
WAKE_P99_MS = 25.0


class Latency:
    """Wake latency is counted from the moment the start request leaves to the moment the parked poll has its task."""

    name = "latency"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        fleet = stage.fleet(EchoProgram(options.payload_bytes), options.workers)
        client = stage.client(fleet)
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()

        async def fire() -> None:
            began = loop.time()
            count = 0
            while not stopping.is_set():
                count += 1
                due = began + count / options.rate
                await asyncio.sleep(max(0.0, due - loop.time()))
                stage.board.note("start_lag", max(0.0, loop.time() - due))
                stage.launch(client.run_workflow())

        await fleet.register()
        await fleet.park(options.polls)
        stage.background(stage.watch(fleet))
        stage.background(fire())
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        client.close()
        return {"starts_per_second": options.rate, "pollers": len(fleet.pollers)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        wake = result["times_ms"].get("wake", {})
        return [
            at_most("workflow task wake p50", wake.get("p50"), "ms", WAKE_P50_MS),
            at_most("workflow task wake p99", wake.get("p99"), "ms", WAKE_P99_MS),
            plain("workflow task wake max", wake.get("max"), "ms"),
            *times_rows(
                result,
                {
                    "activity_wake": "activity task wake",
                    "resume_wake": "resumed workflow task wake",
                    "start_accepted": "start request",
                    "start_to_complete": "start to complete",
                },
            ),
            *cpu_rows(result),
        ]
