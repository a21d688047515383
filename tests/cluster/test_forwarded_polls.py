"""Polls that wait at another node, by message; failures at every step, and hosts of an older version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import msgspec
import pytest

from actors.clock import Clock
from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskPoll, AskTake, Granted, Moved, Response
from actors.cluster.router import Router
from actors.errors import Unavailable
from actors.polling.forwarded_polls import ForwardedPolls
from actors.queue.parked_poll import Grant, ParkedPoll, PollState
from actors.queue.poll import Poll, QueueName, WorkerProfile
from actors.run.commands.base import Command
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import Done, NotDue, Refused
from actors.run.times import Micros
from bus.ask import Ask
from bus.connection import Bus
from tests.cluster.asking import grant, soon
from tests.support.defaults import make_bus_options
from tests.support.services import TestServices

pytestmark = pytest.mark.cluster

NAME = QueueName("default", "queue", "activity")

R = TypeVar("R")


class NoOwners:
    """The host of the queue is given by hand here."""

    def owner(self, _shard: int) -> str | None:
        return None

    def owns(self, _shard: int) -> bool:
        return False

    @property
    def lease_valid(self) -> bool:
        return True

    async def wait_lease(self, _timeout_seconds: float) -> bool:
        return True


class Home(Router):
    """The poll's own node; its runs answer when the test says so."""

    def __init__(self, ask: Ask) -> None:
        super().__init__("home", NoOwners(), ask, cast(Any, None), 0)
        self.claims: list[tuple[Command[Any], asyncio.Future[Any]]] = []

    def ask_run(
        self, _any_id: str, command: Command[R], _namespace: str | None = None, key: str | None = None
    ) -> asyncio.Future[R | Refused]:
        future: asyncio.Future[R | Refused] = asyncio.get_running_loop().create_future()
        self.claims.append((command, future))
        return future

    def now(self) -> Micros:
        return Clock().now()


class ForwardingNodes:
    """Two nodes on NATS: `home` holds the client, `host` the queue; the host's side is played by the test."""

    def __init__(self, home: Ask, host: Ask) -> None:
        self.host = host
        self.router = Home(home)
        self.placed: list[ParkedPoll] = []
        self.unreachable: list[ParkedPoll] = []
        self.handed_back: list[Grant] = []
        self.waiting: list[tuple[AskPoll, asyncio.Future[bytes]]] = []
        self.undelivered: list[bytes] = []
        self.taken_back: list[Grant] = []
        self.forwarded = ForwardedPolls(
            self.router,
            home,
            lambda parked, _: self.placed.append(parked),
            lambda parked, _: self.unreachable.append(parked),
            self.taken_back.append,
        )
        home.on_undelivered(self.undelivered.append)
        host.serve(self._serve)

    def _serve(self, payload: bytes) -> asyncio.Future[bytes]:
        question = protocol.decode_question(payload)
        assert isinstance(question, AskPoll)
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting.append((question, response))
        return response

    async def park(self, seconds: float = 30.0) -> ParkedPoll:
        """A poll that has reached its host."""
        count = len(self.waiting)
        poll = Poll(*NAME, WorkerProfile("worker"), seconds)
        parked = ParkedPoll(poll, self.handed_back.append)
        self.forwarded.send(parked, asyncio.get_running_loop().time() + seconds, "host")
        await soon(lambda: len(self.waiting) > count)
        return parked

    @property
    def number(self) -> int:
        """What the last poll is called."""
        return self.waiting[-1][0].number

    def claim(self) -> asyncio.Future[bytes]:
        """An older host has a task for the last poll."""
        return self.forwarded.claim_for_older_host(AskTake(self.number, "task"))


@pytest.fixture
async def scene(services: TestServices) -> AsyncIterator[ForwardingNodes]:
    place = services.deployment()
    buses = [Bus(make_bus_options(servers=(place.nats_url,), prefix=place.prefix), name) for name in ("home", "host")]
    asks = [Ask(bus) for bus in buses]
    for bus in buses:
        await bus.start()
        assert await bus.wait_connected(20)
    made = ForwardingNodes(*asks)
    await asyncio.sleep(0.05)
    yield made
    for bus in buses:
        await bus.stop()


def response(done: asyncio.Future[bytes]) -> Response:
    return protocol.decode_response(done.result())


