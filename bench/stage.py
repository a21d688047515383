"""What a workload runs on inside the load generator: the servers, the books, and the measured window.

The window's borders are told to the runner as lines on stdout the moment they happen; it reads /proc then.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from bench.board import Board
from bench.client import Client
from bench.fleet import Fleet
from bench.http import Address
from bench.options import Options
from bench.programs import Program
from bench.wire import Node, Wire

SWEEP_SECONDS = 1.0


def say(event: str, **fields: Any) -> None:
    """Tell the runner one thing: a line of JSON on stdout, at once."""
    sys.stdout.buffer.write(orjson.dumps({"event": event, **fields}) + b"\n")
    sys.stdout.buffer.flush()


class Stage:
    """One run of one workload."""

    def __init__(self, options: Options, announce: Callable[..., None] = say) -> None:
        self.options = options
        self.board = Board()
        self.name = f"bench-{uuid.uuid4().hex[:10]}"
        addresses = [Address.of(url) for url in options.urls]
        self.nodes = [Node(address, Wire(address, options.token, options.namespace)) for address in addresses]
        self._announce = announce
        self._background: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        self._window_opened_at = 0.0
        self._own_cpu_at_open = 0.0
        self.window_seconds = 0.0
        self.own_cpu_seconds = 0.0

    def fleet(self, program: Program, workers: int) -> Fleet:
        """Workers for a program, each on a task queue of its own."""
        queues = [f"{self.name}-{number}" for number in range(workers)]
        return Fleet(self.name, self.nodes, self.board, program, queues)

    def client(self, fleet: Fleet) -> Client:
        """A starter of workflows for the workers of `fleet`."""
        return Client(self.name, self.nodes, self.board, fleet.program, fleet.task_queues)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something endless beside the load, until `finish`."""
        self._background.append(asyncio.get_running_loop().create_task(work))

    async def watch(self, fleet: Fleet, patience: float | None = None) -> None:
        """Endless: fail what takes longer than `patience` seconds (default: the options' patience)."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.board.sweep(patience or self.options.patience)
            fleet.sweep()

    async def window(self, seconds: float) -> None:
        """Measure for `seconds`, from now."""
        self._announce("open", seconds=seconds)
        self._own_cpu_at_open = _own_cpu()
        self._window_opened_at = self.board.clock()
        self.board.measuring = True
        await asyncio.sleep(seconds)
        self.board.measuring = False
        self.window_seconds = self.board.clock() - self._window_opened_at
        self.own_cpu_seconds = _own_cpu() - self._own_cpu_at_open
        self._announce("close")

    def launch(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that comes to an end by itself; `drain` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.board.fail(f"the load generator broke: {error!r}")

    async def drain(self) -> None:
        """Wait for what was launched, no longer than the patience; what is left then is a failure."""
        if not self._under_way:
            return
        _, left = await asyncio.wait(self._under_way, timeout=self.options.patience + 2 * SWEEP_SECONDS)
        for task in left:
            task.cancel()
            self.board.fail("a workflow's requests got no answer")

    async def finish(self) -> None:
        """End what runs in the background; if some of it had broken, that is a failure."""
        for task in self._background:
            task.cancel()
        for outcome in await asyncio.gather(*self._background, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                self.board.fail(f"the load generator broke: {outcome!r}")

    def result(self, **more: Any) -> dict[str, Any]:
        """The numbers of this run as they stand."""
        board = self.board
        seconds = self.window_seconds
        return {
            "window_seconds": round(seconds, 3),
            "completed": board.completed_in_window,
            "completed_per_second": round(board.completed_in_window / seconds, 2) if seconds else None,
            "started_in_all": board.started,
            "verified_in_all": board.verified,
            "late_polls": board.late_polls,
            "counts": dict(board.counts),
            "times_ms": board.times(),
            "generator_cpu_seconds": round(self.own_cpu_seconds, 3),
            "failure_count": board.failure_count,
            "failures": board.failures,
            **more,
        }


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system
