"""Hosts the live actors of this node: runs by run key, queues by name. Knows the store, and nothing of other nodes.

Any node may host any run: the store's version check keeps two that do so from ever corrupting it. What a node holds beyond need
is evicted, least recently used first; runs that are closed, or whose shard another node owns, go at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from actors.clock import Clock
from actors.errors import Unavailable
from actors.hosting import stored_runs
from actors.hosting.deadlines import DeadlineQueue
from actors.hosting.mailbox import Asked
from actors.hosting.rates import Rates
from actors.hosting.repeats import decode_answer
from actors.hosting.run_actor import RunActor
from actors.hosting.watchers import Watchers
from actors.publishing.publisher import Publisher
from actors.queue.admission.admission import Admission
from actors.queue.candidates import Found, Position
from actors.queue.matching import QueuedTask
from actors.queue.parked_poll import Grant, Reservation
from actors.queue.poll import QueueName, WorkerProfile
from actors.queue.queue_actor import QueueActor
from actors.queue.tiers import Reach
from actors.run import ids, setback
from actors.run.commands import WakeUp
from actors.run.commands.base import Command
from actors.run.commands.control import StartRun
from actors.run.dialect import Dialect
from actors.run.ids import RunId, RunKey
from actors.run.lifecycle import starting
from actors.run.replies import Refused, RunReply, Started
from actors.run.rules import Rules
from actors.run.times import Micros
from actors.run.transition import ReadyTask, RunMessage, Transition
from actors.run.values import Permit
from store import admission, applied, history, ready_tasks, run_messages, runs, update_requests
from store.commit.group import GroupCommit
from store.commit.writes import WriteSet
from store.connections.pool import Database
from store.errors import StoreUnavailable
from store.runs import StoredRun

_R = TypeVar("_R")


class ClusterLink(Protocol):
    """What the host needs of the cluster (`actors.engine.Link`)."""

    @property
    def owns(self) -> Callable[[int], bool]:
        """Whether this node hosts a shard."""

    @property
    def ask_run(self) -> Callable[[str, Command[Any]], asyncio.Future[Any]]:
        """Have the run of any id decide a command, wherever it is hosted."""

    @property
    def dispatch(self) -> Callable[[str, ReadyTask], None]:
        """Bring a committed ready task (of a namespace) to the node that hosts its queue."""

    @property
    def announce(self) -> Callable[[list[RunMessage]], None]:
        """Tell the hosts of their receivers of committed run messages."""

    @property
    def take_back(self) -> Callable[[Grant], None]:
        """A grant reached nobody: its lease ends now."""

    @property
    def selected(self) -> Callable[[str, str], str | None]:
        """The build id that starts on a queue (of a namespace) are marked with, "" for none; None when nothing is selected.

        Raises `Unavailable` while that is not certain.
        """


class Host:
    """The actors of one node. `link` is set by the engine that is built on it, before anything is asked."""

    link: ClusterLink

    def __init__(
        self,
        db: Database,
        committer: GroupCommit,
        publisher: Publisher,
        rules: Rules,
        dialect: Dialect,
        shards: int,
        cache_bytes: int,
        clock: Clock,
        admission: Admission | None = None,
    ) -> None:
        """`admission`: the caps of queues, None when nothing is capped anywhere."""
        self.clock = clock
        self.admission = admission
        self.rules = rules
        self.dialect = dialect
        self._db = db
        self._committer = committer
        self._publisher = publisher
        self._shards = shards
        self._cache_bytes = cache_bytes
        self._runs: OrderedDict[RunKey, RunActor] = OrderedDict()
        self._weights: dict[RunKey, int] = {}
        self._weight = 0
        self._queues: dict[QueueName, QueueActor] = {}
        self._queue_shards: dict[tuple[str, str], int] = {}
        self._current: dict[str, RunId] = {}  # workflow id -> run id of the open runs in memory
        self.watchers = Watchers()
        self.deadlines: DeadlineQueue[RunKey] = DeadlineQueue(self._wake, self.now)
        self.rates = Rates(self.now)
        self.transitions = 0
        clock.on_step(self._stepped)

    # -- runs ----------------------------------------------------------------------------------------------------------

    def ask_run(
        self,
        run_key: RunKey,
        command: Command[_R],
        namespace: str | None = None,
        message_id: str | None = None,
        key: str | None = None,
    ) -> asyncio.Future[_R | Refused]:
        """Have a run decide a command here; `namespace` must be the run's own, None skips that check.

        `message_id`: the message it came in; `key`: of a command that must be applied once.

        The future raises `Unavailable` when the outcome is unknown, `InstanceTaken` for a start whose workflow id exists.
        """
        future: asyncio.Future[_R | Refused] = asyncio.get_running_loop().create_future()
        actor = self._runs.get(run_key)
        if actor is None:
            actor = self._runs[run_key] = RunActor(self, run_key)
        else:
            self._runs.move_to_end(run_key)
        actor.enqueue(Asked(command, namespace, future, message_id, key))
        return future

    def now(self) -> Micros:
        """The present in microseconds, by the node's clock."""
        return self.clock.now()

    def admit_successor(self, tx: Transition) -> None:
        """A run created together with its predecessor's end: it lives here from now on."""
        run_key = tx.state.run_key
        actor = RunActor(self, run_key)
        actor.admit_successor(tx)
        self._runs[run_key] = actor
        self.committed(actor, tx, tx.wake_at())
        for task in tx.ready.values():
            self.dispatch(tx.state.namespace, task)
        self.rest(actor)

    def start_run(self, command: StartRun) -> asyncio.Future[Started | Refused]:
        """Create a run; its id was made for its shard."""
        return self.ask_run(ids.key_in(command.run_id), command)

    def pinned(self, start: StartRun) -> StartRun:
        """A start that begins its run now, marked with the build id selected for its queue (operations 4.5)."""
        selected = self.link.selected(start.namespace, start.task_queue or starting.DEFAULT_QUEUE)
        return start if selected is None else msgspec.structs.replace(start, compatibility=selected or None)

    def committed(self, actor: RunActor, tx: Transition, wake_at: int | None) -> None:
        """A transition batch is durable: arm its deadline, publish its events."""
        self.transitions += 1
        state = tx.state
        now = self.now()
        if self.link.owns(ids.shard_in(actor.run_key)):
            self.deadlines.set(actor.run_key, wake_at, now)
        if state.is_open:
            self._current[state.workflow_id] = state.run_id
        for update_id in tx.closed_updates:
            self.watchers.wake(update_id)
        if tx.messages:
            self.link.announce(tx.messages)
        if tx.permits_freed and self.admission is not None:
            self.admission.freed(tx.permits_freed)
        if tx.events:
            self.watchers.wake(state.run_id)
            self._publisher.publish(state, tx.events, max(actor.published, self._publisher.known(state.run_id)))

    def rest(self, actor: RunActor) -> None:
        """An actor has nothing to do: keep it if it is worth it."""
        run_key = actor.run_key
        state = actor.state
        if state is None or not state.is_open or not self.link.owns(ids.shard_in(run_key)):
            self._evict(run_key)
            return
        weight = actor.weight
        self._weight += weight - self._weights.get(run_key, 0)
        self._weights[run_key] = weight
        if self._weight > self._cache_bytes:
            self._shrink()

    def _shrink(self) -> None:
        for run_key, actor in list(self._runs.items()):
            if self._weight <= self._cache_bytes:
                return
            if not actor.busy:
                self._evict(run_key)

    def _evict(self, run_key: RunKey) -> None:
        actor = self._runs.pop(run_key, None)
        if actor is not None and actor.state is not None and self._current.get(actor.state.workflow_id) == actor.state.run_id:
            del self._current[actor.state.workflow_id]
        self._weight -= self._weights.pop(run_key, 0)

    def _wake(self, run_key: RunKey) -> None:
        if self.link.owns(ids.shard_in(run_key)):
            self.ask_run(run_key, WakeUp()).add_done_callback(lambda done: self._woken(run_key, done))

    def _woken(self, run_key: RunKey, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and done.exception() is not None:
            now = self.now()
            self.deadlines.set(run_key, now + 1_000_000, now)

    def acked(self, run_id: RunId) -> int:
        """How far the run's events are known to be published."""
        return self._publisher.known(run_id)

    def note_acked(self, run_id: str, sequence: int) -> None:
        """The event stream has the run's events up to `sequence`."""
        actor = self._runs.get(ids.key_in(run_id))
        if actor is not None:
            actor.published = max(actor.published, sequence)
        self._publisher.acked(run_id, sequence)

    async def release(self, shards: set[int], drain: bool) -> None:
        """Let go of all actors of these shards; with `drain` what is in flight ends first, for a while."""
        leaving = [actor for run_key, actor in self._runs.items() if ids.shard_in(run_key) in shards]
        for _ in range(100 if drain else 0):
            if not any(actor.busy for actor in leaving):
                break
            await asyncio.sleep(0.01)
        for actor in leaving:
            if not actor.busy and self._runs.get(actor.run_key) is actor:
                self._evict(actor.run_key)

    def forget_namespace(self, namespace: str) -> None:
        """The namespace is being deleted: what is in memory of its runs is worth nothing. One that is busy finds out itself."""
        now = self.now()
        for run_key, actor in list(self._runs.items()):
            if actor.state is not None and actor.state.namespace == namespace and not actor.busy:
                self.deadlines.set(run_key, None, now)
                self._evict(run_key)

    def current_run(self, workflow_id: str) -> RunId | None:
        """The open run of a workflow id, if it is in memory here."""
        return self._current.get(workflow_id)

    # -- what run actors need of the store -------------------------------------------------------------------------------

    def commit(self, write: WriteSet) -> asyncio.Future[bool]:
        """Hand a write to the group commit."""
        return self._committer.commit(write)

    def take_back(self, grant: Grant) -> None:
        """It is not known whether this grant was committed, and nobody got it: no lease may remain."""
        self.link.take_back(grant)

    async def load_run(self, run_key: RunKey) -> StoredRun | None:
        """The stored run, None if there is none."""
        return await stored_runs.load_by_key(self._db, run_key)

    async def load_history(self, run_id: RunId, upto: int) -> list[bytes]:
        """All events of a run, up to a sequence."""
        return await history.load(self._db, run_id, upto=upto)

    async def messages_there(self, message_ids: list[str]) -> set[str]:
        """Which of these messages nobody has applied yet."""
        return await run_messages.existing(self._db, message_ids)

    async def answers_to(self, keys: list[str]) -> dict[str, RunReply]:
        """What those of these commands that were applied already were answered."""
        return {key: decode_answer(data) for key, data in (await applied.find(self._db, keys)).items()}

    async def requests_taken(self, workflow_id: str, request_ids: list[str]) -> set[str]:
        """Under which of these request ids an update of the workflow id was accepted."""
        return await update_requests.taken(self._db, workflow_id, request_ids)

    async def places_taken(self, permits: list[Permit]) -> set[Permit]:
        """Which of these places under caps somebody has."""
        found = await admission.among(self._db, [(permit.scope, permit.number) for permit in permits])
        return {Permit(*place) for place in found}

    async def stored_version(self, run_id: RunId) -> int | None:
        """The version of the stored run."""
        return await runs.version(self._db, run_id)

    # -- queues --------------------------------------------------------------------------------------------------------

    def queue_shard(self, namespace: str, queue: str) -> int:
        """The shard whose owner hosts the queue."""
        key = namespace, queue
        shard = self._queue_shards.get(key)
        if shard is None:
            if len(self._queue_shards) > 100_000:
                self._queue_shards.clear()
            shard = self._queue_shards[key] = ids.shard_of(namespace, queue, self._shards)
        return shard

    def queue(self, name: QueueName) -> QueueActor:
        """The live queue of that name, made when needed."""
        actor = self._queues.get(name)
        if actor is None:
            ways = self.link.ask_run, self._load_ready, self.now
            caps = self.admission
            actor = QueueActor(name, *ways) if caps is None else QueueActor(name, *ways, caps.gate)
            self._queues[name] = actor
        return actor

    def offer(self, namespace: str, queue: str, kind: str, task: QueuedTask) -> None:
        """A task became claimable in a queue hosted here. A queue nobody ever polled here needs no actor: the row waits."""
        actor = self._queues.get(QueueName(namespace, queue, kind))
        if actor is not None:
            actor.offer(task)

    def reserve(self, namespace: str, task: ReadyTask) -> Reservation | None:
        """A poll for a task about to be committed, if its queue is hosted here and somebody waits for it."""
        actor = self._queues.get(QueueName(namespace, task.queue, task.kind))
        return None if actor is None else actor.reserve(task.type_name, task.compatibility, task.fairness_key)

    def dispatch(self, namespace: str, task: ReadyTask) -> None:
        """Bring a committed ready task to its queue, wherever that is."""
        self.link.dispatch(namespace, task)

    async def _load_ready(self, name: QueueName, worker: WorkerProfile, limit: int, after: Position | None = None) -> Found:
        types = None if worker.types is None else sorted(worker.types)
        markers = ["", worker.build_id] if worker.build_id else [""]
        try:
            rows = await ready_tasks.claimable(self._db, *name, types, markers, self.now(), limit, after)
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from error
        due, later = ([QueuedTask.of(row) for row in part] for part in (rows.due, rows.later))
        reach = None
        if rows.reach is not None:
            reach = Reach(rows.reach.priority, rows.reach.bounds, rows.reach.others, rows.reach.partly)
        return Found(due, reach, later, rows.later_from, rows.resume)

    def queues_of(self, shards: set[int]) -> list[QueueActor]:
        """The live queues of these shards."""
        return [actor for name, actor in self._queues.items() if self.queue_shard(name.namespace, name.queue) in shards]

    def all_queues(self) -> list[QueueActor]:
        """All live queues."""
        return list(self._queues.values())

    def drop_queue(self, name: QueueName) -> None:
        """Forget a queue; its rows are in the store."""
        actor = self._queues.pop(name, None)
        if actor is not None:
            actor.close()

    # -- time ----------------------------------------------------------------------------------------------------------

    def _stepped(self, micros: int) -> None:
        """The clock moved: what waits for a time waits anew; runs it was ahead for are set right (`actors.run.setback`)."""
        self.deadlines.stepped()
        for queue in self._queues.values():
            queue.stepped()
        if self.admission is not None:
            self.admission.stepped()
        if micros < -setback.TOLERANCE:
            for run_key, actor in list(self._runs.items()):
                if actor.state is not None and actor.state.recorded_at > self.now():
                    self._wake(run_key)

    def stop(self) -> None:
        """No deadline fires any more."""
        self.deadlines.stop()
        if self.admission is not None:
            self.admission.stop()
