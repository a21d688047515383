"""Polls of this node's clients that wait at other nodes, where their queues are hosted.

The host of a queue lends such a poll back once it waits in line, and from then on this node alone gives it tasks. One that
becomes ready on this node is handed to it inside the commit: lease, completion and next task stay on one node. For tasks of
other nodes the host asks this one to claim them. So no poll is given two tasks, however the messages cross. Nothing is said of
a lease to the host before it is committed.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import defaultdict
from collections.abc import Callable

from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskPoll, AskTake, Granted, Moved, Taken
from actors.cluster.router import Router
from actors.queue.matching import WaitLine
from actors.queue.parked_poll import Parked, Reservation, attempt_of
from actors.queue.poll import WorkerProfile
from actors.queue.queue_actor import QueueName
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import ActivityTaskGrant, NotDue, Refused, TaskGrant, WorkflowTaskGrant
from actors.run.values import WorkerIdentity
from bus.ask import Ask
from bus.errors import Unreachable

_MARGIN_SECONDS = 2.0  # how much longer than a poll its answer from another node may take

Place = Callable[[Parked, float], None]
TellServed = Callable[["Away", str, int], None]


class AwayPolls:
    """What waits elsewhere, by number; and what of it is lent back, by queue."""

    def __init__(self, router: Router, ask: Ask, place_later: Place, unreachable: Place, tell_served: TellServed) -> None:
        """`place_later(poll, deadline in loop time)` soon parks a poll anew, `unreachable` one whose host cannot be asked.

        `tell_served(poll, task id, attempt)` tells the queue's host that a lent poll has this lease.
        """
        self._router = router
        self._ask = ask
        self._place_later = place_later
        self._unreachable = unreachable
        self._tell_served = tell_served
        self._numbers = itertools.count(secrets.randbits(60))  # never twice, also when a node starts again under its name
        self._away: dict[int, Away] = {}
        tickets = itertools.count(1)
        self._lent: defaultdict[QueueName, WaitLine[Away]] = defaultdict(lambda: WaitLine(tickets))

    def send(self, parked: Parked, deadline: float, owner: str) -> None:
        """Have a poll wait at the node `owner`."""
        poll = parked.poll
        seconds = max(deadline - asyncio.get_running_loop().time(), 0.0)
        number = next(self._numbers)
        question = protocol.encode(AskPoll(poll, seconds, self._router.node_id, number))
        try:
            token, answer = self._ask.begin(owner, question, seconds + _MARGIN_SECONDS)
        except Unreachable:
            self._unreachable(parked, deadline)
            return
        away = self._away[number] = Away(self, parked, deadline, owner, number, token)
        parked.waits_at(lambda: self._leave(away))
        answer.add_done_callback(lambda done: self._answered(away, done))

    def _leave(self, away: Away) -> None:
        """Its client is gone."""
        self._forget(away)
        self._ask.withdraw(away.token)

    def _forget(self, away: Away) -> None:
        self._away.pop(away.number, None)
        self._out_of_line(away)

    def _out_of_line(self, away: Away) -> None:
        line = self._lent.get(away.queue)
        if line is not None:
            line.remove(away, away.ticket)
            if not line:
                del self._lent[away.queue]

    def _answered(self, away: Away, done: asyncio.Future[bytes]) -> None:
        self._forget(away)
        if away.reserved:  # its reservation decides; nothing is granted to a lent poll by its host
            return
        parked = away.parked
        response = protocol.response_or_none(done)
        if isinstance(done.exception(), Unreachable):
            self._unreachable(parked, away.deadline)
        elif isinstance(response, Granted):
            parked.give(response.grant)
        else:
            self._move(away)

    def _move(self, away: Away) -> None:
        """The poll looks for another place, if there is time."""
        if asyncio.get_running_loop().time() >= away.deadline:
            away.parked.give(None)
        else:
            self._place_later(away.parked, away.deadline)

    # -- lent back -----------------------------------------------------------------------------------------------------

    def lent(self, numbers: list[int]) -> None:
        """These polls wait in line at their host."""
        for number in numbers:
            away = self._away.get(number)
            if away is not None and not away.ticket:
                away.ticket = self._lent[away.queue].add(away)

    def reserve(self, name: QueueName, type_name: str, compatibility: str | None) -> Reservation | None:
        """A lent poll for a task of this node about to be committed."""
        line = self._lent.get(name)
        found = None if line is None else line.take(type_name, compatibility)
        if found is None:
            return None
        away = found[0]
        self._out_of_line(away)
        away.reserved = True
        return away

    def settle(self, away: Away, grant: TaskGrant | None) -> None:
        """The end of a reservation: the poll has its lease, or waits on."""
        known, away.reserved = away.number in self._away, False
        if grant is not None:
            self._end(away)
            self._tell_served(away, grant.task_id, attempt_of(grant))
            away.parked.give(grant)
        elif known:
            self._put_back(away)
        else:
            self._move(away)

    def _end(self, away: Away) -> None:
        """The poll has its task; whoever held it is told by other means than a withdrawal."""
        self._forget(away)
        self._ask.forget(away.token)

    def _put_back(self, away: Away) -> None:
        if away.ticket:
            self._lent[away.queue].put_back(away, away.ticket)

    def take(self, question: AskTake) -> asyncio.Future[bytes]:
        """Claim a task for a poll, as its host asks: `Taken`, `Moved` when it waits no longer, or the refusal."""
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        away = self._away.get(question.number)
        if away is None or away.reserved:
            response.set_result(protocol.encode(Moved()))
            return response
        self._out_of_line(away)
        claim = ClaimTask(question.task_id, away.identity, away.page_size)
        claimed = self._router.ask_run(question.task_id, claim)
        claimed.add_done_callback(lambda done: self._claimed(away, question.task_id, response, done))
        return response

    def _claimed(
        self, away: Away, task_id: str, response: asyncio.Future[bytes], done: asyncio.Future[TaskGrant | NotDue | Refused]
    ) -> None:
        reply = None if done.exception() is not None else done.result()
        if isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
            if away.number in self._away:
                self._end(away)
            else:
                away.parked.leave()  # sent on meanwhile
            away.parked.give(reply)
            _answer(response, Taken(attempt_of(reply)))
            return
        if away.number in self._away:
            self._put_back(away)
        if reply is not None:
            _answer(response, Answer(reply))
        else:
            # Perhaps it is leased, to nobody: the host holds the task until it is known not to be.
            released = self._router.release_claim(ReleaseClaim(task_id, away.profile.worker_id, ANY_ATTEMPT))
            again = Answer(NotDue(self._router.now()))
            released.add_done_callback(lambda _: _answer(response, again))

    def drain(self) -> None:
        """Shutting down: polls end empty."""
        for away in list(self._away.values()):
            self._leave(away)
            away.parked.give(None)


def _answer(response: asyncio.Future[bytes], answer: Taken | Answer) -> None:
    if not response.done():
        response.set_result(protocol.encode(answer))


class Away:
    """One poll that waits at the node `owner`; it is its own reservation when lent (`parked.Reservation`)."""

    __slots__ = ("_polls", "deadline", "number", "owner", "parked", "profile", "queue", "reserved", "ticket", "token")

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
        self.reserved = False  # for a task about to be committed

    @property
    def identity(self) -> WorkerIdentity:
        return self.profile.identity

    @property
    def page_size(self) -> int:
        return self.parked.poll.history_page_size

    def settle(self, grant: TaskGrant | None) -> None:
        self._polls.settle(self, grant)
