"""Workers of the load generator: registrations, and connections that poll, work and complete in a loop.

Each worker has a task queue of its own; its connections are dealt out over the nodes in turn.
Contract: worker-protocol 3, 4, 7.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import orjson

from bench.board import Board, WrongAnswerError
from bench.http import Connection, HttpError, Response, connect
from bench.programs import Program
from bench.wire import Node

RECONNECT_PAUSE_SECONDS = 0.05


def checked(response: Response, expected: int, what: str) -> dict[str, Any]:
    """The JSON object of an answer; `WrongAnswerError` for another status or no object."""
    if response.status != expected:
        raise WrongAnswerError(f"{what}: HTTP {response.status} {response.body[:300].decode(errors='replace')}")
    body = orjson.loads(response.body)
    if not isinstance(body, dict):
        raise WrongAnswerError(f"{what}: the body is no object")
    return body


class Poller:
    """One connection of one worker and family, in a loop until `stop`."""

    def __init__(self, fleet: Fleet, family: str, worker_id: str, task_queue: str, node: Node) -> None:
        self._board = fleet.board
        self._program = fleet.program
        self._wire = node.wire
        self._address = node.address
        self._numbers = fleet.numbers
        self._family = family
        self._worker_id = worker_id
        self._template = self._wire.poll_template(family, worker_id, task_queue)
        self._stopping = asyncio.Event()
        self._connection: Connection | None = None
        self.polling_since = 0.0  # clock time of the poll now held, 0 while working
        self.polls = 0

    async def run(self) -> None:
        """Poll until stopped. Whatever goes wrong is counted on the board and the loop goes on."""
        work = self._workflow_task if self._family == "workflow" else self._activity_task
        while not self._stopping.is_set():
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await connect(self._address)
                await self._poll(self._connection, work)
            except (HttpError, WrongAnswerError, KeyError, TypeError, ValueError) as error:
                self.polling_since = 0.0
                if self._stopping.is_set():
                    return
                self._board.fail(f"{self._family} worker {self._worker_id}: {type(error).__name__}: {error}")
                await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    async def _poll(self, connection: Connection, work: Any) -> None:
        board, (head, tail) = self._board, self._template
        polled_at = self.polling_since = board.clock()
        response = await connection.request(b"%b%032x%b" % (head, next(self._numbers), tail))
        now = board.clock()
        self.polling_since = 0.0
        self.polls += 1
        task = checked(response, 200, "poll")["task"]
        if task is not None:
            await work(connection, task, polled_at, now)
        elif self._board.measuring:
            board.note(f"{self._family}_poll_hold", now - polled_at)

    async def _workflow_task(self, connection: Connection, task: dict[str, Any], polled_at: float, now: float) -> None:
        board, program = self._board, self._program
        flight = board.flight(program.flight_id(task))
        flight.tasks_seen += 1
        if program.one_at_a_time:
            board.task_arrived("wake" if flight.tasks_seen == 1 else "resume_wake", flight, polled_at, now)
        try:
            if program.reads_all_pages and task["next_history_page_token"] is not None:
                await self._read_pages(connection, task)
            commands = program.decide(flight, task)
            pause = program.replay_seconds(task, commands)
            if pause:
                await asyncio.sleep(pause)
            attempt = task["workflow_task_attempt"]
            request = self._wire.complete_workflow_task(task["task_id"], self._worker_id, attempt, commands)
            flight.touched_at = board.clock()
            answer = checked(await connection.request(request), 200, "workflow task complete")
            closing = commands[-1]["type"] == "complete_workflow"
            if answer["recorded"] is not True or answer["run_status"] != ("completed" if closing else "waiting"):
                raise WrongAnswerError(f"workflow task complete: {answer['recorded']=}, {answer['run_status']=}")
            board.count("workflow_tasks")
            program.answered(flight, task, commands, answer, board)
        except (HttpError, WrongAnswerError, KeyError, TypeError, ValueError) as error:
            board.fail_flight(flight, WrongAnswerError(f"{type(error).__name__}: {error}"))
            return
        if closing and task["workflow_id"] == flight.workflow_id:
            board.landed(flight)

    async def _read_pages(self, connection: Connection, task: dict[str, Any]) -> None:
        """Fetch the rest of the task's history, as the SDK does; the task then looks as if it had come in one page."""
        events, token, began = task["history_events"], task["next_history_page_token"], self._board.clock()
        while token is not None:
            request = self._wire.history_page(task["task_id"], self._worker_id, task["workflow_task_attempt"], token)
            page = checked(await connection.request(request), 200, "history page")
            if page["total_history_events"] != task["total_history_events"]:
                raise WrongAnswerError("history page: another snapshot than the task's")
            events += page["history_events"]
            token = page["next_history_page_token"]
            self._board.count("history_pages")
        task["next_history_page_token"] = None
        self._board.note("history_pages", self._board.clock() - began)

    async def _activity_task(self, connection: Connection, task: dict[str, Any], polled_at: float, now: float) -> None:
        board, flight = self._board, self._board.flight(task["workflow_id"])
        flight.activities_seen += 1
        if self._program.one_at_a_time:
            board.task_arrived("activity_wake", flight, polled_at, now)
        try:
            result = self._program.perform(flight, task)
            request = self._wire.complete_activity_task(task["task_id"], self._worker_id, task["activity_attempt_id"], result)
            flight.touched_at = board.clock()
            answer = checked(await connection.request(request), 200, "activity complete")
            if answer["recorded"] is not True or answer["outcome"] != "completed":
                raise WrongAnswerError(f"activity complete: {answer['recorded']=}, {answer['outcome']=}")
            board.count("activities")
        except (HttpError, WrongAnswerError, KeyError, TypeError, ValueError) as error:
            board.fail_flight(flight, WrongAnswerError(f"{type(error).__name__}: {error}"))
            return
        if self._program.standalone:
            board.landed(flight)

    def stop(self) -> None:
        """End the loop, also in the middle of a held poll."""
        self._stopping.set()
        if self._connection is not None:
            self._connection.close()


