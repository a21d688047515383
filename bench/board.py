"""The load generator's books: workflows in flight, measured times, and everything that went wrong."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench.stats import Summary, summarize

KEPT_FAILURES = 20


class WrongAnswerError(Exception):
    """The server's answer is not what the contract and the workflow's program demand."""


class Flight:
    """One workflow under way. Times are `time.perf_counter` seconds."""

    __slots__ = (
        "activities_seen",
        "done",
        "finished_at",
        "input",
        "run_id",
        "started_at",
        "state",
        "tasks_seen",
        "touched_at",
        "workflow_id",
    )

    def __init__(self, workflow_id: str, value: Any, done: asyncio.Future[None]) -> None:
        self.workflow_id = workflow_id
        self.input = value
        self.run_id = ""
        self.done = done  # resolves when the run has completed, fails when it went wrong
        self.started_at = self.touched_at = 0.0  # touched: when the request left that made its newest task ready
        self.finished_at = 0.0
        self.tasks_seen = 0
        self.activities_seen = 0
        self.state: Any = None  # the program's own notes


class Board:
    """Flights by workflow id, and the numbers of the measured window (recorded while `measuring`)."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.flights: dict[str, Flight] = {}
        self.measuring = False
        self.started = 0
        self.verified = 0
        self.completed_in_window = 0
        self.late_polls = 0
        self.counts: Counter[str] = Counter()
        self.failure_count = 0
        self.failures: list[str] = []
        self._times: defaultdict[str, list[float]] = defaultdict(list)

    def take_off(self, workflow_id: str, value: Any) -> Flight:
        """Note a workflow just before its start request is sent."""
        flight = Flight(workflow_id, value, asyncio.get_running_loop().create_future())
        flight.started_at = flight.touched_at = self.clock()
        self.flights[workflow_id] = flight
        self.started += 1
        return flight

    def flight(self, workflow_id: str) -> Flight:
        """The flight a task belongs to; `WrongAnswerError` if there is none (any more)."""
        try:
            return self.flights[workflow_id]
        except KeyError:
            raise WrongAnswerError(f"a task of {workflow_id}, which is not in flight") from None

    def task_arrived(self, kind: str, flight: Flight, polled_at: float, now: float) -> None:
        """Measure a wake: from the request that made the task ready to its arrival at a poll that was parked before."""
        if not self.measuring:
            return
        if polled_at < flight.touched_at:
            self._times[kind].append(now - flight.touched_at)
        else:
            self.late_polls += 1

    def landed(self, flight: Flight) -> None:
        """The run's completing request was answered."""
        flight.finished_at = self.clock()
        if self.measuring:
            self.completed_in_window += 1
            self._times["start_to_complete"].append(flight.finished_at - flight.started_at)
        if not flight.done.done():
            flight.done.set_result(None)

    def note(self, kind: str, seconds: float) -> None:
        """Record one time of `kind` if the window is open."""
        if self.measuring:
            self._times[kind].append(seconds)

    def count(self, kind: str, number: int = 1) -> None:
        """Count things done, by kind, if the window is open."""
        if self.measuring:
            self.counts[kind] += number

    def fail(self, what: str) -> None:
        """Count a failure; the first ones are kept in words."""
        self.failure_count += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(what)

    def fail_flight(self, flight: Flight, error: Exception) -> None:
        """Make the workflow's own coroutine see (and report) what went wrong with it."""
        if not flight.done.done():
            flight.done.set_exception(error)

    def sweep(self, patience: float) -> None:
        """Fail the flights that are older than `patience` seconds and not complete."""
        oldest = self.clock() - patience
        for flight in list(self.flights.values()):
            if flight.started_at < oldest and not flight.finished_at:
                self.fail_flight(
                    flight, WrongAnswerError(f"not complete after {patience:g} s ({flight.tasks_seen} workflow tasks seen)")
                )

    def times(self) -> dict[str, Summary]:
        """Distributions of all times recorded in the window, by kind."""
        return {kind: summarize(values) for kind, values in sorted(self._times.items())}
