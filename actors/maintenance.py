"""What a node does for its shards by the clock: due runs, lost dispatches, unpublished events, idle queues.

Every node does its share for the shards it hosts; there is no singleton (architecture, rules 4 to 8).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence

from actors.engine import Engine
from actors.hosting.host import Host
from actors.hosting.permit_sweep import sweep
from actors.hosting.repeats import forgotten_before
from actors.periodic import every
from actors.publishing.publisher import Publisher
from actors.publishing.republisher import Republisher
from actors.publishing.schedule_publisher import SchedulePublisher
from actors.run import ids, setback
from base.observability.actions import said
from base.service import Service
from store import applied, runs, schedules
from store import ready_tasks as tasks
from store.connections.pool import Database
from store.errors import StoreUnavailable

_log = logging.getLogger("dw.actors")

_TICK_SECONDS = 1.0
_SWEEP_SECONDS = 5.0
_SWEEP_OFTEN_SECONDS = 3.0  # every tick, for so long after shards came or a node was not heard
_UNPUBLISHED_AFTER_SECONDS = 5.0
_QUEUE_IDLE_SECONDS = 120.0
_FORGET_SECONDS = 30.0
_DUE_LIMIT = 5000
_PAGE = 500
_PAGE_PAUSE_SECONDS = 0.02


class Maintenance(Service):
    """Periodic work of one node."""

    def __init__(
        self,
        db: Database,
        host: Host,
        engine: Engine,
        publisher: Publisher,
        schedule_publisher: SchedulePublisher,
        held: Callable[[], frozenset[int]],
        republisher: Republisher,
        bus_up: Callable[[], bool],
        dispatch_up: Callable[[], bool],
        all_heard: Callable[[], bool],
    ) -> None:
        """`bus_up`: NATS is connected; `dispatch_up`: tasks for the queues here arrive by it; `all_heard`: from every node."""
        super().__init__()
        self._db = db
        self._host = host
        self._engine = engine
        self._publisher = publisher
        self._schedules = schedule_publisher
        self._held = held
        self._republisher = republisher
        self._bus_up = bus_up
        self._dispatch_up = dispatch_up
        self._all_heard = all_heard
        self._sweep_often_until = 0.0  # loop time
        self._last_sweep = 0.0
        self._last_forgetting = 0.0
        self._sweeping: asyncio.Task[None] | None = None
        self._looked_through: set[int] = set()  # shards without a run that an earlier clock was ahead for
        self._looking: asyncio.Task[None] | None = None
        host.clock.on_step(self._stepped)

    async def _start(self) -> None:
        self._spawn(every(_TICK_SECONDS, self._tick), name="maintenance")
        self._spawn(every(_SWEEP_SECONDS, self._publish_tails), name="maintenance-publish")
        await self._republisher.start()

    async def _stopped(self) -> None:
        """What was published is noted."""
        await self._republisher.stop()
        await self._publisher.flush()
        await self._schedules.flush()

    async def acquired(self, taken: Sequence[int]) -> None:
        """Shards are hosted here from now on: find what is due and what a dead node left unpublished.

        What the database does not answer now is looked for again by the ticks.
        """
        shards = set(taken)
        # Until all others know, they send the tasks of these queues elsewhere.
        self._sweep_often_until = asyncio.get_running_loop().time() + _SWEEP_OFTEN_SECONDS
        for queue in self._host.queues_of(shards):
            queue.reload()
        with contextlib.suppress(StoreUnavailable):
            await self._wake_due(shards)
            await self._engine.messages.scan(shards)
            await self._publisher.sweep(shards, self._host.now())
            await self._schedules.sweep(shards)

    async def _tick(self) -> None:
        self._engine.polls.send_on()
        held = self._held()
        if held:
            await self._wake_due(held)
            await self._engine.messages.scan(held)
            self._look_for_setbacks()
        await self._publisher.flush()
        await self._schedules.flush()
        now = asyncio.get_running_loop().time()
        if 0 in held and now - self._last_forgetting >= _FORGET_SECONDS:
            self._last_forgetting = now
            await applied.forget(self._db, forgotten_before(self._host.now()))
            if self._sweeping is None or self._sweeping.done():
                self._sweeping = self._spawn(self._sweep_permits(), name="maintenance-permits")
        if not self._dispatch_up() or not self._all_heard():
            self._sweep_often_until = now + _SWEEP_OFTEN_SECONDS
        if now < self._sweep_often_until or now - self._last_sweep >= _SWEEP_SECONDS:
            self._last_sweep = now
            self._sweep_queues(now)

    async def _sweep_permits(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            left = await sweep(self._db, self._host.now())
            if left:
                _log.warning("%d places under caps were held by no lease", left, extra=said("permits.left_over", count=left))

    async def _wake_due(self, shards: Collection[int]) -> None:
        """Arm every run whose deadline is in reach: evicted ones, and those another node changed."""
        now = self._host.now()
        for run_id, _, wake_at in await runs.due(self._db, list(shards), now + 2 * int(_TICK_SECONDS * 1e6), _DUE_LIMIT):
            self._host.deadlines.set(ids.key_in(run_id), wake_at, now)
        reach = now + 2 * int(_TICK_SECONDS * 1e6)
        self._engine.schedule_host.due(await schedules.due(self._db, list(shards), reach, _DUE_LIMIT))

    # -- a clock that was ahead ------------------------------------------------------------------------------------------

    def _stepped(self, micros: int) -> None:
        if micros < -setback.TOLERANCE:
            self._looked_through.clear()

    def _look_for_setbacks(self) -> None:
        """Once for each shard, and again when the clock went back: runs that wait for a time when a clock was ahead."""
        new = self._held() - self._looked_through
        if new and (self._looking is None or self._looking.done()):
            self._looked_through |= new
            self._looking = self._spawn(self._set_back(new), name="maintenance-setbacks")

    async def _set_back(self, shards: frozenset[int]) -> None:
        """A look at every run that waits for something later, a page at a time: there may be millions."""
        try:
            for task_id in await tasks.last_available(self._db, list(shards), self._reach(), _DUE_LIMIT):
                self._engine.wake(task_id)
            for key in await schedules.waiting_since_later(self._db, list(shards), self._reach()):
                self._engine.schedule_host.wake(key)
            for shard in shards:
                after = (self._reach(), "")
                while page := await runs.awaited(self._db, shard, after, _PAGE):
                    for run_id, _, last_progress_at in page:
                        if last_progress_at > self._reach():
                            self._engine.wake(run_id)
                    after = (page[-1][1], page[-1][0])
                    await asyncio.sleep(_PAGE_PAUSE_SECONDS)
        except StoreUnavailable:
            self._looked_through -= shards

    def _reach(self) -> int:
        return self._host.now() + setback.TOLERANCE

    def _sweep_queues(self, now: float) -> None:
        """Tasks whose dispatch was lost are found in their rows."""
        for queue in self._host.all_queues():
            queue.tidy()
            if queue.waiting:
                queue.reload()
            elif queue.idle and now - queue.last_used > _QUEUE_IDLE_SECONDS:
                self._host.drop_queue(queue.name)

    async def _publish_tails(self) -> None:
        held = self._held()
        if self._bus_up():
            await self._republisher.check()
        if held and self._bus_up():
            await self._publisher.sweep(held, self._host.now() - int(_UNPUBLISHED_AFTER_SECONDS * 1e6))
            await self._schedules.sweep(held)
