"""The starting side of the load: start a workflow, wait for its end, read its history, verify it."""

from __future__ import annotations

from bench.board import Board, Flight, WrongAnswerError
from bench.fleet import checked
from bench.http import HttpError, Pool
from bench.payloads import encode
from bench.programs import Program
from bench.wire import Node


class Client:
    """Runs workflows one call each, over the nodes in turn."""

    def __init__(self, name: str, nodes: list[Node], board: Board, program: Program, task_queues: list[str]) -> None:
        """`name` begins the workflow ids: it must be this run's own."""
        self._name = name
        self._wires = [node.wire for node in nodes]
        self._pools = [Pool(node.address) for node in nodes]
        self._board = board
        self._program = program
        self._task_queues = task_queues
        self._count = 0

    async def run_workflow(self) -> bool:
        """Run one workflow to its verified end. False (and a failure on the board) if anything about it was wrong."""
        board = self._board
        number, self._count = self._count, self._count + 1
        workflow_id = f"{self._name}-{number:07d}"
        value = self._program.make_input(workflow_id)
        node = number % len(self._wires)
        task_queue = self._task_queues[number // len(self._wires) % len(self._task_queues)]
        wire, program = self._wires[node], self._program
        if program.standalone:
            request = wire.start_activity(workflow_id, program.activity_type, task_queue, encode(value))
        else:
            request = wire.start_workflow(workflow_id, program.workflow_type, task_queue, encode(value))
        flight = board.take_off(workflow_id, value)
        try:
            await self._start_and_wait(flight, request, node)
            await self._verify(flight, (node + 1) % len(self._wires))
        except (HttpError, WrongAnswerError, KeyError, IndexError, TypeError, ValueError) as error:
            board.fail(f"workflow {workflow_id}: {type(error).__name__}: {error}")
            return False
        finally:
            del board.flights[workflow_id]
        board.verified += 1
        return True

    async def _start_and_wait(self, flight: Flight, request: bytes, node: int) -> None:
        answer = checked(await self._pools[node].request(request), 201, "start")
        self._board.note("start_accepted", self._board.clock() - flight.started_at)
        if answer["outcome"] != "started_new" or answer["workflow_id"] != flight.workflow_id:
            raise WrongAnswerError(f"start: {answer['outcome']=}, {answer['workflow_id']=}")
        flight.run_id = answer["workflow_run_id" if self._program.standalone else "run_id"]
        await flight.done

    async def _verify(self, flight: Flight, node: int) -> None:
        wire, pool = self._wires[node], self._pools[node]
        answer = checked(await pool.request(wire.history(flight.workflow_id, flight.run_id)), 200, "history")
        events = answer["events"]
        while (token := answer["next_page_token"]) is not None:
            if not self._program.long_history:
                raise WrongAnswerError("history: a page token without need")
            answer = checked(await pool.request(wire.history(flight.workflow_id, flight.run_id, token)), 200, "history")
            events += answer["events"]
        self._program.verify(flight, events)

    def close(self) -> None:
        """Drop all connections."""
        for pool in self._pools:
            pool.close()
