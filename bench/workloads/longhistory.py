"""Long histories: one run is built up to thousands of events, then woken by signals a few times a second.

Two workloads: in one the worker reads the first page that comes with the poll, in the other all pages, as the SDK does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bench.board import Board, Flight, WrongAnswerError
from bench.fleet import checked
from bench.groups import START
from bench.http import Pool
from bench.payloads import decode, decode_stored, encode
from bench.programs import Program
from bench.rows import Result, Row, at_most, per_unit_rows, plain, times_rows
from bench.stage import Stage
from bench.workloads.signals import WAIT, numbers

BATCH = 1000
PAGE = 500
TASKS_PER_SECOND = 10.0
BUILD_PATIENCE_SECONDS = 120.0
POLL_MS = 150.0
NODE_CPU_MS = 60.0


class LongProgram(Program):
    """A workflow that records side effects until its history has `length` events, then waits for signals."""

    workflow_type = "bench.long"
    long_history = True

    def __init__(self, length: int, *, reads_all_pages: bool) -> None:
        self._length = length
        self.reads_all_pages = reads_all_pages
        self.last_signal: int | None = None  # set: the signal that ends the workflow
        self.parked = asyncio.Event()
        """Set whenever the completion that leaves the run waiting was answered."""

    def make_input(self, workflow_id: str) -> list[Any]:
        return [self._length]

    def decide(self, flight: Flight, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Batches of side effects, the last one with the wait; then the wait again for each signal but the last."""
        total = task["total_history_events"]
        if flight.state is None:  # still building
            missing = self._length - 1 - total
            made = max(0, min(BATCH if missing > BATCH else BATCH - 1, missing))
            commands = [{"type": "record_side_effect", "result": encode([total + 1 + number])} for number in range(made)]
            if total + made < self._length - 1:
                return commands
            flight.state = 0  # signals seen
            return [*commands, WAIT]
        expected = self._length + 2 * flight.state + 1
        if total != expected:
            raise WrongAnswerError(f"a task of {total} events, not {expected}")
        self._check_page(flight, task)
        flight.state += 1
        if flight.state - 1 == self.last_signal:
            return [{"type": "complete_workflow", "result": {"codec": "avro", "blob": encode(flight.state)}}]
        return [WAIT]

    def _check_page(self, flight: Flight, task: dict[str, Any]) -> None:
        events, total = task["history_events"], task["total_history_events"]
        shown = total if self.reads_all_pages else min(PAGE, total)
        if [event["sequence"] for event in events] != list(range(1, shown + 1)):
            raise WrongAnswerError(f"the page does not hold the events 1 to {shown}")
        effects = [event for event in events if event["event_type"] == "SideEffectRecorded"]
        if [event["event_type"] for event in events[:2]] != START or len(effects) != min(shown, self._length - 1) - 2:
            raise WrongAnswerError(f"the page holds {len(effects)} side effects")
        if any(decode(event["payload"]["result"]) != [event["sequence"]] for event in effects):
            raise WrongAnswerError("a side effect stands in another's place")
        if self.reads_all_pages and numbers(events) != list(range(flight.state + 1)):
            raise WrongAnswerError(f"the view shows the signals {numbers(events)}")

    def answered(
        self, flight: Flight, task: dict[str, Any], commands: list[dict[str, Any]], answer: dict[str, Any], board: Board
    ) -> None:
        if commands[-1] is WAIT:
            self.parked.set()

    def verify(self, flight: Flight, events: Sequence[dict[str, Any]]) -> None:
        """Every event in its place, also in the history of the control plane."""
        if [event["sequence"] for event in events] != list(range(1, len(events) + 1)):
            raise WrongAnswerError("wrong history: the sequences have gaps")
        effects = [decode(event["payload"]["result"]) for event in events if event["event_type"] == "SideEffectRecorded"]
        if effects != [[sequence] for sequence in range(3, self._length)] or numbers(events) != list(range(flight.state)):
            raise WrongAnswerError(f"wrong history: {len(effects)} side effects, signals {numbers(events)}")
        if events[-1]["event_type"] != "WorkflowCompleted" or decode_stored(events[-1]["payload"]["output"]) != flight.state:
            raise WrongAnswerError("wrong history: not completed with the number of signals")


class LongHistory:
    """One run, signalled again when the task before is complete, at a steady pace."""

    nodes = 1

    def __init__(self, name: str, *, reads_all_pages: bool) -> None:
        self.name = name
        self._reads_all_pages = reads_all_pages

    async def run(self, stage: Stage) -> dict[str, Any]:
        options, board = stage.options, stage.board
        program = LongProgram(options.history_events, reads_all_pages=self._reads_all_pages)
        fleet = stage.fleet(program, 1)
        client = stage.client(fleet)
        node = stage.nodes[0]
        pool = Pool(node.address)
        stopping = asyncio.Event()

        async def signal(flight: Flight, number: int) -> None:
            flight.touched_at = board.clock()
            checked(await pool.request(node.wire.signal(flight.workflow_id, "tick", [number])), 202, "signal")

        async def wake() -> None:
            await asyncio.wait_for(program.parked.wait(), BUILD_PATIENCE_SECONDS)
            (flight,) = board.flights.values()
            number = 0
            while True:
                if stopping.is_set():
                    program.last_signal = number
                    return await signal(flight, number)
                began = board.clock()
                program.parked.clear()
                await signal(flight, number)
                await asyncio.wait_for(program.parked.wait(), options.patience)
                board.note("task", board.clock() - began)
                number += 1
                await asyncio.sleep(max(0.0, 1 / TASKS_PER_SECOND - (board.clock() - began)))

        await fleet.register()
        await fleet.park(2, activity_polls=0)
        stage.background(stage.watch(fleet, BUILD_PATIENCE_SECONDS + options.warmup + options.duration + options.patience))
        stage.launch(client.run_workflow())
        built = board.clock()
        await asyncio.wait_for(program.parked.wait(), BUILD_PATIENCE_SECONDS)
        built = board.clock() - built
        stage.launch(wake())
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        pool.close()
        client.close()
        return {"history_events": options.history_events, "build_seconds": round(built, 3)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        wake = result["times_ms"].get("resume_wake", {})
        return [
            plain("events before the first signal", result["history_events"], ""),
            plain("tasks in the window", result["counts"].get("workflow_tasks"), ""),
            plain("signal to poll answered p50", wake.get("p50"), "ms"),
            at_most("signal to poll answered max", wake.get("max"), "ms", POLL_MS),
            *(
                at_most(row.label, row.value, row.unit, NODE_CPU_MS) if row.label == "CPU nodes" else row
                for row in per_unit_rows(result, "workflow_tasks", "task")
            ),
            *times_rows(result, {"history_pages": "further pages of a task", "task": "signal to task complete"}),
        ]
