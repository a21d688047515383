"""Polls, wherever their queue is hosted: parked here, waiting at another node, moved with a shard, handed back when lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import msgspec

from actors import messages
from actors.host import Host
from actors.messages import AskPoll, Failed, Granted, Moved
from actors.queries import QueryTaskGrant
from actors.queue.actor import QueueActor
from actors.queue.parked import Grant, Parked
from actors.queue.poll import QUERY, Poll
from actors.queue.queries import QueryBroker
from actors.router import Router
from actors.run.commands import ReleaseClaim
from actors.run.replies import ActivityTaskGrant, RunReply
from bus.ask import Ask
from bus.errors import OutcomeUnknown, Unreachable

_log = logging.getLogger(__name__)

_MARGIN_SECONDS = 2.0  # how much longer than a poll its answer from another node may take
_GUEST_SECONDS = 1.0
_RETRY_SECONDS = 0.05
_HAND_BACK_TRIES = 300  # one a second; after that the lease has run out by itself


class Polls:
    """The polls that clients of this node hold, and those that other nodes wait with here."""

    def __init__(self, host: Host, queries: QueryBroker, router: Router, ask: Ask) -> None:
        self._host = host
        self._queries = queries
        self._router = router
        self._ask = ask
        self._draining = False
        self._under_way: set[asyncio.Task[None]] = set()

    def poll(self, poll: Poll) -> Parked:
        """Park a poll until a task is leased to it or its time is over; it may be answered already on return.

        The future raises `Unavailable` only where a repeated poll cannot be answered.
        """
        parked = Parked(poll, self._hand_back)
        self._place(parked, asyncio.get_running_loop().time() + poll.timeout_seconds)
        return parked

    # -- where a poll waits --------------------------------------------------------------------------------------------

    def _place(self, parked: Parked, deadline: float) -> None:
        """Let a poll wait in its queue, wherever that is hosted now."""
        if parked.gone or parked.future.done():
            return
        if self._draining:
            parked.give(None)
            return
        poll = parked.poll
        remaining = deadline - asyncio.get_running_loop().time()
        if self._router.elsewhere(self._host.queue_shard(poll.namespace, poll.queue)) is None:
            self._park_here(parked, remaining)
            return
        task = asyncio.get_running_loop().create_task(self._poll_elsewhere(parked, deadline))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

        def leave() -> None:
            task.cancel()

        parked.waits_at(leave)

    def _park_here(self, parked: Parked, seconds: float) -> None:
        poll = parked.poll
        if poll.kind == QUERY:
            self._queries.park(parked, seconds)
        else:
            self._host.queue((poll.namespace, poll.queue, poll.kind)).park(parked, seconds)

    async def _poll_elsewhere(self, parked: Parked, deadline: float) -> None:
        try:
            await self._wait_elsewhere(parked, deadline)
        except asyncio.CancelledError:  # the client left, or this node leaves
            parked.give(None)
            raise
        except Exception:
            _log.exception("a poll on another node failed")
            parked.give(None)

    async def _wait_elsewhere(self, parked: Parked, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        poll = parked.poll
        shard = self._host.queue_shard(poll.namespace, poll.queue)
        while True:
            remaining = deadline - loop.time()
            owner = self._router.elsewhere(shard)
            if owner is None:
                parked.waits_at(None)
                self._place(parked, deadline)
                return
            if self._draining:
                parked.give(None)
                return
            try:
                question = messages.encode(AskPoll(poll, max(remaining, 0.0)))
                answer = await self._ask.ask(owner, question, max(remaining, 0.0) + _MARGIN_SECONDS)
            except Unreachable:
                grant = await self._poll_as_guest(poll, min(max(remaining, 0.0), _GUEST_SECONDS))
                if grant is not None or remaining <= _GUEST_SECONDS:
                    parked.give(grant)
                    return
                continue
            except OutcomeUnknown:
                if remaining <= 0:
                    parked.give(None)
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            response = messages.decode_response(answer)
            if isinstance(response, Granted):
                parked.give(response.grant)
                return
            if remaining <= 0:
                parked.give(None)
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _poll_as_guest(self, poll: Poll, seconds: float) -> Grant | None:
        """Wait a while in a queue of our own for a queue whose owner cannot be reached: the ready rows are the truth."""
        if poll.kind == QUERY:
            await asyncio.sleep(seconds)  # queries are not stored anywhere
            return None
        guest = Parked(msgspec.structs.replace(poll, poll_request_id=None), self._hand_back)
        guest.guest = True
        queue = self._host.queue((poll.namespace, poll.queue, poll.kind))
        queue.park(guest, seconds)
        queue.reload()
        try:
            return await asyncio.shield(guest.future)
        except asyncio.CancelledError:
            guest.abandon()
            raise

    # -- grants that reached nobody ------------------------------------------------------------------------------------

    def _hand_back(self, _poll: Poll, grant: Grant) -> None:
        self.take_back(grant)

    def take_back(self, grant: Grant) -> None:
        """A grant reached nobody, if there is one at all: its lease ends now, not when it runs out."""
        if isinstance(grant, QueryTaskGrant):
            self._queries.take_back(grant)  # hosted elsewhere, it ends with its caller's patience
            return
        attempt = grant.attempt_number if isinstance(grant, ActivityTaskGrant) else grant.workflow_task_attempt
        self._release_claim(ReleaseClaim(grant.task_id, grant.lease_owner, attempt), 1)

    def _release_claim(self, release: ReleaseClaim, tries: int) -> None:
        def again(done: asyncio.Future[RunReply]) -> None:
            if done.exception() is not None and tries < _HAND_BACK_TRIES:
                asyncio.get_running_loop().call_later(1.0, self._release_claim, release, tries + 1)

        self._router.tell_run(release.task_id, release).add_done_callback(again)

    # -- polls of other nodes ------------------------------------------------------------------------------------------

    def serve(self, question: AskPoll) -> asyncio.Future[bytes]:
        """Hold the poll of another node's client: `Granted`, or `Moved` when its queue is not hosted here any more."""
        response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        poll = question.poll
        if self._draining or not self._router.owns(self._host.queue_shard(poll.namespace, poll.queue)):
            response.set_result(messages.encode(Moved()))
            return response
        parked = Parked(poll, self._hand_back)
        parked.served = True

        def answered(done: asyncio.Future[Grant | None]) -> None:
            if response.done():
                return
            if done.cancelled():
                response.set_result(messages.encode(Moved()))
            elif done.exception() is not None:
                response.set_result(messages.encode(Failed(str(done.exception()))))
            else:
                response.set_result(messages.encode(Granted(poll, done.result())))

        parked.future.add_done_callback(answered)
        response.add_done_callback(lambda done: parked.abandon() if done.cancelled() else None)
        self._park_here(parked, question.seconds)
        return response

    def undelivered(self, answer: bytes) -> None:
        """An answer of `serve` that did not reach its node: what it granted goes back."""
        try:
            response = messages.decode_response(answer)
        except msgspec.DecodeError:
            return
        if isinstance(response, Granted) and response.grant is not None:
            self._hand_back(response.poll, response.grant)

    # -- shards come and go --------------------------------------------------------------------------------------------

    def move(self, shards: Collection[int]) -> None:
        """These shards are hosted elsewhere from now on: their polls wait there."""
        for queue in self._host.queues_of(set(shards)):
            self._hand_off(queue)
        self._queries.hand_off(lambda queue: self._host.queue_shard(*queue) in shards, self._place_later)

    def settle(self) -> None:
        """Send polls on that wait here for a queue another live node hosts: they came while nobody hosted it."""
        for queue in self._host.all_queues():
            if self._moved(queue.name[0], queue.name[1]) and not queue.has_guests:
                self._hand_off(queue)
        self._queries.hand_off(lambda queue: self._moved(*queue), self._place_later)

    def _moved(self, namespace: str, queue: str) -> bool:
        return self._router.elsewhere(self._host.queue_shard(namespace, queue)) is not None

    def _hand_off(self, queue: QueueActor) -> None:
        self._host.drop_queue(queue.name)
        queue.hand_off(self._place_later)

    def _place_later(self, parked: Parked, deadline: float) -> None:
        """Park again once the new owner is known."""
        if parked.served:
            parked.future.cancel()  # its own node looks for it
        elif self._draining:
            parked.give(None)
        else:
            later = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._place, parked, deadline)
            parked.waits_at(later.cancel)

    def drain(self) -> None:
        """Shutting down: parked polls end empty, new ones are answered at once."""
        self._draining = True
        self._queries.drain()
        for queue in self._host.all_queues():
            self._hand_off(queue)
        self._queries.hand_off(lambda _: True, self._place_later)
        for task in list(self._under_way):
            task.cancel()
