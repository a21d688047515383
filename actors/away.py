"""Polls of this node's clients that wait at other nodes, where their queues are hosted.

The host of a queue lends such a poll back once it waits in line, and from then on this node alone gives it tasks. One that
becomes ready on this node is handed to it inside the commit: lease, completion and next task stay on one node. For tasks of
other nodes the host asks this one to claim them. So no poll is given two tasks, however the messages cross.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable

from actors import messages
from actors.messages import Answer, AskPoll, AskTake, Failed, Granted, Moved, Served, Taken
from actors.queue.actor import QueueName
from actors.queue.matching import WaitLine
from actors.queue.parked import Parked, Reservation, TaskGrant, attempt_of
from actors.queue.poll import WorkerProfile
from actors.router import Router
from actors.run.commands import ClaimTask, WorkerIdentity
from actors.run.replies import ActivityTaskGrant, RunReply, WorkflowTaskGrant
from bus.ask import Ask
from bus.errors import OutcomeUnknown, Unreachable

_log = logging.getLogger(__name__)

_MARGIN_SECONDS = 2.0  # how much longer than a poll its answer from another node may take
_RETRY_SECONDS = 0.05

Place = Callable[[Parked, float], None]


class AwayPolls:
    """What waits elsewhere, by number; and what of it is lent back, by queue."""

    def __init__(self, router: Router, ask: Ask, place: Place, unreachable: Place) -> None:
        """`place(poll, deadline in loop time)` parks a poll anew, `unreachable` one whose host cannot be asked."""
        self._router = router
        self._ask = ask
        self._place = place
        self._unreachable = unreachable
        self._numbers = itertools.count(time.time_ns())  # never twice, also when a node starts again under its name
        self._away: dict[int, _Away] = {}
        self._lent: dict[QueueName, WaitLine[_Away]] = {}

    def send(self, parked: Parked, deadline: float, owner: str) -> None:
        """Have a poll wait at the node `owner`."""
        poll = parked.poll
        seconds = max(deadline - asyncio.get_running_loop().time(), 0.0)
        number = next(self._numbers)
        question = messages.encode(AskPoll(poll, seconds, self._router.node_id, number))
        try:
            token, answer = self._ask.begin(owner, question, seconds + _MARGIN_SECONDS)
        except Unreachable:
            self._unreachable(parked, deadline)
            return
        away = self._away[number] = _Away(self, parked, deadline, owner, number, token)
        parked.waits_at(lambda: self._leave(away))
        answer.add_done_callback(lambda done: self._answered(away, done))

    def _leave(self, away: _Away) -> None:
        """Its client is gone."""
        self._forget(away)
        self._ask.withdraw(away.token)

    def _forget(self, away: _Away) -> None:
        self._away.pop(away.number, None)
        self._out_of_line(away)

    def _out_of_line(self, away: _Away) -> None:
        line = self._lent.get(away.queue)
        if line is not None:
            line.remove(away, away.ticket)
            if not line:
                del self._lent[away.queue]

    def _answered(self, away: _Away, done: asyncio.Future[bytes]) -> None:
        self._forget(away)
        parked = away.parked
        error = done.exception()
        if isinstance(error, Unreachable):
            self._unreachable(parked, away.deadline)
            return
        if error is None:
            response = messages.decode_response(done.result())
            if isinstance(response, Granted):
                parked.give(response.grant)
                return
        elif not isinstance(error, OutcomeUnknown):
            _log.error("a poll on another node failed", exc_info=error)
            parked.give(None)
            return
        self._place_later(away)

    def _place_later(self, away: _Away) -> None:
        parked, deadline = away.parked, away.deadline
        loop = asyncio.get_running_loop()
        if parked.gone or loop.time() >= deadline:
            parked.give(None)
            return
        later = loop.call_later(_RETRY_SECONDS, self._place, parked, deadline)
        parked.waits_at(later.cancel)

    # -- lent back -----------------------------------------------------------------------------------------------------

    def lent(self, numbers: list[int]) -> None:
        """These polls wait in line at their host."""
        for number in numbers:
            away = self._away.get(number)
            if away is not None and not away.ticket:
                away.ticket = self._lent.setdefault(away.queue, WaitLine()).add(away)

    def reserve(self, name: QueueName, type_name: str, compatibility: str | None) -> Reservation | None:
        """A lent poll for a task of this node about to be committed."""
        line = self._lent.get(name)
        found = None if line is None else line.take(type_name, compatibility)
        if found is None:
            return None
        if not line:
            del self._lent[name]
        return found[0]

    def decided(self, away: _Away, grant: TaskGrant) -> None:
        """The poll is about to be served here: it waits at its host no longer."""
        self._end(away)
        told = messages.encode(Served(self._router.node_id, away.number, grant.task_id, attempt_of(grant)))
        self._ask.tell(away.owner, told)

    def _end(self, away: _Away) -> None:
        self._forget(away)
        self._ask.forget(away.token)
        away.parked.waits_at(None)

    def settle(self, away: _Away, grant: TaskGrant | None) -> None:
        """The end of a reservation."""
        if grant is not None:
            away.parked.give(grant)
        elif away.number in self._away:
            self._put_back(away)
        else:  # the commit failed
            self._place_later(away)

    def _put_back(self, away: _Away) -> None:
        if away.ticket:
            self._lent.setdefault(away.queue, WaitLine()).put_back(away, away.ticket)

    def take(self, question: AskTake) -> asyncio.Future[bytes]:
        """Claim a task for a poll, as its host asks: `Taken`, `Moved` when it waits no longer, or the refusal."""
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        away = self._away.get(question.number)
        if away is None:
            response.set_result(messages.encode(Moved()))
            return response
        self._out_of_line(away)
        claim = ClaimTask(question.task_id, away.identity, away.page_size)
        self._router.tell_run(question.task_id, claim).add_done_callback(lambda done: self._claimed(away, response, done))
        return response

    def _claimed(self, away: _Away, response: asyncio.Future[bytes], done: asyncio.Future[RunReply]) -> None:
        error = done.exception()
        reply = None if error is not None else done.result()
        answer: Taken | Answer | Failed
        if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
            if away.number in self._away:
                self._end(away)
            else:
                away.parked.leave()  # sent on meanwhile
            away.parked.give(reply)
            answer = Taken(attempt_of(reply))
        else:
            if away.number in self._away:
                self._put_back(away)
            answer = Failed(str(error)) if reply is None else Answer(reply)
        if not response.done():
            response.set_result(messages.encode(answer))

    def drain(self) -> None:
        """Shutting down: polls end empty."""
        for away in list(self._away.values()):
            self._leave(away)
            away.parked.give(None)


class _Away:
    """One poll that waits at the node `owner`; it is its own reservation when lent (`parked.Reservation`)."""

    __slots__ = ("_polls", "deadline", "number", "owner", "parked", "profile", "queue", "ticket", "token")

    def __init__(self, polls: AwayPolls, parked: Parked, deadline: float, owner: str, number: int, token: bytes) -> None:
        poll = parked.poll
        self._polls = polls
        self.parked = parked
        self.profile: WorkerProfile = poll.worker
        self.queue: QueueName = (poll.namespace, poll.queue, poll.kind)
        self.deadline = deadline
        self.owner = owner
        self.number = number
        self.token = token
        self.ticket = 0  # its place among the lent ones, 0 while it is not lent

    @property
    def identity(self) -> WorkerIdentity:
        return self.profile.identity

    @property
    def page_size(self) -> int:
        return self.parked.poll.history_page_size

    def decided(self, grant: TaskGrant) -> None:
        self._polls.decided(self, grant)

    def settle(self, grant: TaskGrant | None) -> None:
        self._polls.settle(self, grant)
