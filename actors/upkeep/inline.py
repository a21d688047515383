"""The pass of one run that comes with a worker's heartbeat (contract operations 4.2)."""

from __future__ import annotations

import asyncio

from actors.upkeep.pruning import cutoff, prune_named
from store import namespaces
from store.connections.pool import Database
from store.errors import StoreError
from store.upkeep import pruning

_SECONDS = 60.0  # between two in a namespace
_MOST_NAMESPACES = 10_000


class InlinePasses:
    """Those of one node."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}  # namespace -> loop time

    async def beat(self, db: Database, namespace: str, now: int) -> dict[str, int | bool]:
        """What it did; `throttled` when there was one in this namespace a moment ago. Never raises. `now`: microseconds."""
        at = asyncio.get_running_loop().time()
        nothing = {"throttled": True, "processed": 0, "pruned": 0, "skipped": 0, "failed": 0}
        if self._next.get(namespace, 0.0) > at:
            return nothing
        if len(self._next) >= _MOST_NAMESPACES:
            self._next = {name: until for name, until in self._next.items() if until > at}
        self._next[namespace] = at + _SECONDS
        try:
            kept = await namespaces.get(db, namespace)
            if kept is None:
                return nothing
            found = await pruning.expired(db, namespace, 0, cutoff(now, kept.retention_days), 1)
            outcomes = await prune_named(db, namespace, [run_id for run_id, _ in found])
        except StoreError:
            return nothing
        kinds = [outcome.outcome for outcome in outcomes]
        return {
            "throttled": False,
            "processed": len(kinds),
            "pruned": kinds.count("pruned"),
            "skipped": kinds.count("skipped"),
            "failed": kinds.count("error"),
        }
