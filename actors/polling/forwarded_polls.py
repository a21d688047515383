"""Polls of this node's clients that wait at other nodes, where their queues are hosted."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable

from actors.cluster import protocol
from actors.cluster.answers import respond
from actors.cluster.protocol import AskPoll, AskTake, Granted, Moved
from actors.cluster.router import Router
from actors.queue.parked_poll import Grant, ParkedPoll
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import NotDue, Refused, RunReply, TaskGrant
from bus.ask import Ask
from bus.errors import Unreachable

_MARGIN_SECONDS = 2.0  # how much longer than a poll its answer from another node may take

Place = Callable[[ParkedPoll, float], None]


class ForwardedPoll:
    """One poll that waits at another node; `token` names the question there, `deadline` is loop time."""

    __slots__ = ("deadline", "number", "parked", "token")

    def __init__(self, parked: ParkedPoll, deadline: float, number: int, token: bytes) -> None:
        self.parked = parked
        self.deadline = deadline
        self.number = number
        self.token = token


class ForwardedPolls:
    """What waits elsewhere, by number."""

    def __init__(
        self, router: Router, ask: Ask, place_later: Place, unreachable: Place, take_back: Callable[[Grant], None]
    ) -> None:
        """`place_later(poll, deadline in loop time)` soon parks a poll anew, `unreachable` one whose host cannot be asked.

        `take_back` gets a grant that reached nobody.
        """
        self._router = router
        self._ask = ask
        self._place_later = place_later
        self._unreachable = unreachable
        self._take_back = take_back
        self._numbers = itertools.count(secrets.randbits(60))  # never twice, also when a node starts again under its name
        self._forwarded: dict[int, ForwardedPoll] = {}

    def send(self, parked: ParkedPoll, deadline: float, host: str) -> None:
        """Have a poll wait at the node `host`."""
        poll = parked.poll
        seconds = max(deadline - asyncio.get_running_loop().time(), 0.0)
        number = next(self._numbers)
        question = protocol.encode(AskPoll(poll, seconds, self._router.node_id, number))
        try:
            token, answer = self._ask.begin(host, question, seconds + _MARGIN_SECONDS)
        except Unreachable:
            self._unreachable(parked, deadline)
            return
        forwarded = self._forwarded[number] = ForwardedPoll(parked, deadline, number, token)
        parked.waits_at(lambda: self._leave(forwarded))
        answer.add_done_callback(lambda done: self._answered(forwarded, done))

    def _leave(self, forwarded: ForwardedPoll) -> None:
        """Its client is gone."""
        self._forwarded.pop(forwarded.number, None)
        self._ask.withdraw(forwarded.token)

    def _answered(self, forwarded: ForwardedPoll, done: asyncio.Future[bytes]) -> None:
        self._forwarded.pop(forwarded.number, None)
        parked = forwarded.parked
        response = protocol.response_or_none(done)
        if isinstance(done.exception(), Unreachable):
            self._unreachable(parked, forwarded.deadline)
        elif isinstance(response, Granted):
            parked.resolve(response.grant)
        elif asyncio.get_running_loop().time() >= forwarded.deadline:
            parked.resolve(None)
        else:  # not hosted there any more, or nobody knows: it looks for another place
            self._place_later(parked, forwarded.deadline)

    def claim_for_older_host(self, question: AskTake) -> asyncio.Future[bytes]:
        """Claim a task for a poll of ours: the run's reply, or `Moved` when the poll waits no longer.

        Hosts from before decision 7 leave claims to the poll's own node and give the poll the lease they hear of.
        """
        forwarded = self._forwarded.get(question.number)
        if forwarded is None:
            response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            response.set_result(protocol.encode(Moved()))
            return response
        poll = forwarded.parked.poll
        claim = ClaimTask(question.task_id, poll.worker.identity, poll.history_page_size)
        reply: asyncio.Future[RunReply] = asyncio.get_running_loop().create_future()

        def claimed(done: asyncio.Future[TaskGrant | NotDue | Refused]) -> None:
            if done.exception() is None:
                reply.set_result(done.result())
                return
            # Perhaps it is leased, to nobody: the host holds the task until it is known not to be.
            released = self._router.release_claim(ReleaseClaim(question.task_id, poll.worker.worker_id, ANY_ATTEMPT))
            again = NotDue(self._router.now())
            released.add_done_callback(lambda _: reply.set_result(again))

        self._router.ask_run(question.task_id, claim).add_done_callback(claimed)
        return respond(reply, self._take_back)

    def drain(self) -> None:
        """Shutting down: polls end empty."""
        for forwarded in list(self._forwarded.values()):
            self._leave(forwarded)
            forwarded.parked.resolve(None)
