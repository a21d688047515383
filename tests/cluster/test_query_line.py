"""Query polls sent again, by the broker alone (worker-protocol 4.3, 8.1)."""

from __future__ import annotations

import asyncio

from actors.clock import Clock
from actors.queue.parked_poll import Grant, ParkedPoll, PollState
from actors.queue.poll import QUERY, Poll, WorkerProfile
from actors.queue.query_broker import QueryBroker, QueryRules
from actors.queue.query_types import Query, QueryTaskGrant
from actors.run.commands import RunCommand
from actors.run.replies import QueryView, Refused, RunReply

QUEUE = ("default", "queue")
VIEW = QueryView("w", "run", "echo", "avro", b"", "waiting", "queue", None, 1, b"[]")


class Scene:
    """A broker, and runs that answer at once."""

    def __init__(self, reply: RunReply = VIEW) -> None:
        self.reply = reply
        self.handed_back: list[Grant] = []
        self.broker = QueryBroker(QueryRules(timeout=5.0, lease=5, max_pending=100), self._ask_run, Clock().now)

    def _ask_run(self, _any_id: str, _command: RunCommand) -> asyncio.Future[RunReply]:
        future: asyncio.Future[RunReply] = asyncio.get_running_loop().create_future()
        future.set_result(self.reply)
        return future

    def park(self, request_id: str | None = None, seconds: float = 30.0) -> ParkedPoll:
        poll = Poll(*QUEUE, QUERY, WorkerProfile("worker"), seconds, request_id)
        parked = ParkedPoll(poll, self.handed_back.append)
        self.broker.park(parked, seconds)
        return parked

    def ask(self) -> asyncio.Task[object]:
        return asyncio.create_task(self.broker.ask(QUEUE, 1, "run", "echo", None, Query("q")))


async def test_a_poll_sent_again_gets_the_query_of_the_first_one() -> None:
    scene = Scene()
    first, again = scene.park("same"), scene.park("same")
    asked = scene.ask()
    granted = await asyncio.wait_for(first.future, 20)
    assert isinstance(granted, QueryTaskGrant) and await asyncio.wait_for(again.future, 20) == granted
    late = scene.park("same")
    assert late.future.result() == granted
    asked.cancel()


async def test_a_poll_whose_query_came_to_nothing_waits_on_in_its_place() -> None:
    scene = Scene(Refused("run_closed"))
    first, second = scene.park(), scene.park()
    assert isinstance(await asyncio.wait_for(scene.ask(), 20), Refused)
    assert first.state is PollState.WAITING
    scene.reply = VIEW
    asked = scene.ask()
    assert isinstance(await asyncio.wait_for(first.future, 20), QueryTaskGrant)
    assert not second.future.done()
    asked.cancel()


async def test_a_client_that_leaves_frees_its_place_and_a_poll_ends_in_time() -> None:
    scene = Scene(Refused("run_closed"))
    first, second = scene.park(), scene.park(seconds=0.2)
    await asyncio.wait_for(scene.ask(), 20)
    first.abandon()
    assert await asyncio.wait_for(second.future, 20) is None
    scene.reply = VIEW
    asked = scene.ask()
    await asyncio.sleep(0.05)
    assert not asked.done() and not scene.handed_back
    asked.cancel()
