"""Polls that wait at another node, by message: lent, reserved, claimed for by their host; failures at every step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import pytest

from actors.clock import Clock
from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskPoll, AskTake, Granted, Moved, Response, Taken
from actors.cluster.router import Router
from actors.errors import Unavailable
from actors.polling.forwarded_polls import AwayPolls
from actors.queue.parked_poll import Grant, Parked
from actors.queue.poll import Poll, WorkerProfile
from actors.run.commands.base import Command
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import Done, NotDue, Refused
from actors.run.times import Micros
from bus.ask import Ask
from bus.connection import Bus, BusOptions
from tests.cluster.test_lost_answers import soon
from tests.cluster.test_queue_failures import grant
from tests.support.services import TestServices

pytestmark = pytest.mark.cluster

NAME = ("default", "queue", "activity")


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


R = TypeVar("R")


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


class Scene:
    """Two nodes on NATS: `home` holds the client, `host` the queue; the host's side is played by the test."""

    def __init__(self, home: Ask, host: Ask) -> None:
        self.host = host
        self.router = Home(home)
        self.placed: list[Parked] = []
        self.unreachable: list[Parked] = []
        self.handed_back: list[Grant] = []
        self.waiting: list[tuple[AskPoll, asyncio.Future[bytes]]] = []
        self.undelivered: list[bytes] = []
        self.served: list[tuple[int, str, int]] = []
        self.away = AwayPolls(
            self.router,
            home,
            lambda parked, _: self.placed.append(parked),
            lambda parked, _: self.unreachable.append(parked),
            lambda away, task_id, attempt: self.served.append((away.number, task_id, attempt)),
        )
        home.on_undelivered(self.undelivered.append)
        host.serve(self._serve)

    def _serve(self, payload: bytes) -> asyncio.Future[bytes]:
        question = protocol.decode_question(payload)
        assert isinstance(question, AskPoll)
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting.append((question, response))
        return response

    async def park(self, seconds: float = 30.0) -> Parked:
        """A poll that has reached its host."""
        count = len(self.waiting)
        poll = Poll(*NAME, WorkerProfile("worker"), seconds)
        parked = Parked(poll, lambda _poll, grant: self.handed_back.append(grant))
        self.away.send(parked, asyncio.get_running_loop().time() + seconds, "host")
        await soon(lambda: len(self.waiting) > count)
        return parked

    @property
    def number(self) -> int:
        """What the last poll is called."""
        return self.waiting[-1][0].number

    async def lent(self) -> Parked:
        """A poll that is lent back."""
        parked = await self.park()
        self.away.lent([self.number])
        return parked

    def take(self) -> asyncio.Future[bytes]:
        """The host has a task for the last poll."""
        return self.away.take(AskTake(self.number, "task"))


@pytest.fixture
async def scene(services: TestServices) -> AsyncIterator[Scene]:
    place = services.place()
    buses = [Bus(BusOptions(servers=(place.nats_url,), prefix=place.prefix), name) for name in ("home", "host")]
    asks = [Ask(bus) for bus in buses]
    for bus in buses:
        await bus.start()
        assert await bus.wait_connected(20)
    made = Scene(*asks)
    await asyncio.sleep(0.05)
    yield made
    for bus in buses:
        await bus.stop()


def response(done: asyncio.Future[bytes]) -> Response:
    return protocol.decode_response(done.result())


async def test_the_host_answers_a_poll_that_is_not_lent(scene: Scene) -> None:
    parked = await scene.park()
    assert scene.away.reserve(NAME, "echo", None) is None
    question, answer = scene.waiting[0]
    answer.set_result(protocol.encode(Granted(question.poll, grant())))
    assert await asyncio.wait_for(parked.future, 20) == grant()
    assert not scene.handed_back


async def test_a_reserved_poll_is_told_to_the_host_and_served(scene: Scene) -> None:
    parked = await scene.lent()
    reserved = scene.away.reserve(NAME, "echo", None)
    assert reserved is not None and reserved.identity.worker_id == "worker"
    assert scene.away.reserve(NAME, "echo", None) is None
    assert response(scene.take()) == Moved()  # taken already
    assert not scene.served  # not before the commit
    reserved.settle(grant("mine", 3))
    assert await parked.future == grant("mine", 3)
    assert scene.served == [(scene.number, "mine", 3)]
    # What the host answers all the same reaches nobody: its lease goes back.
    question, answer = scene.waiting[0]
    theirs = protocol.encode(Granted(question.poll, grant("theirs")))
    answer.set_result(theirs)
    await soon(lambda: bool(scene.undelivered))
    assert scene.undelivered == [theirs] and parked.future.result() == grant("mine", 3)


async def test_a_poll_whose_commit_failed_stays_lent(scene: Scene) -> None:
    parked = await scene.lent()
    other = await scene.lent()
    first = scene.away.reserve(NAME, "echo", None)
    second = scene.away.reserve(NAME, "echo", None)
    assert first is not None and second is not None and first is not second
    second.settle(None)
    first.settle(None)
    assert [scene.away.reserve(NAME, "echo", None) for _ in range(3)] == [first, second, None]
    assert not scene.placed and not scene.served and not parked.future.done() and not other.future.done()


