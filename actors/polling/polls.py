"""Polls, wherever their queue is hosted: parked here, waiting at another node, moved with a shard, handed back when lost.

What waits elsewhere is `away`, what waits here for other nodes is `lending`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

import msgspec

from actors.cluster import protocol
from actors.cluster.protocol import Answer, AskPoll, AskTake, Granted, Moved, Served
from actors.cluster.router import Router
from actors.hosting.host import Host
from actors.polling.forwarded_polls import Away, AwayPolls
from actors.polling.peer_polls import Lending
from actors.queue.parked_poll import Grant, Parked, Reservation, attempt_of
from actors.queue.poll import QUERY, Poll
from actors.queue.query_broker import QueryBroker
from actors.queue.query_types import QueryTaskGrant
from actors.queue.queue_actor import QueueActor, QueueName
from actors.run.commands.worker import ReleaseClaim
from actors.run.replies import ActivityTaskGrant, WorkflowTaskGrant
from base.observability.actions import said
from bus.ask import Ask

_log = logging.getLogger("dw.actors")

_GUEST_SECONDS = 1.0
_RETRY_SECONDS = 0.05


class Polls:
    """The polls that clients of this node hold, and those that other nodes wait with here."""

    def __init__(self, host: Host, queries: QueryBroker, router: Router, ask: Ask) -> None:
        self._host = host
        self._queries = queries
        self._router = router
        self._ask = ask
        self._away = AwayPolls(router, ask, self._place_later, self._be_guest, self._tell_served)
        self._lending = Lending(router, ask, self._park_here, self._served_elsewhere)
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
        owner = self._router.elsewhere(self._host.queue_shard(poll.namespace, poll.queue))
        if owner is None:
            self._park_here(parked, deadline - asyncio.get_running_loop().time())
        else:
            self._away.send(parked, deadline, owner)

    def _park_here(self, parked: Parked, seconds: float) -> None:
        poll = parked.poll
        if poll.kind == QUERY:
            self._queries.park(parked, seconds)
        else:
            self._host.queue((poll.namespace, poll.queue, poll.kind)).park(parked, seconds)

    def _served_elsewhere(self, poll: Poll, task_id: str, attempt: int) -> None:
        if self._router.owns(self._host.queue_shard(poll.namespace, poll.queue)):
            self._host.queue((poll.namespace, poll.queue, poll.kind)).served_elsewhere(poll, task_id, attempt)

    def _tell_served(self, away: Away, task_id: str, attempt: int) -> None:
        """A poll of ours that waited at another node was served here: the queue's host should know, whoever that is now."""
        poll = away.parked.poll
        owner = self._router.elsewhere(self._host.queue_shard(poll.namespace, poll.queue))
        told = protocol.encode(Served(self._router.node_id, away.number, poll, task_id, attempt))
        for node_id in {owner, away.owner} - {None}:
            self._ask.tell(str(node_id), told)
        if owner is None:
            self._served_elsewhere(poll, task_id, attempt)

    def _be_guest(self, parked: Parked, deadline: float) -> None:
        """The host of the queue cannot be asked: look into the ready rows from here for a while, then for the host again."""
        task = asyncio.get_running_loop().create_task(self._wait_as_guest(parked, deadline))
        self._under_way.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._under_way.discard(done)
            if done.cancelled():  # the client left, or this node leaves, perhaps before the task began
                parked.give(None)

        def leave() -> None:
            task.cancel()

        task.add_done_callback(ended)

        parked.waits_at(leave)

    async def _wait_as_guest(self, parked: Parked, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            remaining = max(deadline - loop.time(), 0.0)
            grant = await self._poll_as_guest(parked.poll, min(remaining, _GUEST_SECONDS))
        except Exception:
            _log.exception("a poll without its queue's host failed", extra=said("poll.failed"))
            parked.give(None)
            return
        if grant is not None or loop.time() >= deadline:
            parked.give(grant)
        else:
            parked.waits_at(None)
            self._place(parked, deadline)

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
        self._router.release_claim(ReleaseClaim(grant.task_id, grant.lease_owner, attempt_of(grant)))

    # -- polls of other nodes ------------------------------------------------------------------------------------------

    def serve(self, question: AskPoll) -> asyncio.Future[bytes]:
        """Hold the poll of another node's client (`Lending.hold`); `Moved` when its queue is not hosted here any more."""
        poll = question.poll
        if self._draining or not self._router.owns(self._host.queue_shard(poll.namespace, poll.queue)):
            response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            response.set_result(protocol.encode(Moved()))
            return response
        return self._lending.hold(question, Parked(poll, self._hand_back))

    def undelivered(self, answer: bytes) -> None:
        """An answer that reached nobody: what it granted goes back."""
        try:
            response = protocol.decode_response(answer)
        except msgspec.DecodeError:
            return
        if isinstance(response, Granted) and response.grant is not None:
            self._hand_back(response.poll, response.grant)
        elif isinstance(response, Answer) and response.leases:
            assert isinstance(response.reply, WorkflowTaskGrant | ActivityTaskGrant)
            self.take_back(response.reply)

    def served(self, told: Served) -> None:
        """A poll lent to its own node got its task there (`Lending.served`)."""
        self._lending.served(told)

    # -- lent by other nodes -------------------------------------------------------------------------------------------

    def lent(self, numbers: list[int]) -> None:
        """Polls of ours wait in line at another node (`AwayPolls.lent`)."""
        self._away.lent(numbers)

    def reserve_lent(self, name: QueueName, type_name: str, compatibility: str | None) -> Reservation | None:
        """A poll of ours that waits at another node, for a task about to be committed (`AwayPolls.reserve`)."""
        return self._away.reserve(name, type_name, compatibility)

    def take(self, question: AskTake) -> asyncio.Future[bytes]:
        """Claim a task for a poll of ours that waits at another node (`AwayPolls.take`)."""
        return self._away.take(question)

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
        self._away.drain()
        for task in list(self._under_way):
            task.cancel()
