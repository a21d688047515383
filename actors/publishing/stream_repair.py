"""Gets an event stream going again that NATS has closed for writing because its disk was full (`bus.standstill`).

As soon as NATS writes to its disk again, one node of the deployment
- restarts NATS, where NATS is its own (`dw-server dev`): the stream goes on with all it holds; or
- makes the stream anew with the durable consumers it had. Events in it are lost with that, and are published again as after any
  loss of the stream (`actors.publishing.republisher`).
In a NATS cluster, or with replicas, the stream is left alone: another server leads on there, or the operator restarts the one
that stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from actors.periodic import every
from base.observability.actions import said
from base.service import Service
from bus import remake
from bus.connection import Bus
from bus.events import EventStream
from store.cluster import deployment, republishing
from store.connections.pool import Database

_log = logging.getLogger("dw.actors")

_TICK_SECONDS = 2.0
_SILENT_SECONDS = 6.0  # several publishes must have stayed without an answer
_AGAIN_SECONDS = 5.0  # and one more after the disk was found to take writes
_REMADE_SECONDS = 30.0
_LOOK_SECONDS = 60.0
_PAUSE_SECONDS = (60.0, 3600.0)  # between two repairs, longer each time: a disk that is full again and again
_CONSUMERS = "event_stream_consumers"  # setting: of a stream that is being made anew


class StreamRepair(Service):
    """Looks after the event stream of one node."""

    def __init__(self, db: Database, bus: Bus, stream: EventStream, restart_nats: Callable[[], object] | None = None) -> None:
        """`restart_nats` has NATS end and start again with its data, soon if not at once; it may block."""
        super().__init__()
        self._db = db
        self._bus = bus
        self._stream = stream
        self._restart_nats = restart_nats
        self._pause = _PAUSE_SECONDS[0]
        self._not_before = 0.0
        self._look_after = 0.0  # a process that made the stream anew may not have got to the end

    async def _start(self) -> None:
        self._spawn(every(_TICK_SECONDS, self.work), name="stream-repair")

    async def work(self) -> None:
        """One look, and what it takes."""
        if self._stream.silent_seconds() >= _SILENT_SECONDS and (self._restart_nats is not None or self._alone()):
            now = asyncio.get_running_loop().time()
            if now < self._not_before:
                return
            async with republishing.repair_lock(self._db) as held:
                if held and await self._is_closed():
                    if now > self._not_before + _PAUSE_SECONDS[1]:
                        self._pause = _PAUSE_SECONDS[0]
                    self._not_before = now + self._pause
                    self._pause = min(self._pause * 2, _PAUSE_SECONDS[1])
                    await self._open()
        elif self._stream.ready and asyncio.get_running_loop().time() >= self._look_after:
            self._look_after = asyncio.get_running_loop().time() + _LOOK_SECONDS
            if await deployment.get(self._db, _CONSUMERS):
                async with republishing.repair_lock(self._db) as held:
                    if held:
                        await self._restore_consumers()

    def _alone(self) -> bool:
        return not self._bus.clustered and self._bus.options.replicas == 1

    async def _is_closed(self) -> bool:
        """Whether the stream takes nothing although the disk does."""
        before = await self._stream.look()
        if before is None or not await remake.disk_takes_writes(self._bus):
            return False
        await asyncio.sleep(_AGAIN_SECONDS)
        return self._stream.silent_seconds() >= _SILENT_SECONDS and await self._stream.look() == before

    async def _open(self) -> None:
        if self._restart_nats is not None:
            _log.warning("NATS has space again and is restarted to store events again", extra=said("events.nats_restarted"))
            try:
                await asyncio.to_thread(self._restart_nats)
            except Exception as error:  # whatever keeps it from starting: the next look tries again
                _log.error("NATS could not be restarted: %s", error, extra=said("events.nats_restart_failed"))
            return
        consumers = await remake.durable_consumers(self._bus)
        if consumers is None:
            return
        _log.warning(
            "NATS has space again, but its event stream is closed for writing until a restart: it is made anew",
            extra=said("events.stream_remade"),
        )
        if consumers != "[]":  # else those of a repair that was cut off stay noted
            await deployment.put(self._db, _CONSUMERS, consumers)
        if await remake.delete_event_stream(self._bus):
            self._stream.doubt()
            if await self._stream.wait_ready(_REMADE_SECONDS):
                await self._restore_consumers()

    async def _restore_consumers(self) -> None:
        consumers = await deployment.get(self._db, _CONSUMERS)
        if consumers and await remake.restore_consumers(self._bus, consumers):
            await deployment.put(self._db, _CONSUMERS, "")
