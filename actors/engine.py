"""The engine as the API sees it: start, poll, ask a task, command a workflow id; wherever in the cluster the actors are.

The ways are `Router` (to runs), `Polls` (to queues) and `WorkflowCommands` (to workflow ids). This module also answers what
other nodes ask and carries messages and ready tasks between nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from actors.cluster import protocol
from actors.cluster.answers import resolved, respond
from actors.cluster.protocol import (
    Announced,
    AnnouncedStarts,
    Answer,
    AskFinishQuery,
    AskPoll,
    AskQuery,
    AskRates,
    AskReread,
    AskRun,
    AskSchedule,
    AskStart,
    AskTake,
    AwaitStarts,
    Failed,
    QueryAnswered,
    Rated,
    ScheduleAnswered,
    TaskOffer,
)
from actors.cluster.rates import Traffic, traffic_of
from actors.cluster.router import Router
from actors.cluster.run_messages import MessageDelivery
from actors.cluster.schedule_messages import ScheduleMessages, Starter
from actors.errors import Unavailable
from actors.hosting.host import Host
from actors.hosting.schedule_host import ScheduleHost
from actors.polling.polls import Polls
from actors.queue.matching import QueuedTask
from actors.queue.parked_poll import Grant
from actors.queue.query_broker import QueryBroker, QueryRules
from actors.rollout_commands import RolloutCommands
from actors.run import ids
from actors.run.commands import WakeUp
from actors.run.commands.base import Command
from actors.run.commands.worker import ClaimTask
from actors.run.replies import Done, Refused, RunReply
from actors.run.transition import ReadyTask, RunMessage
from actors.schedule.messages import ScheduleMessage
from actors.schedules import Schedules
from actors.workers.registry import WorkerRegistry
from actors.workflow_commands import WorkflowCommands
from bus.ask import Ask
from bus.dispatch import Dispatch
from store.connections.pool import Database
from store.errors import StoreError

_TOLD_TOGETHER = 20  # messages of schedules


@dataclass(slots=True, frozen=True)
class Link:
    """What the host needs of the cluster (`host.ClusterLink`): the methods themselves, so that no call takes a detour."""

    owns: Callable[[int], bool]
    ask_run: Callable[[str, Command[Any]], asyncio.Future[Any]]
    dispatch: Callable[[str, ReadyTask], None]
    announce: Callable[[list[RunMessage]], None]
    take_back: Callable[[Grant], None]
    selected: Callable[[str, str], str | None]


class Engine:
    """Joins the actors of this node to those of the others. Who has a request puts it to

    - `runs`: have the run of a task decide a command;
    - `polls`: wait for a task;
    - `workflows`: start, signal, cancel, update, query a workflow id;
    - `schedules`: create, change, fire a schedule.
    - `rollouts`: drain, resume, promote a build id.
    """

    def __init__(
        self,
        db: Database,
        host: Host,
        router: Router,
        ask: Ask,
        dispatch: Dispatch,
        workers: WorkerRegistry,
        query_rules: QueryRules,
        schedule_host: ScheduleHost,
        starter: Starter,
    ) -> None:
        """From here on other nodes are answered, as far as `ask` and `dispatch` are started."""
        self._host = host
        self.schedule_host = schedule_host
        self._ask = ask
        self._dispatch = dispatch
        self._queries = QueryBroker(query_rules, router.ask_run, host.now)
        self.runs = router
        self.polls = Polls(host, self._queries, router, ask)
        self.workflows = WorkflowCommands(db, host, self._queries, router, ask, workers)
        self.schedules = Schedules(db, router, schedule_host)
        applied = ScheduleMessages(db, host, schedule_host, self.workflows, starter, router.shards)
        self.messages = MessageDelivery(db, host, applied)
        schedule_host.owns = router.owns
        schedule_host.announce = self._announce_starts
        self.rollouts = RolloutCommands(db, workers.rollouts, router, host.clock)
        self._known_rollouts = workers.rollouts
        host.link = Link(
            owns=router.owns,
            ask_run=router.ask_run,
            dispatch=self.bring,
            announce=self._announce,
            take_back=self.polls.take_back,
            selected=workers.rollouts.selected,
        )
        ask.serve(self._serve)
        ask.on_undelivered(self.polls.undelivered)
        ask.on_tell(self._told)
        dispatch.on_dispatch(self._offered)

    def wake(self, any_id: str) -> None:
        """Have the run of an id look at what is due; nobody waits for that."""
        self.runs.ask_run(any_id, WakeUp()).add_done_callback(lambda done: done.cancelled() or done.exception())

    def watch_run(self, run_id: str) -> asyncio.Future[None] | None:
        """A future that ends when the run gets new events, None when it is hosted elsewhere. Cancel it after use."""
        shard = self.runs.shard_of_id(run_id)
        return None if shard is None or not self.runs.owns(shard) else self._host.watchers.watch(run_id)

    async def traffic(self, namespace: str, queues: Sequence[str]) -> Traffic:
        """What the nodes alive saw of these queues in the last minute, and the queries that wait there.

        Without queues: the sums over all of the namespace, under the queue and kind "".
        """
        return await traffic_of(self._rated(namespace, queues), self._ask, namespace, queues)

    def _rated(self, namespace: str, queues: Sequence[str]) -> Rated:
        if not queues:
            return Rated([("", "", *self._host.rates.total(namespace))])
        waiting = {queue: self._queries.pending((namespace, queue)) for queue in queues}
        return Rated(self._host.rates.of(namespace, queues), {queue: count for queue, count in waiting.items() if count})

    # -- what the host has for other nodes -----------------------------------------------------------------------------

    def _announce(self, messages: list[RunMessage]) -> None:
        """Announce committed messages to the nodes hosting their receivers; the rows are there if that is lost."""
        here: list[RunMessage] = []
        for message in messages:
            owner = self.runs.elsewhere(ids.shard_of_id(message.run_id))
            if owner is None or not self._ask.tell(owner, protocol.encode(Announced([message]))):
                here.append(message)
        self.messages.deliver(here)

    def _announce_starts(self, messages: list[ScheduleMessage]) -> None:
        """The same for messages of schedules, of which there may be many at a time."""
        here: list[ScheduleMessage] = []
        away: dict[str, list[ScheduleMessage]] = {}
        for message in messages:
            owner = self.runs.elsewhere(message.shard)
            (here if owner is None else away.setdefault(owner, [])).append(message)
        for owner, theirs in away.items():
            for start in range(0, len(theirs), _TOLD_TOGETHER):
                part = theirs[start : start + _TOLD_TOGETHER]
                if not self._ask.tell(owner, protocol.encode(AnnouncedStarts(part))):
                    here += part
        self.messages.deliver(here)

    def bring(self, namespace: str, task: ReadyTask) -> None:
        """Bring a committed ready task to the node hosting its queue; losing it is harmless, the row is there."""
        owner = self.runs.elsewhere(self._host.queue_shard(namespace, task.queue))
        if owner is None or not self._ask.hears(owner):  # polls that cannot wait there do so here
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
            task.fairness_key,
            task.fairness_weight,
        )
        self._dispatch.send(owner, protocol.encode(offer))

    # -- other nodes ---------------------------------------------------------------------------------------------------

    def _told(self, payload: bytes) -> None:
        told = protocol.decode_told(payload)
        if isinstance(told, Announced | AnnouncedStarts):
            self.messages.deliver(told.messages)

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
                return respond(asked, self.polls.take_back)
            return respond(asked)
        if isinstance(question, AskPoll):
            return self.polls.serve(question)
        if isinstance(question, AskTake):
            return self.polls.claim_for_older_host(question)
        if isinstance(question, AskQuery):
            return self._serve_query(question)
        if isinstance(question, AskFinishQuery):
            return respond(resolved(self._queries.finish(question.namespace, question.outcome)))
        if isinstance(question, AskSchedule | AwaitStarts):
            return self._serve_schedule(question)
        if isinstance(question, AskReread):
            return self._serve_reread()
        if isinstance(question, AskRates):
            return resolved(protocol.encode(self._rated(question.namespace, question.queues)))
        if isinstance(question, AskStart):
            return self._serve_reply(lambda: self.workflows.start_here(question.command))
        return self._serve_reply(lambda: self.workflows.here(question))

    async def _ask_with_key(self, question: AskRun) -> RunReply:
        return await self._host.ask_run(question.run_key, question.command, question.namespace, key=question.key)

    async def _serve_reply(self, reply: Callable[[], Awaitable[RunReply]]) -> bytes:
        try:
            await self.runs.confirm_lease()
            return protocol.encode(Answer(await reply()))
        except (Unavailable, StoreError) as error:
            return protocol.encode(Failed(str(error)))

    async def _serve_schedule(self, question: AskSchedule | AwaitStarts) -> bytes:
        try:
            await self.runs.confirm_lease()
            if isinstance(question, AwaitStarts):
                return protocol.encode(await self.schedules.await_starts(question))
            names = question.namespace, question.schedule_id
            return protocol.encode(ScheduleAnswered(await self.schedules.here(*names, question.key, question.command)))
        except (Unavailable, StoreError) as error:
            return protocol.encode(Failed(str(error)))

    async def _serve_reread(self) -> bytes:
        try:
            await self._known_rollouts.reread()
        except StoreError as error:
            return protocol.encode(Failed(str(error)))
        return protocol.encode(Answer(Done()))

    async def _serve_query(self, question: AskQuery) -> bytes:
        answer = await self.workflows.query_here(question)
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
        await self.schedule_host.release(shards, drain)
        # Last, so that the shards are not ours any more when the polls look for their next place.
        self.polls.move(shards)

    async def drain(self) -> None:
        """Shutting down: parked polls end empty, new ones are answered at once, nobody waits for updates and queries."""
        self.polls.drain()
        self.workflows.drain()
