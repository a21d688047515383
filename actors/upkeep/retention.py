"""Retention by itself: every node prunes the expired runs of the shards it hosts (contract operations 6.3).

A few runs at a time, on connections of its own, with a pause twice as long as each batch took; it waits while commits queue
up. Two nodes that both take themselves for a shard's host do no harm: a run goes once (`store.upkeep.pruning`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from actors.periodic import every
from actors.run import ids
from actors.upkeep.pruning import cutoff, prune_looked_at
from base.observability.actions import said
from base.service import Service
from store import namespaces
from store.connections.pool import Database
from store.upkeep import pruning

_log = logging.getLogger("dw.actors")

_PERIOD_SECONDS = 10.0
_BATCH = 100
_PAUSE = 2.0  # times as long as a batch took
_LEAST_PAUSE_SECONDS = 0.01
_YIELD_SECONDS, _MOST_YIELDS = 0.02, 50  # while commits wait: a second at most, so that a busy node prunes, too
_FULL_LOOK_SECONDS = 600.0  # now and then from the earliest run on: clocks were wrong, runs were locked


class Retention(Service):
    """Periodic pruning of one node."""

    def __init__(
        self,
        db: Database,
        held: Callable[[], frozenset[int]],
        now: Callable[[], int],
        busy: Callable[[], bool],
    ) -> None:
        """`db`: for upkeep alone. `held`: the shards hosted here. `now`: microseconds. `busy`: commits wait."""
        super().__init__()
        self._db = db
        self._held = held
        self._now = now
        self._busy = busy
        self._after: dict[str, int] = {}  # namespace -> everything that ended before was looked at
        self._looked_for: frozenset[int] = frozenset()
        self._full_look_at = 0.0  # loop time of the next
        self.pruned = 0

    async def _start(self) -> None:
        self._spawn(every(_PERIOD_SECONDS, self.look), name="retention")

    async def look(self) -> int:
        """Prune everything that is expired now; how many runs went."""
        held, loop = self._held(), asyncio.get_running_loop()
        if not held:
            return 0
        if held - self._looked_for or loop.time() >= self._full_look_at:
            self._after.clear()
            self._full_look_at = loop.time() + _FULL_LOOK_SECONDS
        self._looked_for = held
        began, gone = loop.time(), 0
        for namespace in await namespaces.listing(self._db):
            gone += await self._prune(namespace.name, cutoff(self._now(), namespace.retention_days))
        if gone:
            seconds = round(loop.time() - began, 1)
            extra = said("retention.pruned", count=gone, seconds=seconds)
            _log.info("%d runs were pruned in %.1f s", gone, seconds, extra=extra)
        return gone

    async def _prune(self, namespace: str, before: int) -> int:
        loop = asyncio.get_running_loop()
        gone, left = 0, False
        after = start = self._after.get(namespace, 0)
        while held := self._held():
            began = loop.time()
            page = await pruning.expired(self._db, namespace, after, before, _BATCH, [ids.shard_text(s) for s in held])
            if page:
                found = await pruning.look_at(self._db, [run_id for run_id, _ in page])
                pruned, stays = await prune_looked_at(self._db, found)
                gone += len(pruned)
                self.pruned += len(pruned)
                settled = len(pruned) + sum(reason == "run_archived" for reason in stays.values())
                left |= settled < len(found)
                # Runs that ended in the same instant may lie on both sides of a page's end.
                after = page[-1][1] if settled == len(page) else page[-1][1] + 1
            if len(page) < _BATCH:
                break
            await self._pause(loop.time() - began)
        # Whoever stayed for a while is looked at again.
        self._after[namespace] = start if left else after
        return gone

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(max(_PAUSE * seconds, _LEAST_PAUSE_SECONDS))
        for _ in range(_MOST_YIELDS):
            if not self._busy():
                return
            await asyncio.sleep(_YIELD_SECONDS)
