"""Polls of other nodes' clients that wait here, where their queue is hosted: held, and lent back to their own nodes.

As long as a poll is not lent, this node answers it. Once it waits in line it is lent, and its own node (`away`) alone gives it
tasks: those of its own runs by itself, those of other runs when it is asked here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskPoll, AskTake, Failed, Granted, Lent, Moved, Served, Taken
from actors.cluster.router import Router
from actors.queue.parked_poll import Claimed, Grant, LentEnd, Parked
from actors.queue.poll import Poll
from actors.run import ids
from actors.run.replies import NotDue
from actors.run.times import Micros
from bus.ask import Ask
from bus.errors import Unreachable

# Longer than all that the poll's node may have to wait for, so that its answer is heard while the task is held here.
_TAKE_SECONDS = 25.0
_RETRY_MICROS = 500_000


class _Serving:
    """A poll that waits here for the node `node_id`, which calls it `number`; `response` ends that node's question."""

    __slots__ = ("lent", "name", "node_id", "number", "parked", "response")

    def __init__(self, node_id: str, number: int, parked: Parked, response: asyncio.Future[bytes]) -> None:
        self.name = (node_id, number)
        self.node_id = node_id
        self.number = number
        self.parked = parked
        self.response = response
        self.lent = False  # its own node alone gives it tasks


class Lending:
    """What waits here for other nodes, by node and number."""

    def __init__(
        self,
        router: Router,
        ask: Ask,
        park: Callable[[Parked, float], None],
        served_elsewhere: Callable[[Poll, str, int], None],
    ) -> None:
        """`park(poll, seconds)` lets a poll wait; `served_elsewhere(poll, task id, attempt)` says which lease one has."""
        self._router = router
        self._ask = ask
        self._park = park
        self._served_elsewhere = served_elsewhere
        self._serving: dict[tuple[str, int], _Serving] = {}
        self._to_lend: dict[str, list[int]] = {}

    def hold(self, question: AskPoll, parked: Parked) -> asyncio.Future[bytes]:
        """Let a poll wait in a queue of this node: `Granted`, or `Moved` when it has to look for another place.

        The future is cancelled when there is nothing to say: the poll was served at its own node.
        """
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        parked.served = True
        serving = _Serving(question.node_id, question.number, parked, response)
        parked.in_line = lambda: self._lend(serving)
        parked.claim_at_home = lambda task_id: self._claim_at_home(serving, task_id)
        self._serving[serving.name] = serving

        def answered(done: asyncio.Future[Grant | None]) -> None:
            self._serving.pop(serving.name, None)
            if response.done():
                return
            if done.cancelled():
                response.set_result(protocol.encode(Moved()))
            elif done.exception() is not None:
                response.set_result(protocol.encode(Failed(str(done.exception()))))
            else:
                response.set_result(protocol.encode(Granted(question.poll, done.result())))

        parked.future.add_done_callback(answered)
        response.add_done_callback(lambda done: parked.abandon() if done.cancelled() else None)
        self._park(parked, question.seconds)
        return response

    def _lend(self, serving: _Serving) -> None:
        """A poll waits in line: from now on its own node gives it tasks. Those of one turn of the loop are told together."""
        serving.lent = True
        if not self._to_lend:
            asyncio.get_running_loop().call_soon(self._tell_lent)
        self._to_lend.setdefault(serving.node_id, []).append(serving.number)

    def _tell_lent(self) -> None:
        lent, self._to_lend = self._to_lend, {}
        for node_id, numbers in lent.items():
            self._ask.tell(node_id, protocol.encode(Lent(numbers)))

    def _claim_at_home(self, serving: _Serving, task_id: str) -> Claimed | None:
        """Have a poll's own node claim a task of this queue for it, if it is lent or the task's run is there."""
        if not serving.lent and self._router.elsewhere(ids.shard_of_id(task_id)) != serving.node_id:
            return None
        self._tell_lent()
        outcome: Claimed = asyncio.get_running_loop().create_future()

        def answered(done: asyncio.Future[bytes]) -> None:
            response = protocol.response_or_none(done)
            if isinstance(response, Answer):
                outcome.set_result(response.reply)
            elif isinstance(response, Taken):
                self._end(serving)
                self._served_elsewhere(serving.parked.poll, task_id, response.attempt)
                outcome.set_result(LentEnd.TAKEN)
            elif isinstance(response, Moved):
                self._drop(serving)
                outcome.set_result(LentEnd.GONE)
            else:  # nobody knows: whether the poll has a task will be seen when it is asked again
                outcome.set_result(_later(self._router.now()))

        question = protocol.encode(AskTake(serving.number, task_id))
        try:
            self._ask.start_ask(serving.node_id, question, _TAKE_SECONDS).add_done_callback(answered)
        except Unreachable:
            outcome.set_result(_later(self._router.now()))
        return outcome

    def served(self, told: Served) -> None:
        """A lent poll got its task at its own node."""
        serving = self._serving.get((told.node_id, told.number))
        if serving is not None:
            self._end(serving)
        self._served_elsewhere(told.poll, told.task_id, told.attempt)

    def _end(self, serving: _Serving) -> None:
        """A poll has its task: there is nothing to say to its node."""
        serving.response.cancel()
        self._drop(serving)

    def _drop(self, serving: _Serving) -> None:
        """A poll waits here no longer; unless it has ended, its node hears that and looks for a new place."""
        if self._serving.pop(serving.name, None) is not None:
            serving.parked.abandon()


def _later(now: Micros) -> NotDue:
    """The task is tried again in a moment, with whatever poll comes first then."""
    return NotDue(Micros(now + _RETRY_MICROS))
