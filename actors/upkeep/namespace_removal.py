"""Deletes namespaces: for whoever asks, and to the end when they do not wait for it (contract control-plane 4).

A namespace is first marked, and every node told: nobody is let in from then on but those who were in already. So it is looked
through once more when even the slowest of those must have come to an end; until then its name can be used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from actors.periodic import every
from actors.run import ids
from base.service import Service
from store.connections.pool import Database
from store.upkeep import namespace_removal as store

TOPIC = "namespace-gone"

_PERIOD_SECONDS = 5.0
_ABANDONED_MICROS = 15_000_000  # nobody works at it any more
_LATE_MICROS = 90_000_000  # a request that was let in before is done
_TOUCH_SECONDS = 2.0
_PAUSE_SECONDS = 0.01

COUNTED = ("workflow_runs", "workflow_schedules", "search_attribute_definitions", "workflow_worker_registrations")


class Broadcaster(Protocol):
    """Tells the other nodes (bus.broadcast.Broadcast)."""

    def broadcast(self, topic: str, payload: bytes) -> bool: ...

    def on_broadcast(self, topic: str, handler: Callable[[str, bytes], None]) -> int: ...


class NamespaceRemoval(Service):
    """The deletions of one node; each one abandoned is taken up by the node that hosts the shard of its name."""

    def __init__(
        self,
        db: Database,
        broadcast: Broadcaster,
        now: Callable[[], int],
        forget: Callable[[str], None],
        hosts: Callable[[str], bool],
    ) -> None:
        """`now`: microseconds. `forget`: drop what is remembered of a namespace. `hosts`: whether a name is this node's."""
        super().__init__()
        self._db = db
        self._broadcast = broadcast
        self._now = now
        self._forget = forget
        self._hosts = hosts
        broadcast.on_broadcast(TOPIC, lambda _node, name: forget(name.decode()))

    async def _start(self) -> None:
        self._spawn(every(_PERIOD_SECONDS, self.look), name="namespace-removal")

    async def delete(self, name: str) -> dict[str, int] | None:
        """Delete a namespace; how many records went, by kind. None when there is no such namespace."""
        if not await store.begin(self._db, name, self._now()):
            return None
        self._tell(name)
        counts = await self._remove(name)
        await store.finish(self._db, name, self._now())
        self._tell(name)
        return counts

    async def look(self) -> None:
        """Go on with deletions that nobody works at, and forget those that are done for long."""
        for removal in await store.pending(self._db):
            idle = self._now() - removal.since
            if not self._hosts(removal.name):
                continue
            if removal.status == "deleting" and idle > _ABANDONED_MICROS:
                await self.delete(removal.name)
            elif removal.status == "deleted" and idle > _LATE_MICROS:
                self._tell(removal.name)
                await self._remove(removal.name)
                await store.drop(self._db, removal.name)

    async def _remove(self, name: str) -> dict[str, int]:
        counts = dict.fromkeys(COUNTED, 0)
        loop = asyncio.get_running_loop()
        touch_at = loop.time() + _TOUCH_SECONDS
        async for kind, count in store.remove(self._db, name):
            if kind is not None:
                counts[kind] = counts.get(kind, 0) + count
            if loop.time() >= touch_at:
                touch_at = loop.time() + _TOUCH_SECONDS
                await store.touch(self._db, name, self._now())
            await asyncio.sleep(_PAUSE_SECONDS if not count else 0)
        return counts

    def _tell(self, name: str) -> None:
        self._forget(name)
        self._broadcast.broadcast(TOPIC, name.encode())


def shard_of_name(name: str, shards: int) -> int:
    """The shard whose host takes up the deletion of a namespace."""
    return ids.shard_of("", name, shards)
