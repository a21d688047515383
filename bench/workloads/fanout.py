"""Fan-out: a workflow yields hundreds of activities at once; its workers send the whole list again while one is unresolved.

A fast program in the place of the SDK's replay would answer each workflow task at once and so make many more of them than any
worker can. Therefore each worker works on one workflow task at a time and takes the time the SDK needs for it
(`--replay` scales that time).
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.board import Flight, WrongAnswerError
from bench.groups import GroupProgram
from bench.payloads import encode
from bench.rows import Result, Row, at_least, at_most, per_unit_rows, plain, rate, times_rows
from bench.stage import Stage

FAN = 500
IN_FLIGHT = 4
ACTIVITIES_PER_SECOND = 1500.0
NODE_CPU_MS = 0.5

# SDK 0.4.84 on a machine of the kind this is developed on: 14 ms for the replay of 504 events, 19 ms to 30 ms for 1,300 to
# 1,502; 8 ms to make 500 commands.
REPLAY_SECONDS_PER_EVENT = 16e-6
REPLAY_SECONDS_PER_COMMAND = 16e-6


class FanoutProgram(GroupProgram):
    """A list of activities."""

    workflow_type = "bench.fanout"
    activity_type = "bench.item"
    steps = ("ActivityScheduled", "ActivityStarted", "ActivityCompleted")
    tasks_created = 1

    def __init__(self, size: int, replay: float) -> None:
        """`replay`: the worker's replay time as a multiple of the SDK's."""
        super().__init__(size)
        self._replay = replay

    def command(self, workflow_id: str, index: int, task_queue: str) -> dict[str, Any]:
        return {
            "type": "schedule_activity",
            "activity_type": self.activity_type,
            "arguments": {"codec": "avro", "blob": encode([workflow_id, index])},
            "queue": task_queue,
        }

    def replay_seconds(self, task: dict[str, Any], commands: list[dict[str, Any]]) -> float:
        events, made = len(task["history_events"]), len(commands)
        return self._replay * (events * REPLAY_SECONDS_PER_EVENT + made * REPLAY_SECONDS_PER_COMMAND)

    def perform(self, flight: Flight, task: dict[str, Any]) -> dict[str, str]:
        """The member's index. Nothing fails here, so a second delivery is the server's mistake."""
        if task["attempt_number"] != 1:
            raise WrongAnswerError(f"an activity came as attempt {task['attempt_number']}")
        return {"codec": "avro", "blob": encode(self.member(flight, task["arguments"]))}


class Fanout:
    """A few fan-outs at a time, one after the other in each lane."""

    name = "fanout"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        fleet = stage.fleet(FanoutProgram(FAN, options.replay), min(options.workers, IN_FLIGHT))
        client = stage.client(fleet)
        stopping = asyncio.Event()

        async def lane() -> None:
            while not stopping.is_set():
                if not await client.run_workflow():
                    await asyncio.sleep(0.05)

        await fleet.register()
        await fleet.park(1, activity_polls=options.polls)
        stage.background(stage.watch(fleet))
        for _ in range(IN_FLIGHT):
            stage.launch(lane())
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        client.close()
        return {"fan": FAN, "in_flight": IN_FLIGHT, "pollers": len(fleet.pollers)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        fans = result["counts"].get("activities", 0) / FAN
        tasks = result["counts"].get("workflow_tasks", 0)
        return [
            at_least("activities completed", rate(result, "activities"), "activities/s", ACTIVITIES_PER_SECOND),
            *(
                at_most(row.label, row.value, row.unit, NODE_CPU_MS) if row.label == "CPU nodes" else row
                for row in per_unit_rows(result, "activities", "activity")
            ),
            plain("workflow tasks per fan-out", tasks / fans if fans else None, ""),
            *times_rows(result, {"start_to_complete": "start to complete", "history_pages": "further pages of a task"}),
        ]
