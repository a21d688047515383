"""Polls, wherever their queue is hosted: parked here, forwarded to another node, moved with a shard, handed back when lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import msgspec

from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskPoll, AskTake, Granted, Moved
from actors.cluster.router import Router
from actors.hosting.host import Host
from actors.polling import peer_polls
from actors.polling.forwarded_polls import ForwardedPolls
from actors.queue.parked_poll import Grant, ParkedPoll, attempt_of
from actors.queue.poll import QUERY, Poll
from actors.queue.query_broker import QueryBroker
from actors.queue.query_types import QueryTaskGrant
from actors.queue.queue_actor import QueueActor
from actors.run.commands.worker import ReleaseClaim
from actors.run.replies import ActivityTaskGrant, WorkflowTaskGrant
from base.observability.actions import said
from bus.ask import Ask

_log = logging.getLogger("dw.actors")

_FALLBACK_SECONDS = 1.0
_RETRY_SECONDS = 0.05


class Polls:
    """The polls that clients of this node hold, and those that other nodes wait with here."""

    def __init__(self, host: Host, queries: QueryBroker, router: Router, ask: Ask) -> None:
        self._host = host
        self._queries = queries
        self._router = router
        self._forwarded = ForwardedPolls(router, ask, self._place_later, self._fall_back, self.take_back)
        self._draining = False
        self._under_way: set[asyncio.Task[None]] = set()

    def poll(self, poll: Poll) -> ParkedPoll:
        """Park a poll until a task is leased to it or its time is over; it may be answered already on return.

        The future raises `Unavailable` only where a repeated poll cannot be answered.
        """
        parked = ParkedPoll(poll, self.take_back)
        self._place(parked, asyncio.get_running_loop().time() + poll.timeout_seconds)
        return parked

    # -- where a poll waits --------------------------------------------------------------------------------------------

    def _place(self, parked: ParkedPoll, deadline: float) -> None:
        """Let a poll wait in its queue, wherever that is hosted now."""
        if parked.ended:
            return
        if self._draining:
            parked.resolve(None)
            return
        poll = parked.poll
        host = self._router.elsewhere(self._host.queue_shard(poll.namespace, poll.queue))
        if host is None:
            self._park_here(parked, deadline - asyncio.get_running_loop().time())
        else:
            self._forwarded.send(parked, deadline, host)

    def _park_here(self, parked: ParkedPoll, seconds: float) -> None:
        poll = parked.poll
        if poll.kind == QUERY:
            self._queries.park(parked, seconds)
        else:
            self._host.queue(poll.name).park(parked, seconds)

    def _fall_back(self, parked: ParkedPoll, deadline: float) -> None:
        """The host of the queue cannot be asked: look into the ready rows from here for a while, then for the host again."""
        task = asyncio.get_running_loop().create_task(self._wait_without_host(parked, deadline))
        self._under_way.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._under_way.discard(done)
            if done.cancelled():  # the client left, or this node leaves, perhaps before the task began
                parked.resolve(None)

        def leave() -> None:
            task.cancel()

        task.add_done_callback(ended)

        parked.waits_at(leave)

    async def _wait_without_host(self, parked: ParkedPoll, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            remaining = max(deadline - loop.time(), 0.0)
            grant = await self._poll_here(parked.poll, min(remaining, _FALLBACK_SECONDS))
        except Exception:
            _log.exception("a poll without its queue's host failed", extra=said("poll.failed"))
            parked.resolve(None)
            return
        if grant is not None or loop.time() >= deadline:
            parked.resolve(grant)
        else:
            parked.waits_at(None)
            self._place(parked, deadline)

    async def _poll_here(self, poll: Poll, seconds: float) -> Grant | None:
        """Wait a while in a queue of our own for a queue whose host cannot be reached: the ready rows are the truth."""
        if poll.kind == QUERY:
            await asyncio.sleep(seconds)  # queries are not stored anywhere
            return None
        fallback = ParkedPoll(msgspec.structs.replace(poll, poll_request_id=None), self.take_back, fallback=True)
        queue = self._host.queue(poll.name)
        queue.park(fallback, seconds)
        queue.reload()
        try:
            return await asyncio.shield(fallback.future)
        except asyncio.CancelledError:
            fallback.abandon()
            raise

    # -- grants that reached nobody ------------------------------------------------------------------------------------

    def take_back(self, grant: Grant) -> None:
        """A grant reached nobody, if there is one at all: its lease ends now, not when it runs out."""
        if isinstance(grant, QueryTaskGrant):
            self._queries.take_back(grant)  # hosted elsewhere, it ends with its caller's patience
            return
        self._router.release_claim(ReleaseClaim(grant.task_id, grant.lease_owner, attempt_of(grant)))

    # -- polls of other nodes ------------------------------------------------------------------------------------------

    def serve(self, question: AskPoll) -> asyncio.Future[bytes]:
        """Hold the poll of another node's client (`peer_polls.answer_of`); `Moved` when its queue is hosted elsewhere."""
        poll = question.poll
        if self._draining or not self._router.owns(self._host.queue_shard(poll.namespace, poll.queue)):
            response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            response.set_result(protocol.encode(Moved()))
            return response
        parked = ParkedPoll(poll, self.take_back, for_peer=True)
        response = peer_polls.answer_of(parked)
        self._park_here(parked, question.seconds)
        return response

    def claim_for_older_host(self, question: AskTake) -> asyncio.Future[bytes]:
        """Claim a task for a poll that waits at a node of an older version (`ForwardedPolls.claim_for_older_host`)."""
        return self._forwarded.claim_for_older_host(question)

    def undelivered(self, answer: bytes) -> None:
        """An answer that reached nobody: what it granted goes back."""
        try:
            response = protocol.decode_response(answer)
        except msgspec.DecodeError:
            return
        if isinstance(response, Granted) and response.grant is not None:
            self.take_back(response.grant)
        elif isinstance(response, Answer) and response.leases:
            assert isinstance(response.reply, WorkflowTaskGrant | ActivityTaskGrant)
            self.take_back(response.reply)

    # -- shards come and go --------------------------------------------------------------------------------------------

    def move(self, shards: Collection[int]) -> None:
        """These shards are hosted elsewhere from now on: their polls wait there."""
        for queue in self._host.queues_of(set(shards)):
            self._hand_off(queue)
        self._queries.hand_off(lambda queue: self._host.queue_shard(*queue) in shards, self._place_later)

    def send_on(self) -> None:
        """Send polls on that wait here for a queue another live node hosts: they came while nobody hosted it."""
        for queue in self._host.all_queues():
            if self._moved(queue.name.namespace, queue.name.queue) and not queue.has_fallbacks:
                self._hand_off(queue)
        self._queries.hand_off(lambda queue: self._moved(*queue), self._place_later)

    def _moved(self, namespace: str, queue: str) -> bool:
        return self._router.elsewhere(self._host.queue_shard(namespace, queue)) is not None

    def _hand_off(self, queue: QueueActor) -> None:
        self._host.drop_queue(queue.name)
        queue.hand_off(self._place_later)

    def _place_later(self, parked: ParkedPoll, deadline: float) -> None:
        """Park again once the new host is known."""
        if parked.for_peer:
            parked.abandon()  # its own node hears `Moved` and looks for the new host
        elif self._draining:
            parked.resolve(None)
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
        self._forwarded.drain()
        for task in list(self._under_way):
            task.cancel()