async def test_the_host_answers_a_poll(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    question, answer = scene.waiting[0]
    answer.set_result(protocol.encode(Granted(question.poll, grant())))
    assert await asyncio.wait_for(parked.future, 20) == grant()
    assert not scene.handed_back


async def test_an_answer_that_crosses_the_clients_leaving_goes_back(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    question, answer = scene.waiting[0]
    theirs = protocol.encode(Granted(question.poll, grant("theirs")))
    parked.abandon()
    answer.set_result(theirs)
    await soon(lambda: bool(scene.undelivered))
    assert scene.undelivered == [theirs] and parked.state is PollState.ABANDONED


async def test_a_poll_whose_queue_moved_looks_for_its_new_host_and_ends_there(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    scene.waiting[0][1].set_result(protocol.encode(Moved()))
    await soon(lambda: bool(scene.placed))
    assert scene.placed == [parked]
    scene.forwarded.send(parked, asyncio.get_running_loop().time() + 30, "host")
    await soon(lambda: len(scene.waiting) == 2)
    question, answer = scene.waiting[1]
    answer.set_result(protocol.encode(Granted(question.poll, grant())))
    assert await asyncio.wait_for(parked.future, 20) == grant()


async def test_a_client_that_leaves_is_withdrawn(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    parked.abandon()
    await soon(scene.waiting[0][1].cancelled)
    assert response(scene.claim()) == Moved()


# -- hosts from before decision 7: they have a poll's own node claim its tasks -------------------------------------------


async def test_a_task_is_claimed_for_a_poll_and_the_host_answers_the_poll_with_it(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    claiming = scene.claim()
    (command, claim) = scene.router.claims[0]
    assert isinstance(command, ClaimTask) and (command.task_id, command.worker.worker_id) == ("task", "worker")
    claim.set_result(grant("task", 2))
    await claiming
    assert response(claiming) == Answer(grant("task", 2), leases=True)
    assert not parked.future.done()
    question, answer = scene.waiting[0]
    answer.set_result(protocol.encode(Granted(question.poll, grant("task", 2))))
    assert await asyncio.wait_for(parked.future, 20) == grant("task", 2)
    assert response(scene.claim()) == Moved()  # it waits no longer


async def test_a_claim_that_is_refused_leaves_the_poll_waiting(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    claiming = scene.claim()
    refusal = NotDue(5)
    scene.router.claims[0][1].set_result(refusal)
    await claiming
    assert response(claiming) == Answer(refusal)
    assert not parked.future.done()


async def test_a_claim_of_unknown_outcome_is_released_before_the_host_hears_of_it(scene: ForwardingNodes) -> None:
    parked = await scene.park()
    claiming = scene.claim()
    scene.router.claims[0][1].set_exception(Unavailable("the store is away"))
    await soon(lambda: len(scene.router.claims) >= 2)
    assert scene.router.claims[1][0] == ReleaseClaim("task", "worker", ANY_ATTEMPT)
    scene.router.claims[1][1].set_exception(Unavailable("still away"))
    await soon(lambda: len(scene.router.claims) >= 3)
    assert not claiming.done() and not parked.future.done()
    scene.router.claims[2][1].set_result(Done())
    await claiming
    answer = response(claiming)
    assert isinstance(answer, Answer) and isinstance(answer.reply, NotDue)


async def test_a_host_that_withdraws_its_question_during_the_claim_swallows_no_task(scene: ForwardingNodes) -> None:
    await scene.park()
    claiming = scene.claim()
    claiming.cancel()
    scene.router.claims[0][1].set_result(grant("task", 1))
    await soon(lambda: bool(scene.taken_back))
    assert scene.taken_back == [grant("task", 1)]


def test_what_such_hosts_tell_is_no_news() -> None:
    for told in ({"type": "lent", "numbers": [1]}, {"type": "served", "node_id": "host", "number": 1}):
        assert protocol.decode_told(msgspec.msgpack.encode(told)) is None


# -- the host is away, or this node leaves -----------------------------------------------------------------------------


async def test_a_host_that_cannot_be_asked_or_is_gone(scene: ForwardingNodes) -> None:
    parked = ParkedPoll(Poll(*NAME, WorkerProfile("worker"), 30.0), lambda *_: None)
    scene.forwarded.send(parked, asyncio.get_running_loop().time() + 30, "nobody")
    await soon(lambda: bool(scene.unreachable))
    assert scene.unreachable == [parked]
    waiting = await scene.park()
    scene.router._ask.fail_pending("host")
    await soon(lambda: bool(scene.placed))
    assert scene.placed == [waiting]


async def test_draining_ends_all_empty(scene: ForwardingNodes) -> None:
    polls = [await scene.park(), await scene.park()]
    scene.forwarded.drain()
    assert [await poll.future for poll in polls] == [None, None]
