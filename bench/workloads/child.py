"""Children: a workflow starts twenty children at once, each completes at its first task, and the parent returns their results.

Each child's end wakes the parent, whose worker sends the whole list again until all are resolved; that is part of the cost.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.board import Board, Flight, WrongAnswerError
from bench.groups import START, GroupProgram
from bench.payloads import decode, encode
from bench.rows import Result, Row, at_most, per_unit_rows, plain, rate, times_rows
from bench.stage import Stage

CHILDREN = 20
IN_FLIGHT = 8
NODE_CPU_MS = 3.0


class ChildProgram(GroupProgram):
    """A list of children."""

    workflow_type = "bench.parent"
    child_type = "bench.child"
    steps = ("ChildWorkflowScheduled", "ChildRunStarted", "ChildRunCompleted")
    tasks_created = 0  # the children are created right after the answer

    @property
    def workflow_types(self) -> tuple[str, ...]:
        return (self.workflow_type, self.child_type)

    def command(self, workflow_id: str, index: int, task_queue: str) -> dict[str, Any]:
        return {
            "type": "start_child_workflow",
            "workflow_type": self.child_type,
            "arguments": {"codec": "avro", "blob": encode([workflow_id, index])},
            "queue": task_queue,
            "parent_close_policy": "terminate",
        }

    def flight_id(self, task: dict[str, Any]) -> str:
        """A child's arguments name the workflow that the load has started."""
        if task["workflow_type"] != self.child_type:
            return super().flight_id(task)
        found: str = decode(task["arguments"]["blob"])[0]
        return found

    def decide(self, flight: Flight, task: dict[str, Any]) -> list[dict[str, Any]]:
        """A child completes at once with its index; the parent as any group."""
        if task["workflow_type"] != self.child_type:
            return super().decide(flight, task)
        shown = [event["event_type"] for event in task["history_events"]]
        if shown != START[1:]:
            raise WrongAnswerError(f"a child's first workflow task shows {shown}")
        index = self.member(flight, task["arguments"])
        return [{"type": "complete_workflow", "result": {"codec": "avro", "blob": encode(index)}}]

    def answered(
        self, flight: Flight, task: dict[str, Any], commands: list[dict[str, Any]], answer: dict[str, Any], board: Board
    ) -> None:
        super().answered(flight, task, commands, answer, board)
        board.count("children" if task["workflow_type"] == self.child_type else "parent_tasks")


class Child:
    """A closed loop of parents."""

    name = "child"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        fleet = stage.fleet(ChildProgram(CHILDREN), options.workers)
        client = stage.client(fleet)
        stopping = asyncio.Event()

        async def lane() -> None:
            while not stopping.is_set():
                if not await client.run_workflow():
                    await asyncio.sleep(0.05)

        await fleet.register()
        await fleet.park(options.polls, activity_polls=0)
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
        return {"children": CHILDREN, "in_flight": IN_FLIGHT, "pollers": len(fleet.pollers)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        families = result["counts"].get("children", 0) / CHILDREN
        tasks = result["counts"].get("parent_tasks", 0)
        return [
            plain("children completed", rate(result, "children"), "children/s"),
            *(
                at_most(row.label, row.value, row.unit, NODE_CPU_MS) if row.label == "CPU nodes" else row
                for row in per_unit_rows(result, "children", "child")
            ),
            plain("workflow tasks per parent", tasks / families if families else None, ""),
            *times_rows(result, {"start_to_complete": "parent start to complete"}),
        ]
