"""The engine as the API sees it: start, poll, and tell a task; wherever in the cluster the actors are.

Routing only: the owner of a shard is asked, directly on this node, by NATS on another one. An owner that cannot be reached is
no obstacle: the transition is executed here then, and the store's version check keeps it right (architecture, rules 1 and 7).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec

from actors import messages
from actors.control import Control, Eligible
from actors.errors import Unavailable
from actors.host import Host
from actors.mail import Mailman
from actors.messages import (
    Answer,
    AskFinishQuery,
    AskPoll,
    AskQuery,
    AskRun,
    AskStart,
    Failed,
    Granted,
    Moved,
    Posted,
    QueryAnswered,
    TaskOffer,
)
from actors.queries import Query, QueryAnswer, QueryOutcome, QueryTaskGrant
from actors.queue.actor import QueueActor
from actors.queue.matching import QueuedTask
from actors.queue.parked import Grant, Parked
from actors.queue.poll import QUERY, Poll
from actors.queue.queries import QueryBroker, QueryRules
from actors.run import ids
from actors.run.commands import Commanded, NoteDuplicateStart, ReleaseClaim, RunCommand, StartRun, UpdateRun
from actors.run.replies import ActivityTaskGrant, Refused, RunReply
from actors.run.transition import Letter, TaskReady
from actors.run_actor import InstanceTaken
from bus.ask import Ask
from bus.dispatch import Dispatch
from bus.errors import OutcomeUnknown, Unreachable
from store import instances
from store.errors import StoreError
from store.pool import Database

_log = logging.getLogger(__name__)

_ASK_SECONDS = 10.0
_POLL_MARGIN_SECONDS = 2.0  # how much longer than a poll its answer from another node may take
_GUEST_POLL_SECONDS = 1.0
_RETRY_SECONDS = 0.05
_HAND_BACK_TRIES = 300  # one a second; after that the lease has run out by itself


class Owners(Protocol):
    """Which node hosts which shard (`actors.placement`)."""

    def owner(self, shard: int) -> str | None: ...

    def owns(self, shard: int) -> bool: ...


class Engine:
    """Asks the right actor, on whichever node it is."""

    def __init__(self, node_id: str, db: Database, owners: Owners, ask: Ask, dispatch: Dispatch) -> None:
        self.node_id = node_id
        self.draining = False
        self.attached = False
        self.db = db
        self._owners = owners
        self.ask = ask
        self._dispatch = dispatch
        self.shards = 0
        self._background: set[asyncio.Task[None]] = set()
        self.host: Host
        self.queries: QueryBroker
        self.mail: Mailman
        self._control = Control(self)

    def attach(self, host: Host, shards: int, query_rules: QueryRules) -> None:
        """The actors of this node and how many shards there are; from here on requests and other nodes are answered."""
        self.host = host
        self.queries = QueryBroker(query_rules, self.tell_run)
        self.mail = Mailman(self.db, host)
        self.shards = shards
        self.attached = True
        self.ask.serve(self._serve)
        self.ask.on_undelivered(self._undelivered)
        self.ask.on_tell(self._told)
        self._dispatch.on_dispatch(self._offered)

    # -- starting ------------------------------------------------------------------------------------------------------

    def new_run_id(self, namespace: str, workflow_id: str) -> str:
        """A fresh run id in the shard of this workflow id."""
        run_key = ids.new_run_key(ids.shard_of(namespace, workflow_id, self.shards))
        return ids.mint(time.time_ns() // 1_000_000, run_key, ids.RUN)

    async def start_workflow(self, command: StartRun) -> RunReply:
        """Start a workflow: `Started`, or `Refused` (`workflow_type_mismatch`, `workflow_id_reserved_in_namespace`).

        An empty `run_id` is filled in. Raises `Unavailable` when the outcome is unknown (control-plane 5.1).
        """
        self._check_attached()
        if not command.run_id:
            run_id = self.new_run_id(command.namespace, command.workflow_id)
            command = msgspec.structs.replace(command, run_id=run_id)
        owner = self.elsewhere(ids.shard_in(command.run_id[10:25]))
        if owner is not None:
            try:
                answer = await self.ask.ask(owner, messages.encode(AskStart(command)), _ASK_SECONDS)
                return _reply(answer)
            except Unreachable:
                pass
            except OutcomeUnknown as error:
                raise Unavailable(str(error)) from error
        return await self._start_here(command)

    async def _start_here(self, command: StartRun) -> RunReply:
        for _ in range(5):
            try:
                return await self.host.start_run(command)
            except InstanceTaken:
                instance = await instances.get(self.db, command.workflow_id)
            if instance is None:
                continue
            if instance.namespace != command.namespace:
                return Refused("workflow_id_reserved_in_namespace")
            return await self.tell_run(instance.current_run_id, NoteDuplicateStart(command))
        raise Unavailable("the workflow id comes and goes")

    # -- telling runs --------------------------------------------------------------------------------------------------

    async def ask_task(self, namespace: str, task_id: str, command: RunCommand) -> RunReply:
        """Have the run of a task decide a command. An id that is none of ours is `Refused("task_not_found")`.

        Raises `Unavailable` when the outcome is unknown.
        """
        self._check_attached()
        run_key = ids.run_key_of(task_id)
        if run_key is None or ids.shard_in(run_key) >= self.shards:
            return Refused("task_not_found")
        return await self.tell_run(task_id, command, namespace)

    def tell_run(self, any_id: str, command: RunCommand, namespace: str | None = None) -> asyncio.Future[RunReply]:
        """Have the run that minted `any_id` decide a command, here or on the node that hosts it."""
        run_key = any_id[10:25]
        owner = self.elsewhere(ids.shard_in(run_key))
        if owner is None:
            return self.host.tell_run(run_key, command, namespace)
        payload = messages.encode(AskRun(run_key, command, namespace))
        try:
            asked = self.ask.start_ask(owner, payload, _ASK_SECONDS)
        except Unreachable:
            return self.host.tell_run(run_key, command, namespace)
        future: asyncio.Future[RunReply] = asyncio.get_running_loop().create_future()

        def answered(done: asyncio.Future[bytes]) -> None:
            error = done.exception()
            if isinstance(error, Unreachable):
                _follow(self.host.tell_run(run_key, command, namespace), future)
                return
            if future.done():
                return
            try:
                if error is not None:
                    raise Unavailable(str(error)) from error
                future.set_result(_reply(done.result()))
            except Exception as failure:
                future.set_exception(failure)

        asked.add_done_callback(answered)
        return future

    def _check_attached(self) -> None:
        if not self.attached:
            raise Unavailable("the node is starting")

    def owns(self, shard: int) -> bool:
        """Whether this node hosts the shard."""
        return self._owners.owns(shard)

    def owns_run(self, run_key: str) -> bool:
        """Whether this node hosts the run's shard."""
        return self._owners.owns(ids.shard_in(run_key))

    def elsewhere(self, shard: int) -> str | None:
        """The other live node that hosts the shard, None when it is this one or nobody."""
        if self._owners.owns(shard):
            return None
        owner = self._owners.owner(shard)
        return None if owner == self.node_id else owner

    async def ask_node(self, node_id: str, question: messages.Question, timeout_seconds: float) -> RunReply | None:
        """Put a question to another node; None when it certainly did not get it. Raises `Unavailable` otherwise."""
        try:
            return _reply(await self.ask.ask(node_id, messages.encode(question), timeout_seconds))
        except Unreachable:
            return None
        except OutcomeUnknown as error:
            raise Unavailable(str(error)) from error

    # -- commands and questions to a workflow id -----------------------------------------------------------------------

    async def command(self, namespace: str, workflow_id: str, command: Commanded, run_id: str | None = None) -> RunReply:
        """Signal, cancel, terminate, repair or archive (`Control.command`)."""
        self._check_attached()
        return await self._control.command(namespace, workflow_id, command, run_id)

    async def update(
        self,
        namespace: str,
        workflow_id: str,
        command: UpdateRun,
        run_id: str | None = None,
        wait_seconds: float | None = None,
    ) -> RunReply:
        """Accept an update and perhaps wait for its end (`Control.update`)."""
        self._check_attached()
        return await self._control.update(namespace, workflow_id, command, run_id, wait_seconds)

    async def query(
        self, namespace: str, workflow_id: str, query: Query, run_id: str | None, eligible: Eligible
    ) -> QueryAnswer | Refused:
        """Have a worker answer a question about a run (`Control.query`)."""
        self._check_attached()
        return await self._control.query(namespace, workflow_id, query, run_id, eligible)

    async def finish_query(self, namespace: str, outcome: QueryOutcome) -> RunReply:
        """A worker's answer to a query task (`Control.finish_query`)."""
        self._check_attached()
        return await self._control.finish_query(namespace, outcome)

    # -- letters between runs ------------------------------------------------------------------------------------------

    def post(self, letters: list[Letter]) -> None:
        """Announce committed letters to the nodes hosting their receivers; the rows are there if that is lost."""
        here: list[Letter] = []
        for letter in letters:
            owner = self.elsewhere(ids.shard_in(letter.run_id[10:25]))
            if owner is None or not self.ask.tell(owner, messages.encode(Posted([letter]))):
                here.append(letter)
        self.mail.deliver(here)

    def _told(self, payload: bytes) -> None:
        self.mail.deliver(messages.decode_posted(payload).letters)

    # -- ready tasks ---------------------------------------------------------------------------------------------------

    def dispatch(self, namespace: str, task: TaskReady) -> None:
        """Bring a committed ready task to the node hosting its queue; losing it is harmless, the row is there."""
        owner = self.elsewhere(self.host.queue_shard(namespace, task.queue))
        if owner is None:
            queued = QueuedTask(task.task_id, task.type_name, task.compatibility, task.priority, task.available_at)
            self.host.offer(namespace, task.queue, task.kind, queued)
            return
        offer = TaskOffer(
            namespace,
            task.queue,
            task.kind,
            task.task_id,
            task.type_name,
            task.compatibility,
            task.priority,
            task.available_at,
        )
        self._dispatch.send(owner, messages.encode(offer))

    def _offered(self, payload: bytes) -> None:
        offer = messages.decode_offer(payload)
        task = QueuedTask(offer.task_id, offer.type_name, offer.compatibility, offer.priority, offer.available_at)
        self.host.offer(offer.namespace, offer.queue, offer.kind, task)

    # -- polls ---------------------------------------------------------------------------------------------------------

    def poll(self, poll: Poll) -> Parked:
        """Park a poll until a task is leased to it or its time is over; it may be answered already on return.

        The future raises `Unavailable` only where a repeated poll cannot be answered.
        """
        self._check_attached()
        parked = Parked(poll, self._hand_back)
        if self.draining:
            parked.give(None)
        else:
            self._place(parked, asyncio.get_running_loop().time() + poll.timeout_seconds)
        return parked

    def _place(self, parked: Parked, deadline: float) -> None:
        """Let a poll wait in its queue, wherever that is hosted now."""
        if parked.gone or parked.future.done():
            return
        if self.draining:
            parked.give(None)
            return
        poll = parked.poll
        remaining = deadline - asyncio.get_running_loop().time()
        if self.elsewhere(self.host.queue_shard(poll.namespace, poll.queue)) is None:
            self._park_here(parked, remaining)
            return
        task = asyncio.get_running_loop().create_task(self._poll_elsewhere(parked, deadline))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

        def leave() -> None:
            task.cancel()

        parked.waits_at(leave)

    def _park_here(self, parked: Parked, seconds: float) -> None:
        poll = parked.poll
        if poll.kind == QUERY:
            self.queries.park(parked, seconds)
        else:
            self.host.queue((poll.namespace, poll.queue, poll.kind)).park(parked, seconds)

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
        shard = self.host.queue_shard(poll.namespace, poll.queue)
        while True:
            remaining = deadline - loop.time()
            owner = self.elsewhere(shard)
            if owner is None:
                parked.waits_at(None)
                self._place(parked, deadline)
                return
            if self.draining:
                parked.give(None)
                return
            try:
                question = messages.encode(AskPoll(poll, max(remaining, 0.0)))
                answer = await self.ask.ask(owner, question, max(remaining, 0.0) + _POLL_MARGIN_SECONDS)
            except Unreachable:
                grant = await self._poll_as_guest(poll, min(max(remaining, 0.0), _GUEST_POLL_SECONDS))
                if grant is not None or remaining <= _GUEST_POLL_SECONDS:
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
        queue = self.host.queue((poll.namespace, poll.queue, poll.kind))
        queue.park(guest, seconds)
        queue.reload()
        try:
            return await asyncio.shield(guest.future)
        except asyncio.CancelledError:
            guest.abandon()
            raise

    def _hand_back(self, _poll: Poll, grant: Grant) -> None:
        self.take_back(grant)

    def take_back(self, grant: Grant) -> None:
        """A grant reached nobody, if there is one at all: its lease ends now, not when it runs out."""
        if isinstance(grant, QueryTaskGrant):
            self.queries.take_back(grant)  # hosted elsewhere, it ends with its caller's patience
            return
        attempt = grant.attempt_number if isinstance(grant, ActivityTaskGrant) else grant.workflow_task_attempt
        self._release_claim(ReleaseClaim(grant.task_id, grant.lease_owner, attempt), 1)

    def _release_claim(self, release: ReleaseClaim, tries: int) -> None:
        def again(done: asyncio.Future[RunReply]) -> None:
            if done.exception() is not None and tries < _HAND_BACK_TRIES:
                asyncio.get_running_loop().call_later(1.0, self._release_claim, release, tries + 1)

        self.tell_run(release.task_id, release).add_done_callback(again)

    # -- other nodes ask -----------------------------------------------------------------------------------------------

    def _serve(self, payload: bytes) -> Awaitable[bytes]:
        question = messages.decode_question(payload)
        if isinstance(question, AskRun):
            return _respond(self.host.tell_run(question.run_key, question.command, question.namespace))
        if isinstance(question, AskPoll):
            return self._serve_poll(question)
        if isinstance(question, AskQuery):
            return self._serve_query(question)
        if isinstance(question, AskFinishQuery):
            reply = self.queries.finish(question.namespace, question.outcome)
            return _respond(_resolved(reply))
        if isinstance(question, AskStart):
            return self._serve_reply(self._start_here(question.command))
        return self._serve_reply(self._control.here(question))

    async def _serve_reply(self, reply: Awaitable[RunReply]) -> bytes:
        try:
            return messages.encode(Answer(await reply))
        except (Unavailable, StoreError) as error:
            return messages.encode(Failed(str(error)))

    async def _serve_query(self, question: AskQuery) -> bytes:
        answer = await self._control.query_here(question)
        if isinstance(answer, Refused):
            return messages.encode(QueryAnswered(None, answer.reason))
        return messages.encode(QueryAnswered(answer))

    def _serve_poll(self, question: AskPoll) -> asyncio.Future[bytes]:
        loop = asyncio.get_running_loop()
        response: asyncio.Future[bytes] = loop.create_future()
        poll = question.poll
        if self.draining or not self._owners.owns(self.host.queue_shard(poll.namespace, poll.queue)):
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

    def _undelivered(self, answer: bytes) -> None:
        try:
            response = messages.decode_response(answer)
        except msgspec.DecodeError:
            return
        if isinstance(response, Granted) and response.grant is not None:
            self._hand_back(response.poll, response.grant)

    # -- shards come and go --------------------------------------------------------------------------------------------

    async def release(self, released: Sequence[int], drain: bool) -> None:
        """These shards are hosted elsewhere from now on: their polls wait there, their actors go.

        `drain`: what is in flight ends first.
        """
        shards = set(released)
        await self.host.release(shards, drain)
        # Last, so that the shards are not ours any more when the polls look for their next place.
        for queue in self.host.queues_of(shards):
            self._hand_off(queue)
        self.queries.hand_off(lambda queue: self.host.queue_shard(*queue) in shards, self._place_later)

    def settle_queues(self) -> None:
        """Send polls on that wait here for a queue another live node hosts: they came while nobody hosted it."""
        for queue in self.host.all_queues():
            if self.elsewhere(self.host.queue_shard(*queue.name[:2])) is not None and not queue.has_guests:
                self._hand_off(queue)
        self.queries.hand_off(lambda queue: self.elsewhere(self.host.queue_shard(*queue)) is not None, self._place_later)

    def _hand_off(self, queue: QueueActor) -> None:
        self.host.drop_queue(queue.name)
        queue.hand_off(self._place_later)

    def _place_later(self, parked: Parked, deadline: float) -> None:
        """Park again once the new owner is known."""
        if parked.served:
            parked.future.cancel()  # its own node looks for it
        elif self.draining:
            parked.give(None)
        else:
            later = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._place, parked, deadline)
            parked.waits_at(later.cancel)

    async def drain(self) -> None:
        """Shutting down: parked polls end empty, new ones are answered at once."""
        self.draining = True
        if not self.attached:
            return
        for queue in self.host.all_queues():
            self._hand_off(queue)
        self.queries.hand_off(lambda _: True, self._place_later)
        for task in list(self._background):
            task.cancel()


def _reply(answer: bytes) -> RunReply:
    response = messages.decode_response(answer)
    if isinstance(response, Answer):
        return response.reply
    raise Unavailable(response.message if isinstance(response, Failed) else "not hosted there any more")


def _resolved(reply: RunReply) -> asyncio.Future[RunReply]:
    future: asyncio.Future[RunReply] = asyncio.get_running_loop().create_future()
    future.set_result(reply)
    return future


def _respond(reply: asyncio.Future[RunReply]) -> asyncio.Future[bytes]:
    response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(done: asyncio.Future[RunReply]) -> None:
        if response.done():
            return
        error = done.exception()
        message = Answer(done.result()) if error is None else Failed(str(error))
        response.set_result(messages.encode(message))

    reply.add_done_callback(answered)
    return response


def _follow(source: asyncio.Future[RunReply], target: asyncio.Future[RunReply]) -> None:
    def done(source: asyncio.Future[RunReply]) -> None:
        if target.done():
            return
        error = source.exception()
        if error is not None:
            target.set_exception(error)
        else:
            target.set_result(source.result())

    source.add_done_callback(done)