class Fleet:
    """One worker per task queue; `park` gives each its connections."""

    def __init__(self, name: str, nodes: list[Node], board: Board, program: Program, task_queues: list[str]) -> None:
        """`name` begins the worker ids."""
        self.name = name
        self.nodes = nodes
        self.board = board
        self.program = program
        self.task_queues = task_queues
        self.numbers = itertools.count(1)
        self.pollers: list[Poller] = []
        self.long_poll_timeout = 30.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def register(self) -> None:
        """Register one worker per task queue, over the nodes in turn; `WrongAnswerError` if one is refused."""
        for number, task_queue in enumerate(self.task_queues):
            node = self.nodes[number % len(self.nodes)]
            connection = await connect(node.address)
            worker = (self._worker_id(number), task_queue, self.program.workflow_types, self.program.activity_type)
            answer = checked(await connection.request(node.wire.register(*worker)), 201, "register")
            connection.close()
            self.long_poll_timeout = float(answer["server_capabilities"]["long_poll_timeout"])

    def _worker_id(self, number: int) -> str:
        return f"{self.name}-worker-{number}"

    async def park(self, polls: int, per_second: float = 1000.0, activity_polls: int | None = None) -> None:
        """Start `polls` connections per worker and family, at a steady pace over all of them.

        `activity_polls`: another number of them for the activity family.
        """
        wanted = {"workflow": polls, "activity": polls if activity_polls is None else activity_polls}
        every = itertools.product(range(max(wanted.values())), enumerate(self.task_queues), wanted)
        places = ((turn, queue, family) for turn, queue, family in every if turn < wanted[family])
        loop = asyncio.get_running_loop()
        began = loop.time()
        for count, (turn, (number, task_queue), family) in enumerate(places):
            behind = began + count / per_second - loop.time()
            if behind > 0:
                await asyncio.sleep(behind)
            node = self.nodes[(turn + number) % len(self.nodes)]
            poller = Poller(self, family, self._worker_id(number), task_queue, node)
            self.pollers.append(poller)
            task = loop.create_task(poller.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def parked(self) -> int:
        """Polls held now."""
        return sum(1 for poller in self.pollers if poller.polling_since)

    def sweep(self) -> None:
        """Count polls that the server holds much longer than it promised (worker-protocol 4.2)."""
        oldest = self.board.clock() - self.long_poll_timeout - 10
        for poller in self.pollers:
            if 0 < poller.polling_since < oldest:
                poller.polling_since = self.board.clock()
                self.board.fail(f"a poll is held for more than {self.long_poll_timeout:g} + 10 s")

    async def stop(self) -> None:
        """Drop all connections and wait for the loops' ends; a loop that died of something unforeseen is a failure."""
        for poller in self.pollers:
            poller.stop()
        for outcome in await asyncio.gather(*list(self._tasks), return_exceptions=True):
            if isinstance(outcome, BaseException):
                self.board.fail(f"a worker loop died: {outcome!r}")
