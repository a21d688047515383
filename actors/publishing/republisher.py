"""Notices that the event stream has lost what was in it, and publishes events again that subscribers may not have had.

The deployment remembers in PostgreSQL which stream it publishes to and how far that has gone. A node that finds another one
(NATS lost its data, the stream was deleted, the node was led to another NATS) or one that ends too early (a restored disk)
asks for a repetition of everything recorded since some time before the loss (`DW_EVENTS_REPUBLISH_SECONDS`); an operator can
ask for it as well (`dw-server events republish`). What is asked for stands in PostgreSQL shard by shard; each node does the
shards it hosts, at a bounded pace, and notes how far it is: after a crash or hand-over the next one goes on there.

What a subscriber sees: the events of a run recorded since then, in order up to its newest one, each under the `Nats-Msg-Id`
it always had. JetStream drops those it has from within its duplicate window; the others a subscriber may see twice, and after
a crash in the middle a repetition may begin again. New events of a run wait until its older ones are out. Only when somebody
else makes the stream anew under living connections, events can get into it for some seconds before the loss is noticed; the
repetition of their runs comes behind them. A purge is taken for wanted: nothing is repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from actors.periodic import every
from actors.publishing.publisher import Publisher
from actors.publishing.repetition import bound
from actors.publishing.schedule_publisher import SchedulePublisher
from base.observability.actions import said
from base.service import Service
from bus.events import EventStream
from store.cluster import republishing
from store.connections.pool import Database
from store.errors import StoreError

_log = logging.getLogger("dw.actors")

_TICK_SECONDS = 1.0
_SLICE = 2000  # runs looked at in one read
_AHEAD = 1000  # events queued before waiting
_EVENTS_PER_SECOND = 2000
_PATIENCE_SECONDS = 30.0
_UNSEEN = 1_000_000  # so many events at most come between two sightings of the stream
_NEW_RUNS = 60_000_000  # clocks differ: runs begun that little later may be repeated as well


class Republisher(Service):
    """The repetitions of one node. When it is stopped, the next one goes on from what is noted."""

    def __init__(
        self,
        db: Database,
        publisher: Publisher,
        schedule_publisher: SchedulePublisher,
        stream: EventStream,
        held: Callable[[], Collection[int]],
        window_seconds: int,
        tell: Callable[[], object] = lambda: None,
    ) -> None:
        """`held`: the shards hosted here. `window_seconds`: how long before a loss events are repeated; 0: not by itself.

        `tell()` has `told` called on the other nodes.
        """
        super().__init__()
        self._db = db
        self._publisher = publisher
        self._schedules = schedule_publisher
        self._stream = stream
        self._held = held
        self._window = window_seconds * 1_000_000
        self._tell = tell
        self._told = False
        self._schedules_of: set[int] = set()  # shards with a job that schedules have not been looked through for
        self._lost: set[int] = set()  # shards that left since the present slice was begun

    async def _start(self) -> None:
        self._spawn(every(_TICK_SECONDS, self.work), name="republisher")

    async def first_sequence(self) -> int | None:
        """Where a new stream begins: behind what any before it can have reached; None: not known now."""
        try:
            return max((await republishing.last_seen(self._db)).values(), default=-_UNSEEN) + 1 + _UNSEEN
        except StoreError:
            return None

    async def check(self) -> bool:
        """Compare the stream with what is remembered and learn what is to be repeated; False: not possible now."""
        try:
            acked = self._stream.take_end()
            before = await republishing.last_seen(self._db)
            sight = await self._stream.look()
            if sight is not None and not sight.created:
                self._stream.doubt()
            if sight is None or not sight.created:
                return False
            loss = await republishing.note_stream(
                self._db, sight.created, sight.last_sequence, before.get(sight.created, 0), acked, self._window, _end
            )
            if loss is not None:
                _log.warning(
                    "the event stream lost events (%s); %s", loss.reason, _what_follows(loss.since), extra=said("events.lost")
                )
                self._tell()
            await self.reload()
        except StoreError:
            return False
        return True

    def told(self) -> None:
        """Another node has asked for a repetition."""
        self._told = True

    async def reload(self) -> None:
        """Learn what is to be repeated: asked for by an operator, or by another node."""
        self._told = False
        fresh = self._publisher.repetition.replace(await republishing.jobs(self._db))
        if fresh:
            self._publisher.withdraw(fresh)
        self._schedules_of |= fresh
        if self._schedules_of:
            jobs = self._publisher.repetition.jobs
            await self._schedules.repeat({shard: job for shard, job in jobs.items() if shard in self._schedules_of})
            self._schedules_of.clear()

    def released(self, shards: Collection[int]) -> None:
        """These shards are hosted elsewhere from now on."""
        self._lost.update(shards)
        self._publisher.repetition.forget(shards)

    async def work(self) -> None:
        """Publish what is to be repeated of the shards hosted here."""
        repetition = self._publisher.repetition
        if self._told:
            await self.reload()
        while mine := {shard: job for shard, job in repetition.jobs.items() if shard in self._held()}:
            self._lost.clear()
            await self._publisher.publish_dropped()
            after = min(job.after_run for job in mine.values())
            part = await republishing.runs_after(self._db, list(mine), after, _SLICE)
            for run_id in part.run_ids:
                if not await self._repeat(run_id):
                    return
            if not await self._settle(part.run_ids):
                return
            done = {shard: job.job for shard, job in mine.items() if shard in self._held() and shard not in self._lost}
            await republishing.advance(self._db, done, part.reached)
            await self.reload()
            if not repetition.jobs:
                _log.info("the events asked for are published again", extra=said("events.republished"))

    async def _repeat(self, run_id: str) -> bool:
        if not await self._until(lambda: self._stream.queued < _AHEAD and not self._stream.queued_of(run_id)):
            return False
        if self._waits(run_id):
            events = await self._publisher.catch_up(run_id, _ALL)
            await asyncio.sleep(events / _EVENTS_PER_SECOND)
        return True

    async def _settle(self, run_ids: list[str]) -> bool:
        """Whether all of these runs are done (or not to be done here any more) in time."""
        return await self._until(lambda: not any(self._waits(run_id) for run_id in run_ids))

    def _waits(self, run_id: str) -> bool:
        return self._publisher.waits_for_repetition(run_id)

    async def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait as long as events get out at all, and look after the runs that wait behind meanwhile."""
        loop = asyncio.get_running_loop()
        acked, since = self._stream.acked, loop.time()
        looked = loop.time()
        while not condition():
            await asyncio.sleep(0.02)
            now = loop.time()
            if self._stream.acked != acked:
                acked, since = self._stream.acked, now
            if now - since > _PATIENCE_SECONDS:
                return False
            if now - looked > _TICK_SECONDS:
                looked = now
                await self._publisher.publish_dropped()
        return True


_ALL = 2**62  # the mark of a run does not say where to begin


def _end(at: int) -> str:
    return bound(at + _NEW_RUNS)


def _what_follows(since: int | None) -> str:
    if since is None:
        return "subscribers miss them unless `dw-server events republish` is told to publish them again"
    return f"those recorded since {_iso(since)} are published again"


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
