"""Renews the lease of a node, and sees who else lives (architecture, Shards and placement)."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.clock import Clock
from store.cluster import nodes as leases
from store.connections.pool import Database

_BEATS_AT_ONCE = 2

_Sent = asyncio.Task[tuple[leases.Beat, int]]


class Heartbeat:
    """The heartbeats of one process (`incarnation`) under its node id: one every `beat_seconds`, each for `ttl_seconds`."""

    def __init__(
        self, db: Database, node_id: str, incarnation: str, address: str, clock: Clock, ttl_seconds: float, beat_seconds: float
    ) -> None:
        self._db = db
        self._node_id = node_id
        self._incarnation = incarnation
        self._address = address
        self._clock = clock
        self._ttl = ttl_seconds
        self._beat = beat_seconds

    async def renew(self, patience: float, draining: bool) -> tuple[leases.Beat, int]:
        """One heartbeat: what was seen, and by the clock's ticks when it was sent.

        While it hangs another is sent on a connection of its own: the first that goes through counts.

        Raises `StoreError` when it failed, `TimeoutError` after `patience` seconds.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        under_way = {self._send(draining, apart=False)}
        try:
            while True:
                left = until - loop.time()
                done, under_way = await asyncio.wait(
                    under_way, timeout=min(left, self._beat / 2), return_when=asyncio.FIRST_COMPLETED
                )
                failed = {one for one in done if one.exception() is not None}
                for one in (done - failed) or (failed if not under_way else ()):
                    return one.result()
                if loop.time() >= until:
                    raise TimeoutError
                if not done and len(under_way) < _BEATS_AT_ONCE:
                    under_way.add(self._send(draining, apart=True))
        finally:
            for one in under_way:
                one.cancel()
                one.add_done_callback(_nobody_asks)

    def _send(self, draining: bool, *, apart: bool) -> _Sent:
        async def send() -> tuple[leases.Beat, int]:
            sent = self._clock.ticks()
            beat = leases.beat(self._db, self._node_id, self._incarnation, self._address, self._ttl, draining, apart=apart)
            return await beat, sent

        return asyncio.get_running_loop().create_task(send(), name="heartbeat")


def _nobody_asks(beat: asyncio.Task[Any]) -> None:
    if not beat.cancelled():
        beat.exception()
