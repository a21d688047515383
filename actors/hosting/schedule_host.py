"""Hosts the live schedules of this node, beside the runs (`host`): load, decide, commit, wake when something is due.

Any node may host any schedule: the store's version check keeps two that do so from ever corrupting it. Those that rest are
evicted, least recently used first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from actors.clock import Clock
from actors.errors import Unavailable
from actors.hosting.deadlines import DeadlineQueue
from actors.hosting.schedule_actor import Names, ScheduleActor, Told
from actors.hosting.schedule_rows import announced, decode_answer
from actors.publishing.schedule_publisher import SchedulePublisher
from actors.run import ids
from actors.run.times import Micros
from actors.schedule.commands import RunClosed, ScheduleCommand, WakeUp
from actors.schedule.messages import ScheduleMessage, Settled
from actors.schedule.replies import ScheduleReply
from actors.schedule.state import Latest
from actors.schedule.transition import Transition
from bus.errors import fail
from store import applied, instances, run_messages, schedules
from store.commit.group import ScheduleCommit
from store.commit.schedule_writes import ScheduleWrite
from store.connections.pool import Database
from store.errors import StoreError
from store.schedules import StoredSchedule

_MOST_RESTING = 4000  # live schedules that have nothing to do
_MOST_RESTING_BYTES = 16 * 1024 * 1024
_BYTES = 4000  # of one without its definition
_MOST_LOADED = 200  # in one read
_MOST_REMEMBERED = 10_000  # outcomes nobody has asked for yet
_AGAIN_MICROS = 1_000_000
_LOOK_MICROS = 30_000_000


class ScheduleHost:
    """The schedules of one node, by key. `owns` and `announce` are set by the engine before anything is asked."""

    owns: Callable[[int], bool]
    announce: Callable[[list[ScheduleMessage]], None]

    def __init__(
        self, db: Database, committer: ScheduleCommit, publisher: SchedulePublisher, shards: int, clock: Clock
    ) -> None:
        self.shards = shards
        self._db = db
        self._committer = committer
        self._publisher = publisher
        self._clock = clock
        self._live: dict[str, ScheduleActor] = {}
        self._resting: OrderedDict[str, int] = OrderedDict()  # key -> bytes
        self._resting_bytes = 0
        self._loading: dict[str, asyncio.Future[StoredSchedule | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked: dict[str, Micros] = {}
        self._settled: OrderedDict[str, Settled] = OrderedDict()  # by run id
        self._waiting: dict[str, set[asyncio.Event]] = {}  # by run id
        self.deadlines: DeadlineQueue[str] = DeadlineQueue(self.wake, self.now)
        clock.on_step(self._stepped)

    def now(self) -> Micros:
        """The present in microseconds, by the node's clock."""
        return self._clock.now()

    def ask(
        self,
        schedule_key: str,
        command: ScheduleCommand,
        names: Names | None = None,
        message_id: str | None = None,
        key: str | None = None,
    ) -> asyncio.Future[ScheduleReply]:
        """Have a schedule decide a command here. `names`: namespace and schedule id, of one that perhaps is not stored yet.

        `message_id`: the message it came in; `key`: of a command that must be applied once. The future raises `Unavailable`
        when the outcome is unknown.
        """
        future: asyncio.Future[ScheduleReply] = asyncio.get_running_loop().create_future()
        actor = self._live.get(schedule_key)
        if actor is None:
            actor = self._live[schedule_key] = ScheduleActor(self, schedule_key)
        else:
            self._resting_bytes -= self._resting.pop(schedule_key, 0)
        actor.enqueue(Told(command, future, message_id, key), names)
        return future

    # -- what actors need ----------------------------------------------------------------------------------------------

    def commit(self, write: ScheduleWrite) -> asyncio.Future[bool]:
        """Hand a write to the group commit."""
        return self._committer.commit(write)

    def load(self, schedule_key: str) -> asyncio.Future[StoredSchedule | None]:
        """The stored schedule, None if there is none. What is asked for at a time is read at once."""
        future = self._loading.get(schedule_key)
        if future is None:
            loop = asyncio.get_running_loop()
            if not self._loading:
                loop.call_soon(self._begin_loading)
            future = self._loading[schedule_key] = loop.create_future()
        return future

    def _begin_loading(self) -> None:
        wanted, self._loading = list(self._loading.items()), {}
        for start in range(0, len(wanted), _MOST_LOADED):
            task = asyncio.get_running_loop().create_task(self._load(dict(wanted[start : start + _MOST_LOADED])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _load(self, wanted: dict[str, asyncio.Future[StoredSchedule | None]]) -> None:
        try:
            found = {each.schedule_key: each for each in await schedules.load(self._db, list(wanted))}
        except BaseException as error:
            for future in wanted.values():
                if not future.done():
                    fail(future, error)
            return
        for key, future in wanted.items():
            if not future.done():
                future.set_result(found.get(key))

    def published(self, schedule_key: str) -> int:
        """How far its events are known to be published."""
        return self._publisher.known(schedule_key)

    def committed(self, actor: ScheduleActor, tx: Transition, write: ScheduleWrite) -> None:
        """A transition is durable: arm its deadline, bring its messages, publish its events, tell who waits for starts."""
        self._arm(actor.key, write.row.wake_at)
        for settled in tx.settled:
            self._note(settled)
        if write.sent:
            self.announce([announced(row, message) for row, message in zip(write.sent, tx.messages, strict=True)])
        if tx.events:
            self._publisher.publish(actor.key, tx.state, tx.events, max(actor.published, self._publisher.known(actor.key)))

    def unchanged(self, actor: ScheduleActor, wake_at: int | None) -> None:
        """It was looked at, and nothing was due."""
        now = self.now()
        self._arm(actor.key, wake_at if wake_at is None or wake_at > now else now + _AGAIN_MICROS)

    def _arm(self, key: str, wake_at: int | None) -> None:
        if self.owns(ids.shard_of_id(key)):
            self.deadlines.set(key, wake_at, self.now())

    def rest(self, actor: ScheduleActor) -> None:
        """An actor has nothing to do: keep it if it is worth it."""
        key = actor.key
        if actor.state is None or not self.owns(ids.shard_of_id(key)):
            self._live.pop(key, None)
            return
        size = _BYTES + actor.definition_bytes
        self._resting_bytes += size - self._resting.pop(key, 0)
        self._resting[key] = size
        while len(self._resting) > _MOST_RESTING or self._resting_bytes > _MOST_RESTING_BYTES:
            oldest, size = self._resting.popitem(last=False)
            self._resting_bytes -= size
            del self._live[oldest]

    async def messages_there(self, message_ids: list[str]) -> set[str]:
        """Which of these messages nobody has applied yet."""
        return await run_messages.existing(self._db, message_ids)

    async def discard(self, message_ids: list[str]) -> None:
        """Delete messages that no commit will ever apply."""
        await run_messages.discard(self._db, message_ids)

    async def answers_to(self, keys: list[str]) -> dict[str, ScheduleReply]:
        """What those of these commands that were applied already were answered."""
        return {key: decode_answer(data) for key, data in (await applied.find(self._db, keys)).items()}

    def note_acked(self, schedule_key: str, sequence: int) -> None:
        """The event stream has the schedule's events up to `sequence`."""
        actor = self._live.get(schedule_key)
        if actor is not None:
            actor.published = max(actor.published, sequence)
        self._publisher.acked(schedule_key, sequence)

    # -- what becomes of starts ------------------------------------------------------------------------------------------

    def _note(self, settled: Settled) -> None:
        self._settled[settled.run_id] = settled
        if len(self._settled) > _MOST_REMEMBERED:
            self._settled.popitem(last=False)
        for event in self._waiting.get(settled.run_id, ()):
            event.set()

    async def settled(self, run_ids: Collection[str], seconds: float) -> dict[str, Settled]:
        """What became of these starts, as far as this node hears of it within so many seconds; by run id."""
        wanted, event = set(run_ids), asyncio.Event()
        for run_id in wanted:
            self._waiting.setdefault(run_id, set()).add(event)
        try:
            async with asyncio.timeout(seconds):
                while not wanted <= self._settled.keys():
                    await event.wait()
                    event.clear()
        except TimeoutError:
            pass
        finally:
            for run_id in wanted:
                waiting = self._waiting[run_id]
                waiting.discard(event)
                if not waiting:
                    del self._waiting[run_id]
        return {run_id: self._settled[run_id] for run_id in wanted if run_id in self._settled}

    # -- time ----------------------------------------------------------------------------------------------------------

    def wake(self, schedule_key: str) -> None:
        """Have a schedule look at what is due; nobody waits for that."""
        if self.owns(ids.shard_of_id(schedule_key)):
            self.ask(schedule_key, WakeUp()).add_done_callback(lambda done: self._woken(schedule_key, done))

    def _woken(self, schedule_key: str, done: asyncio.Future[ScheduleReply]) -> None:
        if done.cancelled():
            return
        if done.exception() is not None:
            now = self.now()
            self.deadlines.set(schedule_key, now + _AGAIN_MICROS, now)
            return
        actor = self._live.get(schedule_key)
        state = None if actor is None else actor.state
        if state is not None and state.latest is not None and not state.latest.closed and not state.sent:
            self._look_after(schedule_key, state.record_id, state.latest)

    def _look_after(self, schedule_key: str, record_id: str, latest: Latest) -> None:
        """See now and then whether a run that a schedule waits for has ended.

        Programs from before schedules, which may have hosted the run while the cluster was renewed, tell nothing.
        """
        now = self.now()
        if len(self._looked) > _MOST_REMEMBERED:
            self._looked.clear()
        if self._looked.get(schedule_key, 0) + _LOOK_MICROS > now:
            return
        self._looked[schedule_key] = now

        async def look() -> None:
            with contextlib.suppress(StoreError, Unavailable):
                if await instances.ended(self._db, latest.workflow_id):
                    await self.ask(schedule_key, RunClosed(record_id, latest.number))

        task = asyncio.get_running_loop().create_task(look())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def due(self, found: Iterable[tuple[str, int]]) -> None:
        """Arm schedules whose deadline, as it is stored, is in reach."""
        now = self.now()
        for key, wake_at in found:
            self.deadlines.set(key, wake_at, now)

    def _stepped(self, _micros: int) -> None:
        self.deadlines.stepped()

    # -- shards come and go --------------------------------------------------------------------------------------------

    async def release(self, shards: Collection[int], drain: bool) -> None:
        """Let go of the schedules of these shards; with `drain` what is in flight ends first, for a while."""
        leaving = [actor for key, actor in self._live.items() if ids.shard_of_id(key) in shards]
        for _ in range(100 if drain else 0):
            if not any(actor.busy for actor in leaving):
                break
            await asyncio.sleep(0.01)
        for actor in leaving:
            self.deadlines.set(actor.key, None, self.now())
            if not actor.busy and self._live.get(actor.key) is actor:
                self._resting_bytes -= self._resting.pop(actor.key, 0)
                del self._live[actor.key]

    def forget_namespace(self, namespace: str) -> None:
        """The namespace is gone, and its schedules with it: none of them is kept."""
        for key, actor in list(self._live.items()):
            if actor.state is not None and actor.state.namespace == namespace and not actor.busy:
                self.deadlines.set(key, None, self.now())
                self._resting_bytes -= self._resting.pop(key, 0)
                del self._live[key]

    def stop(self) -> None:
        """No deadline fires any more."""
        self.deadlines.stop()
