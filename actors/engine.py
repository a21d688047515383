"""The engine as the API sees it: start, poll, tell a task, command a workflow id; wherever in the cluster the actors are.

The ways are `Router` (to runs), `Polls` (to queues) and `WorkflowCommands` (to workflow ids). This module also answers what
other nodes ask and carries messages and ready tasks between nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from actors.cluster import protocol
from actors.cluster.answers import resolved, respond
from actors.cluster.protocol import (
    Announced,
    Answer,
    AskFinishQuery,
    AskPoll,
    AskQuery,
    AskRun,
    AskStart,
    AskTake,
    Failed,
    Lent,
    QueryAnswered,
    TaskOffer,
)
from actors.cluster.router import Owners, Router
from actors.cluster.run_messages import MessageDelivery
from actors.errors import Unavailable
from actors.hosting.host import Host
from actors.hosting.run_actor import InstanceTaken
from actors.polling.polls import Polls
from actors.queue.matching import QueuedTask
from actors.queue.parked_poll import Grant, Parked, Reservation
from actors.queue.poll import Poll
from actors.queue.query_broker import QueryBroker, QueryRules
from actors.queue.query_types import Query, QueryAnswer, QueryOutcome
from actors.queue.queue_actor import QueueName
from actors.run import ids
from actors.run.commands import WakeUp
from actors.run.commands.base import Command
from actors.run.commands.control import ControlCommand, NoteDuplicateStart, StartRun, UpdateRun
from actors.run.commands.worker import ClaimTask
from actors.run.lifecycle.starting import started
from actors.run.replies import CommandAnswered, Refused, RunReply, Started, UpdateStatus
from actors.run.state import decode
from actors.run.transition import ReadyTask, RunMessage
from actors.workers.registry import WorkerRegistry
from actors.workflow_commands import WorkflowCommands
from bus.ask import Ask
from bus.dispatch import Dispatch
from store import instances, runs
from store.errors import StoreError
from store.pool import Database

_R = TypeVar("_R")

_START_TRIES = 5


class Engine:
    """Asks the right actor, on whichever node it is."""

    def __init__(
        self, node_id: str, db: Database, owners: Owners, ask: Ask, dispatch: Dispatch, workers: WorkerRegistry
    ) -> None:
        self._db = db
        self._workers = workers
        self._ask = ask
        self._dispatch = dispatch
        self._router = Router(node_id, owners, ask)
        self._draining = False
        self._host: Host
        self._polls: Polls
        self._workflows: WorkflowCommands
        self._queries: QueryBroker
        self.messages: MessageDelivery

    def attach(self, host: Host, shards: int, query_rules: QueryRules) -> None:
        """The actors of this node and how many shards there are; from here on requests and other nodes are answered."""
        self._host = host
        self._queries = QueryBroker(query_rules, self._router.ask_run, host.now)
        self._polls = Polls(host, self._queries, self._router, self._ask)
        self._workflows = WorkflowCommands(self._db, host, self._queries, self._router, self._ask, self._workers)
        self.messages = MessageDelivery(self._db, host)
        self._router.attach(host, shards)
        if self._draining:
            self._polls.drain()
        self._ask.serve(self._serve)
        self._ask.on_undelivered(self._polls.undelivered)
        self._ask.on_tell(self._told)
        self._dispatch.on_dispatch(self._offered)

    async def _admit(self) -> None:
        self._check_attached()
        await self._router.confirm_lease()

    def _check_attached(self) -> None:
        if not self._router.attached:
            raise Unavailable("the node is starting")

    # -- requests ------------------------------------------------------------------------------------------------------

    async def start_workflow(self, command: StartRun) -> Started | Refused:
        """Start a workflow: `Started`, or `Refused` (`workflow_type_mismatch`, `workflow_id_reserved_in_namespace`).

        An empty `run_id` is filled in. Raises `Unavailable` when the outcome is unknown (control-plane 5.1).
        """
        await self._admit()
        if not command.run_id:
            run_id = self._router.new_run_id(command.namespace, command.workflow_id)
            command = msgspec.structs.replace(command, run_id=run_id)

        async def once() -> Started | Refused:
            owner = self._router.elsewhere(ids.shard_of_id(command.run_id))
            if owner is not None:
                reply: Started | Refused | None = await self._router.ask_node(owner, AskStart(command))
                if reply is not None:
                    return reply
            return await self._start_here(command)

        return await self._router.certainly(once)

    async def _start_here(self, command: StartRun) -> Started | Refused:
        """Start a workflow whose shard is hosted here, once: a start is known again by the id of its run."""
        for _ in range(_START_TRIES):
            try:
                return await self._host.start_run(command)
            except InstanceTaken:
                instance = await instances.get(self._db, command.workflow_id)
            if instance is None:
                continue
            begun = await runs.load(self._db, command.run_id)
            if begun is not None:
                return started(decode(begun.row.state), "started_new")
            if instance.namespace != command.namespace:
                return Refused("workflow_id_reserved_in_namespace")
            reply = await self._router.ask_run(instance.current_run_id, NoteDuplicateStart(command), key=command.run_id)
            if not isinstance(reply, Refused) or reply.reason != "run_continued":
                return reply
        raise Unavailable("the workflow id comes and goes")

    async def ask_task(self, namespace: str, task_id: str, command: Command[_R]) -> _R | Refused:
        """Have the run of a task decide a command. An id that is none of ours is `Refused("task_not_found")`.

        Raises `Unavailable` when the outcome is unknown.
        """
        return await self._router.ask_task(namespace, task_id, command)

    def wake(self, any_id: str) -> None:
        """Have the run of an id look at what is due; nobody waits for that."""
        self._router.ask_run(any_id, WakeUp()).add_done_callback(lambda done: done.cancelled() or done.exception())

    def poll(self, poll: Poll) -> Parked:
        """Park a poll until a task is leased to it or its time is over (`Polls.poll`)."""
        self._check_attached()
        return self._polls.poll(poll)

    async def command(
        self, namespace: str, workflow_id: str, command: ControlCommand, run_id: str | None = None
    ) -> CommandAnswered | Refused:
        """Signal, cancel, terminate, repair or archive (`WorkflowCommands.command`)."""
        await self._admit()
        return await self._workflows.command(namespace, workflow_id, command, run_id)

    async def update(
        self,
        namespace: str,
        workflow_id: str,
        command: UpdateRun,
        run_id: str | None = None,
        wait_seconds: float | None = None,
    ) -> UpdateStatus | CommandAnswered | Refused:
        """Accept an update and perhaps wait for its end (`WorkflowCommands.update`)."""
        await self._admit()
        return await self._workflows.update(namespace, workflow_id, command, run_id, wait_seconds)

    async def query(self, namespace: str, workflow_id: str, query: Query, run_id: str | None) -> QueryAnswer | Refused:
        """Have a worker answer a question about a run (`WorkflowCommands.query`)."""
        self._check_attached()
        return await self._workflows.query(namespace, workflow_id, query, run_id)

    async def finish_query(self, namespace: str, outcome: QueryOutcome) -> RunReply:
        """A worker's answer to a query task (`WorkflowCommands.finish_query`)."""
        self._check_attached()
        return await self._workflows.finish_query(namespace, outcome)

    def watch_run(self, run_id: str) -> asyncio.Future[None] | None:
        """A future that ends when the run gets new events, None when it is hosted elsewhere. Cancel it after use."""
        self._check_attached()
        shard = self._router.shard_of_id(run_id)
        return None if shard is None or not self._router.owns(shard) else self._host.watchers.watch(run_id)

    # -- what the host asks for (host.ClusterLink) --------------------------------------------------------------------

    def owns(self, shard: int) -> bool:
        """Whether this node hosts the shard."""
        return self._router.owns(shard)

    def ask_run(self, any_id: str, command: Command[_R]) -> asyncio.Future[_R | Refused]:
        """Have the run that minted `any_id` decide a command, wherever it is hosted."""
        return self._router.ask_run(any_id, command)

    def post(self, messages: list[RunMessage]) -> None:
        """Announce committed messages to the nodes hosting their receivers; the rows are there if that is lost."""
        here: list[RunMessage] = []
        for message in messages:
            owner = self._router.elsewhere(ids.shard_of_id(message.run_id))
            if owner is None or not self._ask.tell(owner, protocol.encode(Announced([message]))):
                here.append(message)
        self.messages.deliver(here)

    def dispatch(self, namespace: str, task: ReadyTask) -> None:
        """Bring a committed ready task to the node hosting its queue; losing it is harmless, the row is there."""
        owner = self._router.elsewhere(self._host.queue_shard(namespace, task.queue))
        if owner is None or not self._ask.hears(owner):  # polls that cannot wait there do so here, as guests
            self._host.offer(namespace, task.queue, task.kind, QueuedTask.of(task))
        if owner is None:
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
        self._dispatch.send(owner, protocol.encode(offer))

    def take_back(self, grant: Grant) -> None:
        """A grant reached nobody: its lease ends now (`Polls.take_back`)."""
        self._polls.take_back(grant)

    def reserve_lent(self, name: QueueName, type_name: str, compatibility: str | None) -> Reservation | None:
        """A poll of this node's clients that waits in a queue of another node, for a task about to be committed here."""
        return self._polls.reserve_lent(name, type_name, compatibility)

    # -- other nodes ---------------------------------------------------------------------------------------------------

    def _told(self, payload: bytes) -> None:
        told = protocol.decode_told(payload)
        if isinstance(told, Announced):
            self.messages.deliver(told.messages)
        elif isinstance(told, Lent):
            self._polls.lent(told.numbers)
        else:
            self._polls.served(told)

    def _offered(self, payload: bytes) -> None:
        offer = protocol.decode_offer(payload)
        self._host.offer(offer.namespace, offer.queue, offer.kind, QueuedTask.of(offer))

    def _serve(self, payload: bytes) -> Awaitable[bytes]:
        question = protocol.decode_question(payload)
        if isinstance(question, AskRun):
            if question.key is not None:
                return self._serve_reply(lambda: self._ask_with_key(question))
            asked = self._host.ask_run(question.run_key, question.command, question.namespace)
            if isinstance(question.command, ClaimTask):
                return respond(asked, self._polls.take_back)
            return respond(asked)
        if isinstance(question, AskPoll):
            return self._polls.serve(question)
        if isinstance(question, AskTake):
            return self._polls.take(question)
        if isinstance(question, AskQuery):
            return self._serve_query(question)
        if isinstance(question, AskFinishQuery):
            return respond(resolved(self._queries.finish(question.namespace, question.outcome)))
        if isinstance(question, AskStart):
            return self._serve_reply(lambda: self._start_here(question.command))
        return self._serve_reply(lambda: self._workflows.here(question))

    async def _ask_with_key(self, question: AskRun) -> RunReply:
        return await self._host.ask_run(question.run_key, question.command, question.namespace, key=question.key)

    async def _serve_reply(self, reply: Callable[[], Awaitable[RunReply]]) -> bytes:
        try:
            await self._router.confirm_lease()
            return protocol.encode(Answer(await reply()))
        except (Unavailable, StoreError) as error:
            return protocol.encode(Failed(str(error)))

    async def _serve_query(self, question: AskQuery) -> bytes:
        answer = await self._workflows.query_here(question)
        if isinstance(answer, Refused):
            return protocol.encode(QueryAnswered(None, answer.reason))
        return protocol.encode(QueryAnswered(answer))

    # -- shards come and go --------------------------------------------------------------------------------------------

    async def release(self, released: Sequence[int], drain: bool) -> None:
        """These shards are hosted elsewhere from now on: their polls wait there, their actors go.

        `drain`: what is in flight ends first.
        """
        shards = set(released)
        await self._host.release(shards, drain)
        # Last, so that the shards are not ours any more when the polls look for their next place.
        self._polls.move(shards)

    def settle_queues(self) -> None:
        """Send on the polls that wait here for queues another live node hosts."""
        self._polls.settle()

    async def drain(self) -> None:
        """Shutting down: parked polls end empty, new ones are answered at once, nobody waits for updates and queries."""
        self._draining = True
        if self._router.attached:
            self._polls.drain()
            self._workflows.drain()
