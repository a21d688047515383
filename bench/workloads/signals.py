"""Signals: a fixed rate of signals to a hundred runs, each parked on a condition wait that is opened again until the run has
received its quota.

A worker of the measured generation is shown one new signal per workflow task, so each signal costs a signal request, a poll and
a completion. Signals to one run leave one after the other, so their order is known.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from bench.board import Board, Flight, WrongAnswerError
from bench.fleet import checked
from bench.groups import START
from bench.http import HttpError, Pool
from bench.payloads import decode_stored, encode
from bench.programs import Program
from bench.rows import Result, Row, at_least, per_unit_rows, plain, rate, times_rows
from bench.stage import Stage

RUNS = 100
QUOTA = 50
SIGNAL = "tick"
SIGNALS_PER_SECOND = 1000.0
TICK_SECONDS = 0.005
WAIT = {
    "type": "open_condition_wait",
    "condition_key": "all-ticks",
    "condition_definition_fingerprint": "sha256:" + "5" * 64,
}


class Inbox:
    """Signals of one run."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.sent_at: list[float] = []
        self.shown = 0


class SignalsProgram(Program):
    """A workflow that waits for as many signals as its argument says and returns that number."""

    workflow_type = "bench.signals"
    one_at_a_time = False

    def __init__(self) -> None:
        self.ready: deque[Flight] = deque()
        """Runs that may be sent their next signal: parked, under quota, the last signal answered."""
        self._made = 0

    def make_input(self, workflow_id: str) -> list[int]:
        """The quota; the first runs have smaller ones, so that they do not all end at the same time."""
        self._made += 1
        return [QUOTA if self._made > RUNS else 1 + self._made * (QUOTA - 1) // RUNS]

    def decide(self, flight: Flight, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Exactly one new signal per task, in the order they were sent."""
        events = task["history_events"]
        if task["next_history_page_token"] is not None:
            raise WrongAnswerError("a history of few events came in pages")
        if flight.state is None:
            shown = [event["event_type"] for event in events]
            if shown != START:
                raise WrongAnswerError(f"the first workflow task shows {shown}")
            flight.state = Inbox(flight.input[0])
            return [WAIT]
        inbox: Inbox = flight.state
        received = numbers(events)
        if received != list(range(inbox.shown + 1)) or len(received) > len(inbox.sent_at):
            raise WrongAnswerError(f"the view shows the signals {received} after {inbox.shown} of {len(inbox.sent_at)} sent")
        inbox.shown += 1
        if inbox.shown < inbox.quota:
            return [WAIT]
        return [{"type": "complete_workflow", "result": {"codec": "avro", "blob": encode(inbox.shown)}}]

    def answered(
        self, flight: Flight, task: dict[str, Any], commands: list[dict[str, Any]], answer: dict[str, Any], board: Board
    ) -> None:
        """The task that showed a signal is complete: that one is applied."""
        inbox: Inbox = flight.state
        if not inbox.shown:
            self.ready.append(flight)
            return
        board.count("applied")
        board.note("applied", board.clock() - inbox.sent_at[inbox.shown - 1])

    def verify(self, flight: Flight, events: Sequence[dict[str, Any]]) -> None:
        """Every signal once and in order; the wait is opened for each and satisfied by the last."""
        quota = flight.input[0]
        kinds = [event["event_type"] for event in events]
        if kinds[:2] != START or kinds[-2:] != ["ConditionWaitSatisfied", "WorkflowCompleted"]:
            raise WrongAnswerError(f"wrong history: it begins {kinds[:2]} and ends {kinds[-2:]}")
        if numbers(events) != list(range(quota)) or kinds.count("ConditionWaitOpened") != quota or len(events) != 2 * quota + 4:
            raise WrongAnswerError(f"wrong history: signals {numbers(events)}, {len(events)} events")
        if decode_stored(events[-1]["payload"]["output"]) != quota:
            raise WrongAnswerError("the result is not the number of signals")


def numbers(events: Sequence[dict[str, Any]]) -> list[int]:
    """What the received signals say, in the order of the events."""
    return [decode_stored(event["payload"]["arguments"])[0] for event in events if event["event_type"] == "SignalReceived"]


class Sender:
    """Sends signals at a fixed rate to the runs that are ready for one, in turn."""

    def __init__(self, stage: Stage, program: SignalsProgram) -> None:
        self._stage = stage
        self._board = stage.board
        self._ready = program.ready
        self._wires = [node.wire for node in stage.nodes]
        self._pools = [Pool(node.address) for node in stage.nodes]
        self._sent = 0

    async def run(self, per_second: float) -> None:
        """Endless. What is due while no run is ready is sent as soon as one is, but no more than a second's worth of it."""
        clock = self._board.clock
        began = clock()
        while True:
            due = int((clock() - began) * per_second)
            if due - self._sent > per_second:
                self._sent = due - int(per_second)
            while self._sent < due and self._ready:
                self._sent += 1
                self._stage.launch(self._send(self._ready.popleft()))
            await asyncio.sleep(TICK_SECONDS)

    async def _send(self, flight: Flight) -> None:
        board, inbox = self._board, flight.state
        node = self._sent % len(self._wires)
        number = len(inbox.sent_at)
        began = board.clock()
        inbox.sent_at.append(began)
        try:
            request = self._wires[node].signal(flight.workflow_id, SIGNAL, [number])
            answer = checked(await self._pools[node].request(request), 202, "signal")
            if answer["outcome"] != "signal_received" or answer["run_id"] != flight.run_id:
                raise WrongAnswerError(f"signal: {answer['outcome']=}, {answer['run_id']=}")
        except (HttpError, WrongAnswerError, KeyError, ValueError) as error:
            board.fail_flight(flight, WrongAnswerError(f"{type(error).__name__}: {error}"))
            return
        board.count("accepted")
        board.note("accepted", board.clock() - began)
        if number + 1 < inbox.quota:
            self._ready.append(flight)

    def close(self) -> None:
        """Drop all connections."""
        for pool in self._pools:
            pool.close()


class Signals:
    """A hundred runs at a time; one that ends is followed by the next."""

    name = "signals"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        program = SignalsProgram()
        fleet = stage.fleet(program, options.workers)
        client = stage.client(fleet)
        sender = Sender(stage, program)
        stopping = asyncio.Event()

        async def lane() -> None:
            while not stopping.is_set():
                if not await client.run_workflow():
                    await asyncio.sleep(0.05)

        await fleet.register()
        await fleet.park(options.polls, activity_polls=0)
        stage.background(stage.watch(fleet))
        for _ in range(RUNS):
            stage.launch(lane())
        stage.background(sender.run(options.signal_rate))
        await asyncio.sleep(options.warmup)
        await stage.window(options.duration)
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        sender.close()
        client.close()
        return {"runs": RUNS, "quota": QUOTA, "signals_offered_per_second": options.signal_rate, "pollers": len(fleet.pollers)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        return [
            at_least("signals accepted", rate(result, "accepted"), "signals/s", SIGNALS_PER_SECOND),
            at_least("signals applied", rate(result, "applied"), "signals/s", SIGNALS_PER_SECOND),
            *per_unit_rows(result, "applied", "signal"),
            *times_rows(result, {"accepted": "signal accepted", "applied": "signal applied"}),
            plain("workflows completed", result["completed_per_second"], "workflows/s"),
        ]