async def test_a_poll_that_its_host_let_go_during_the_commit(scene: Scene) -> None:
    """With a lease it has it, without it looks for a place; a host's empty answer does not end it before."""
    for granted in (grant(), None):
        parked = await scene.lent()
        reserved = scene.away.reserve(NAME, "echo", None)
        assert reserved is not None
        question, answer = scene.waiting[-1]
        answer.set_result(protocol.encode(Granted(question.poll, None)))
        await soon(lambda: not scene.away._away)
        assert not parked.future.done()
        reserved.settle(granted)
        if granted is None:
            await soon(lambda: bool(scene.placed))
            assert scene.placed == [parked] and not parked.future.done()
        else:
            assert await parked.future == granted


async def test_the_host_has_a_lent_poll_claim_its_task(scene: Scene) -> None:
    parked = await scene.lent()
    taking = scene.take()
    assert scene.away.reserve(NAME, "echo", None) is None  # under way
    (command, claim) = scene.router.claims[0]
    assert isinstance(command, ClaimTask) and command.task_id == "task"
    claim.set_result(grant("task", 2))
    assert await asyncio.wait_for(parked.future, 20) == grant("task", 2)
    await taking
    assert response(taking) == Taken(2)
    assert response(scene.take()) == Moved()  # it waits no longer


async def test_a_claim_that_is_refused_leaves_the_poll_lent(scene: Scene) -> None:
    parked = await scene.lent()
    taking = scene.take()
    refusal = NotDue(5)
    scene.router.claims[0][1].set_result(refusal)
    await taking
    assert response(taking) == Answer(refusal)
    assert not parked.future.done()
    assert scene.away.reserve(NAME, "echo", None) is not None


async def test_a_claim_of_unknown_outcome_is_released_before_the_host_hears_of_it(scene: Scene) -> None:
    parked = await scene.lent()
    taking = scene.take()
    scene.router.claims[0][1].set_exception(Unavailable("the store is away"))
    await soon(lambda: len(scene.router.claims) >= 2)
    assert scene.router.claims[1][0] == ReleaseClaim("task", "worker", ANY_ATTEMPT)
    scene.router.claims[1][1].set_exception(Unavailable("still away"))
    await soon(lambda: len(scene.router.claims) >= 3)
    assert not taking.done()
    assert scene.away.reserve(NAME, "echo", None) is not None and not parked.future.done()
    scene.router.claims[2][1].set_result(Done())
    await taking
    answer = response(taking)
    assert isinstance(answer, Answer) and isinstance(answer.reply, NotDue)


async def test_a_claim_for_a_poll_that_is_not_lent_does_not_lend_it(scene: Scene) -> None:
    parked = await scene.park()
    taking = scene.take()
    scene.router.claims[0][1].set_result(Refused("not_ready"))
    await taking
    assert scene.away.reserve(NAME, "echo", None) is None
    assert not parked.future.done()


async def test_a_client_that_leaves_during_the_claim_swallows_no_task(scene: Scene) -> None:
    parked = await scene.lent()
    taking = scene.take()
    parked.abandon()
    scene.router.claims[0][1].set_result(grant("task", 1))
    await taking
    assert response(taking) == Taken(1)
    assert scene.handed_back == [grant("task", 1)]


async def test_a_queue_that_moves_during_the_claim(scene: Scene) -> None:
    """The poll is on its way to its new host when the lease comes: it gets it, and waits nowhere any more."""
    parked = await scene.lent()
    taking = scene.take()
    scene.waiting[0][1].set_result(protocol.encode(Moved()))
    await soon(lambda: bool(scene.placed))
    scene.away.send(parked, asyncio.get_running_loop().time() + 30, "host")
    await soon(lambda: len(scene.waiting) == 2)
    scene.away.lent([scene.number])
    scene.router.claims[0][1].set_result(grant("task", 1))
    await taking
    assert await parked.future == grant("task", 1)
    assert scene.away.reserve(NAME, "echo", None) is None
    await soon(scene.waiting[1][1].cancelled)  # its new host is told
    assert not scene.handed_back


async def test_a_client_that_leaves_is_withdrawn_and_lent_no_more(scene: Scene) -> None:
    parked = await scene.lent()
    parked.abandon()
    assert scene.away.reserve(NAME, "echo", None) is None
    await soon(scene.waiting[0][1].cancelled)
    assert response(scene.take()) == Moved()


async def test_a_host_that_cannot_be_asked_or_is_gone(scene: Scene) -> None:
    parked = Parked(Poll(*NAME, WorkerProfile("worker"), 30.0), lambda *_: None)
    scene.away.send(parked, asyncio.get_running_loop().time() + 30, "nobody")
    await soon(lambda: bool(scene.unreachable))
    assert scene.unreachable == [parked]
    waiting = await scene.lent()
    scene.router._ask.fail_pending("host")
    await soon(lambda: bool(scene.placed))
    assert scene.placed == [waiting]
    assert scene.away.reserve(NAME, "echo", None) is None


async def test_draining_ends_all_empty(scene: Scene) -> None:
    polls = [await scene.park(), await scene.lent()]
    scene.away.drain()
    assert [await poll.future for poll in polls] == [None, None]
    assert scene.away.reserve(NAME, "echo", None) is None
