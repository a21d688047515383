"""A task queue whose store or runs fail: no poll outlasts its time, no poll and no task is lost (architecture, rules 3, 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from actors.clock import Clock
from actors.errors import Unavailable
from actors.queue.candidates import Found
from actors.queue.matching import QueuedTask
from actors.queue.parked_poll import Grant, ParkedPoll
from actors.queue.poll import Poll, QueueName, WorkerProfile
from actors.queue.queue_actor import QueueActor
from actors.run.commands import RunCommand
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, ReleaseClaim
from actors.run.replies import Done, Refused, RunReply
from tests.cluster.asking import (
    grant,
    task,
)

pytestmark = pytest.mark.proof

NAME = QueueName("default", "queue", "activity")


class QueueHarness:
    """A queue, the commands it sent to runs, and the rows it finds in the store."""

    def __init__(self) -> None:
        self.asked: list[tuple[RunCommand, asyncio.Future[RunReply]]] = []
        self.rows: list[QueuedTask] = []
        self.store_away = False
        self.loads = 0
        self.handed_back: list[Grant] = []
        self.queue = QueueActor(NAME, self._ask_run, self._load, Clock().now)

    def _ask_run(self, _any_id: str, command: RunCommand) -> asyncio.Future[RunReply]:
        future: asyncio.Future[RunReply] = asyncio.get_running_loop().create_future()
        self.asked.append((command, future))
        return future

    async def _load(self, *_: object) -> Found:
        self.loads += 1
        await asyncio.sleep(0.01)
        if self.store_away:
            raise Unavailable("away")
        return Found(list(self.rows))

    def park(self, seconds: float, request_id: str | None = None) -> ParkedPoll:
        poll = Poll("default", "queue", "activity", WorkerProfile("worker"), seconds, request_id)
        parked = ParkedPoll(poll, self.handed_back.append)
        self.queue.park(parked, seconds)
        return parked

    def commands(self) -> list[type[RunCommand]]:
        return [type(command) for command, _ in self.asked]

    async def soon(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.005)


async def test_polls_end_in_time_while_the_store_was_never_reachable() -> None:
    scene = QueueHarness()
    scene.store_away = True
    parked = scene.park(0.3)
    assert await asyncio.wait_for(parked.future, 20) is None


async def test_a_first_look_that_failed_is_repeated_for_polls_that_wait() -> None:
    scene = QueueHarness()
    scene.store_away = True
    parked = scene.park(10)
    await scene.soon(lambda: scene.loads == 1)
    scene.rows, scene.store_away = [task()], False
    await scene.soon(lambda: scene.commands() == [ClaimTask])
    scene.asked[0][1].set_result(grant())
    assert await asyncio.wait_for(parked.future, 20) == grant()


async def test_a_claim_of_unknown_outcome_is_released_and_the_task_offered_again() -> None:
    scene = QueueHarness()
    parked = scene.park(10)
    await scene.soon(lambda: scene.loads == 1)
    await asyncio.sleep(0.02)
    scene.queue.offer(task())
    scene.asked[0][1].set_exception(Unavailable("the commit was cut off"))
    await scene.soon(lambda: scene.commands() == [ClaimTask, ReleaseClaim])
    scene.queue.offer(task())  # meanwhile nobody else may claim it here
    assert len(scene.asked) == 2
    release = scene.asked[1][0]
    assert isinstance(release, ReleaseClaim) and (release.worker_id, release.attempt) == ("worker", ANY_ATTEMPT)
    scene.asked[1][1].set_exception(Unavailable("still away"))
    await scene.soon(lambda: scene.commands() == [ClaimTask, ReleaseClaim, ReleaseClaim])
    scene.asked[2][1].set_result(Done())
    await scene.soon(lambda: scene.commands()[3:] == [ClaimTask])
    scene.asked[3][1].set_result(grant(attempt=2))
    assert await asyncio.wait_for(parked.future, 20) == grant(attempt=2)


async def test_a_queue_that_moves_sends_on_polls_that_wait_or_whose_claim_fails() -> None:
    scene = QueueHarness()
    claiming = scene.park(50)
    await scene.soon(lambda: scene.loads == 1)
    await asyncio.sleep(0.02)
    scene.queue.offer(task())
    waiting = scene.park(70)
    sent_on: list[tuple[ParkedPoll, float]] = []
    scene.queue.hand_off(lambda parked, deadline: sent_on.append((parked, deadline)))
    now = asyncio.get_running_loop().time()
    assert [parked for parked, _ in sent_on] == [waiting]
    scene.asked[0][1].set_result(Refused("not_ready"))
    await scene.soon(lambda: len(sent_on) == 2)
    assert sent_on[1][0] is claiming
    # With what is left of their time, not all of it again.
    assert 40 < sent_on[1][1] - now < 50
    assert 60 < sent_on[0][1] - now < 70
    late = scene.park(10)
    assert sent_on[2][0] is late


async def test_a_queue_that_moves_still_delivers_what_it_had_claimed() -> None:
    scene = QueueHarness()
    parked = scene.park(50)
    await scene.soon(lambda: scene.loads == 1)
    await asyncio.sleep(0.02)
    scene.queue.offer(task())
    scene.queue.hand_off(lambda *_: None)
    scene.asked[0][1].set_result(grant())
    assert await asyncio.wait_for(parked.future, 20) == grant()


async def test_a_repeated_poll_learns_that_the_first_one_failed() -> None:
    scene = QueueHarness()
    first = scene.park(50, "request")
    again = scene.park(50, "request")
    first.fail(Unavailable("lost"))
    error = (await asyncio.wait({again.future}, timeout=20))[0].pop().exception()
    assert isinstance(error, Unavailable)
    first.future.exception()


async def test_a_repeated_poll_that_waits_on_alone_waits_for_what_is_left_of_its_time() -> None:
    scene = QueueHarness()
    first = scene.park(50, "request")
    again = scene.park(50, "request")
    parked_at = asyncio.get_running_loop().time()
    await scene.soon(lambda: scene.loads == 1)
    await asyncio.sleep(0.5)
    first.abandon()
    await asyncio.sleep(0.02)
    sent_on: list[tuple[ParkedPoll, float]] = []
    scene.queue.hand_off(lambda parked, deadline: sent_on.append((parked, deadline)))
    assert (again, True) in [(parked, deadline - parked_at <= 50) for parked, deadline in sent_on]


async def test_a_grant_to_a_client_that_left_meanwhile_is_handed_back() -> None:
    scene = QueueHarness()
    parked = scene.park(50)
    await scene.soon(lambda: scene.loads == 1)
    await asyncio.sleep(0.02)
    scene.queue.offer(task())
    parked.abandon()
    scene.asked[0][1].set_result(grant())
    await scene.soon(lambda: scene.handed_back == [grant()])
