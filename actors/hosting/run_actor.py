"""One workflow run, live: its state and history in memory, a mailbox, and one commit in flight at a time.

Everything that waits in the mailbox when the actor becomes free is decided in order and committed as one transition batch;
answers and effects follow the commit (architecture, rules 1 to 3). The warm path runs in plain callbacks: no task is made for a
command.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from actors.errors import Unavailable
from actors.hosting import pruned_run
from actors.hosting.mailbox import Asked, Records, may_conflict_for_ever, sort
from actors.hosting.rates import Rates
from actors.hosting.repeats import too_old
from actors.hosting.stored_runs import PRUNED
from actors.hosting.write_set import write_set
from actors.queue.parked_poll import Reservation
from actors.run.commands.base import Command
from actors.run.commands.control import StartRun
from actors.run.commands.messages import StartChildRun, StartScheduledRun
from actors.run.commands.worker import ClaimTask
from actors.run.decide import decide, needs_history, reads_what_stays
from actors.run.dialect import Dialect
from actors.run.ids import RunId, RunKey
from actors.run.lifecycle import starting
from actors.run.replies import ActivityTaskGrant, Refused, RunReply, TaskGrant, WorkflowTaskGrant
from actors.run.rules import Rules
from actors.run.state import RunState, decode
from actors.run.times import Micros
from actors.run.transition import ReadyTask, Transition
from base.observability.actions import said
from bus.errors import fail
from store.commit.writes import WriteSet
from store.errors import StoreUnavailable
from store.runs import StoredRun

_log = logging.getLogger("dw.actors")

_MAX_RETRIES = 20

# Each commit writes the whole state. A run with hundreds of open activities gathers commands for a moment between two commits.
_PAUSE_SECONDS_PER_ACTIVITY = 16e-6
_LEAST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.01

_EagerGrant = tuple[Reservation, TaskGrant]


class InstanceTaken(Exception):
    """The workflow id of a new run exists already."""


class RunHost(Records, Protocol):
    """What a run actor needs of the one who hosts it."""

    @property
    def rules(self) -> Rules: ...

    @property
    def dialect(self) -> Dialect: ...

    rates: Rates

    def now(self) -> Micros: ...

    def commit(self, write: WriteSet) -> asyncio.Future[bool]: ...

    def pinned(self, start: StartRun) -> StartRun: ...

    def committed(self, actor: RunActor, tx: Transition, wake_at: int | None) -> None: ...

    def admit_successor(self, tx: Transition) -> None: ...

    def dispatch(self, namespace: str, task: ReadyTask) -> None: ...

    def reserve(self, namespace: str, task: ReadyTask) -> Reservation | None: ...

    def take_back(self, grant: TaskGrant) -> None: ...

    def rest(self, actor: RunActor) -> None: ...

    def acked(self, run_id: RunId) -> int: ...

    def queue_shard(self, namespace: str, queue: str) -> int: ...

    async def load_run(self, run_key: RunKey) -> StoredRun | None: ...

    async def load_history(self, run_id: RunId, upto: int) -> list[bytes]: ...

    async def stored_version(self, run_id: RunId) -> int | None: ...


class RunActor:
    """Owner of one run in this process."""

    __slots__ = (
        "_host", "_task", "busy", "history", "mailbox", "published", "retries", "run_key", "state", "version"
    )  # fmt: skip

    def __init__(self, host: RunHost, run_key: RunKey) -> None:
        self._host = host
        self.run_key = run_key
        self.mailbox: list[Asked] = []
        self.busy = False
        self.state: RunState | None = None
        self.history: list[bytes] | None = None
        self.version = 0
        self.published = 0
        self.retries = 0
        self._task: asyncio.Task[None] | None = None  # the one that reads the store; a loop alone does not keep it alive

    @property
    def weight(self) -> int:
        """Bytes of memory, roughly."""
        return 2_000 if self.state is None else 2_000 + (self.state.history_bytes if self.history is not None else 0)

    def forget(self) -> None:
        """Drop what is cached: the next command starts from the store, or creates the run."""
        self.state = None
        self.history = None
        self.version = 0

    def enqueue(self, asked: Asked) -> None:
        """Put a command into the mailbox; it may be answered before this returns only if it is refused."""
        self.mailbox.append(asked)
        if not self.busy:
            self._step()

    # -- one round -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        batch = self.mailbox
        if not batch:
            self.busy = False
            self._host.rest(self)
            return
        self.mailbox = []
        self.busy = True
        begins = isinstance(batch[0].command, StartRun | StartChildRun | StartScheduledRun) and self.state is None
        if not begins and (self.state is None or (self.history is None and self._needs_history(self.state, batch))):
            self._task = asyncio.get_running_loop().create_task(self._load(batch))
            self._task.add_done_callback(lambda done: self._loaded(batch, done))
            return
        self._decide(batch, certain=False)

    @staticmethod
    def _needs_history(state: RunState, batch: list[Asked]) -> bool:
        return any(needs_history(asked.command, state) for asked in batch)

    async def _load(self, batch: list[Asked]) -> None:
        stored = await self._host.load_run(self.run_key)
        if stored is None:
            self.forget()
            return
        self.version = stored.version
        self.published = max(stored.row.published_sequence, self.published)
        self.state = state = decode(stored.row.state)
        self.history = None
        if self._needs_history(state, batch):
            lines = await self._host.load_history(state.run_id, state.last_sequence)
            if len(lines) != state.last_sequence:
                raise RuntimeError(f"history of run {state.run_id}: {len(lines)} events, its state says {state.last_sequence}")
            self.history = lines

    def _loaded(self, batch: list[Asked], done: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            self._failed(batch, error)
        elif self.state is None:
            for asked in batch:
                asked.answer(Refused("task_not_found"))
            self._step()
        elif self.version == PRUNED:
            self._deliver(batch, pruned_run.replies(self.state, batch, self._host))
            self.forget()
            self._step()
        else:
            self._decide(batch, certain=True)

    def _decide(self, batch: list[Asked], *, certain: bool) -> None:
        """Decide all commands in order. `certain`: the state was read from the store in this round."""
        eager: list[_EagerGrant] = []
        host = self._host
        now = host.now()
        if any(asked.key is not None and too_old(asked.key, now) for asked in batch):
            self._leave_out_old(batch, now)
            return
        try:
            if self.state is None:
                tx = self._create(batch[0].command, now)
                creating = True
            else:
                tx = Transition(self.state, [] if self.history is None else self.history, now, host.rules, host.dialect)
                creating = False
            replies: list[RunReply] = []
            applied: list[tuple[str, RunReply | None]] = []
            for asked in batch:
                before = tx.state.last_sequence
                if asked.namespace is not None and asked.namespace != tx.state.namespace:
                    reply: RunReply = Refused("task_not_found")
                else:
                    reply = decide(tx, asked.command)
                replies.append(reply)
                if asked.key is not None:  # one that changed nothing may be the repetition of one that did
                    applied.append((asked.key, reply if tx.state.last_sequence > before else None))
            received = [
                asked.message_id
                for asked, reply in zip(batch, replies, strict=True)
                if asked.message_id is not None and not isinstance(reply, Refused)
            ]
            if not tx.changed and not received:
                if applied or (not certain and any(map(_needs_certainty, batch, replies))):
                    # A commit would notice that another node had the run meanwhile; an answer must, too.
                    self._task = asyncio.get_running_loop().create_task(self._check(batch, replies))
                    return
                self._deliver(batch, replies)
                self._step()
                return
            # After a conflict tasks take the longer way: it may have been a place that somebody else has.
            if (creating or self.history is not None) and not self.retries:
                self._grant_eagerly(tx, eager)
            published = max(self.published, host.acked(tx.state.run_id))
            write = write_set(tx, self.version, published, creating, host.queue_shard, received, applied)
            wake_at = write.row.wake_at
            future = host.commit(write)
        except Exception as error:
            for poll, _ in eager:
                poll.resolve(None)
            self._failed(batch, error)
            return
        future.add_done_callback(lambda done: self._committed(batch, tx, wake_at, replies, eager, done))

    def _create(self, command: Command[Any], now: Micros) -> Transition:
        host, given = self._host, (now, self._host.rules, self._host.dialect)
        if isinstance(command, StartChildRun):
            return starting.create_child(command, *given)
        if isinstance(command, StartScheduledRun):
            return starting.create_scheduled(command, host.pinned(command.start), *given)
        assert isinstance(command, StartRun)
        return starting.create(host.pinned(command), *given)

    async def _check(self, batch: list[Asked], replies: list[RunReply]) -> None:
        state = self.state
        assert state is not None
        keys = [asked.key for asked in batch if asked.key is not None]
        try:
            version = await self._host.stored_version(state.run_id)
            answers = await self._host.answers_to(keys) if keys else {}
        except Exception as error:
            self._failed(batch, error)
            return
        if version == self.version:
            self._deliver(batch, [answers.get(asked.key or "", reply) for asked, reply in zip(batch, replies, strict=True)])
            self._step()
        else:
            self._again(batch)

    def _grant_eagerly(self, tx: Transition, eager: list[_EagerGrant]) -> None:
        """Grant tasks that just became ready to polls parked on this node, inside the same commit."""
        for task in list(tx.ready.values()):
            if task.available_at > tx.now:
                continue
            poll = self._host.reserve(tx.state.namespace, task)
            if poll is None:
                continue
            try:
                grant = decide(tx, ClaimTask(task.task_id, poll.identity, poll.page_size, poll.permits))
            except Exception:
                poll.resolve(None)
                raise
            if isinstance(grant, WorkflowTaskGrant | ActivityTaskGrant):
                eager.append((poll, grant))
            else:
                poll.resolve(None)

    def _committed(
        self,
        batch: list[Asked],
        tx: Transition,
        wake_at: int | None,
        replies: list[RunReply],
        eager: list[_EagerGrant],
        done: asyncio.Future[bool],
    ) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None or not done.result():
            self._not_committed(batch, eager, error)
            return
        if self.version == 0:
            self.history = tx.history
        self.state = tx.state
        self.version += 1
        self.retries = 0
        self._deliver(batch, replies)
        for kind, value, most in tx.near:
            near = {"run_id": self.state.run_id, "workflow_id": self.state.workflow_id, "limit": kind}
            text = "run %(run_id)s of %(workflow_id)s: %(limit)s is %(count)d, the limit is %(most)d"
            _log.warning(
                text, {**near, "count": value, "most": most}, extra=said("run.limit_near", **near, count=value, most=most)
            )
        try:
            host = self._host
            host.committed(self, tx, wake_at)
            host.rates.committed(tx, eager, [asked.command for asked in batch], replies)
            for poll, grant in eager:
                poll.resolve(grant)
            for task in tx.ready.values():
                host.dispatch(tx.state.namespace, task)
            if tx.successor is not None:
                host.admit_successor(tx.successor)
        except Exception:  # the sweeps make up for effects that fail; an actor that stays busy would be lost
            extra = said("run.effects_failed", run_key=self.run_key)
            _log.exception("run %s: the effects of a commit failed", self.run_key, extra=extra)
        pause = len(self.state.activities) * _PAUSE_SECONDS_PER_ACTIVITY
        if pause < _LEAST_PAUSE_SECONDS:
            self._step()
        else:  # its state is long and was just written: let the next commands gather
            asyncio.get_running_loop().call_later(min(pause, _LONGEST_PAUSE_SECONDS), self._step)

    def _not_committed(self, batch: list[Asked], eager: list[_EagerGrant], error: BaseException | None) -> None:
        """The commit failed (`error`: perhaps only its answer did), or it met a run that was changed from elsewhere."""
        permits = any(poll.permits for poll, _ in eager)
        for poll, grant in eager:
            poll.resolve(None)
            if error is not None:
                self._host.take_back(grant)
        if error is not None:
            self._failed(batch, error)
        elif self.version == 0 and permits:  # next time without: then it is certain what it was
            self.retries += 1
            self.mailbox[:0] = batch
            self._step()
        elif self.version == 0:
            self.mailbox[:0] = batch[1:]  # those are for the run that is there
            self._failed(batch[:1], InstanceTaken())
        else:
            self._again(batch)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _deliver(self, batch: list[Asked], replies: list[RunReply]) -> None:
        for asked, reply in zip(batch, replies, strict=True):
            asked.answer(reply)

    def _again(self, batch: list[Asked]) -> None:
        """Another node changed the run, or applied a command of these: reload and decide once more."""
        workflow_id = "" if self.state is None else self.state.workflow_id
        self.forget()
        self.retries += 1
        if self.retries > _MAX_RETRIES:
            self.retries = 0
            self._failed(batch, Unavailable("the run is changed from elsewhere all the time"))
            return
        if may_conflict_for_ever(batch):
            self._task = asyncio.get_running_loop().create_task(self._sort(batch, workflow_id))
            return
        self.mailbox[:0] = batch
        self._step()

    async def _sort(self, batch: list[Asked], workflow_id: str) -> None:
        """Leave out what was applied already."""
        try:
            left = await sort(self._host, batch, workflow_id)
        except Exception as error:
            self._failed(batch, error)
            return
        self.mailbox[:0] = left
        self._step()

    def _leave_out_old(self, batch: list[Asked], now: Micros) -> None:
        """Commands that waited so long that a repetition could not be told are not decided; the others are."""
        left: list[Asked] = []
        for asked in batch:
            if asked.key is None or not too_old(asked.key, now):
                left.append(asked)
            elif not asked.future.done():
                fail(asked.future, Unavailable("the command waited too long"))
        self.mailbox[:0] = left
        self._step()

    def admit_successor(self, tx: Transition) -> None:
        """Take over a run that another transition created and committed."""
        self.state = tx.state
        self.history = tx.history
        self.version = 1

    def _failed(self, batch: list[Asked], error: BaseException) -> None:
        """Nothing is known about the outcome: forget the state, tell everybody who waits."""
        self.forget()
        if isinstance(error, StoreUnavailable):
            error = Unavailable(str(error))
        elif isinstance(error, asyncio.CancelledError):
            error = Unavailable("the node is leaving")
        elif not isinstance(error, Unavailable | InstanceTaken):
            extra = said("run.transition_failed", run_key=self.run_key)
            _log.error("run %s: a transition failed", self.run_key, exc_info=error, extra=extra)
            error = Unavailable("the transition failed")
        for asked in batch:
            if not asked.future.done():
                fail(asked.future, error)
        self._step()


def _needs_certainty(asked: Asked, reply: RunReply) -> bool:
    return isinstance(reply, Refused) or not reads_what_stays(asked.command)
