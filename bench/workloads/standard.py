"""Throughput and cost: the standard workflow in a closed loop, a fixed number of workflows in flight."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from bench.programs import EchoProgram, Program
from bench.rows import Result, Row, at_least, at_most, cpu_rows, plain, times_rows
from bench.stage import Stage

NODE_CPU_MS = 2.5
COMPLETED_PER_SECOND = 250.0


_GROUP = {"dispatch_budget_group": "all", "max_dispatches_per_minute_per_budget_group": 1_000_000}
# Every cap there is, none of them ever reached: what it costs to count.
EVERY_CAP: Mapping[str, str] = {
    **{
        f"DW_{kind}_TASK_MAX_{cap}": "1000000" if "DISPATCHES" in cap else "10000"
        for kind in ("WORKFLOW", "ACTIVITY")
        for cap in (
            "ACTIVE_LEASES_PER_QUEUE",
            "ACTIVE_LEASES_PER_NAMESPACE",
            "DISPATCHES_PER_MINUTE",
            "DISPATCHES_PER_MINUTE_PER_NAMESPACE",
        )
    },
    "DW_TASK_QUEUE_ADMISSION_OVERRIDES": json.dumps({"*": {"workflow_tasks": _GROUP, "activity_tasks": _GROUP}}),
}


class Standard:
    """`nodes` nodes share the load: every workflow crosses them where there are two."""

    def __init__(self, name: str, nodes: int) -> None:
        self.name = name
        self.nodes = nodes

    def program(self, payload_bytes: int) -> Program:
        """What is run in the loop."""
        return EchoProgram(payload_bytes)

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        fleet = stage.fleet(self.program(options.payload_bytes), options.workers)
        client = stage.client(fleet)
        stopping = asyncio.Event()

        async def lane() -> None:
            while not stopping.is_set():
                if not await client.run_workflow():
                    await asyncio.sleep(0.05)  # a server that refuses everything is not worth a hot loop

        await fleet.register()
        await fleet.park(options.polls)
        stage.background(stage.watch(fleet))
        for _ in range(options.in_flight):
            stage.launch(lane())
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        client.close()
        return {"in_flight": options.in_flight, "pollers": len(fleet.pollers)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        rate = result["completed_per_second"]
        alone = others.get("standard")
        if self.nodes == 1:
            head = [at_least("completed", rate, "workflows/s", COMPLETED_PER_SECOND)]
        elif alone and alone["completed_per_second"]:
            head = [at_least("completed (target: one node's)", rate, "workflows/s", alone["completed_per_second"])]
        else:
            head = [plain("completed", rate, "workflows/s")]
        kinds = {"start_to_complete": "start to complete", "wake": "workflow task wake", "activity_wake": "activity task wake"}
        rows = head + times_rows(result, kinds) + cpu_rows(result)
        if self.nodes == 1:
            rows = [at_most(row.label, row.value, row.unit, NODE_CPU_MS) if row.label == "CPU nodes" else row for row in rows]
        return rows
