"""Drain, resume and promote a build id: committed, then known to every node before it is answered (contract operations 4.5).

After an answer no node gives a task to a worker of a drained cohort, and each start is marked with the promoted build id: every
node whose lease runs is asked to read what changed. What a node that does not answer knows counts no more after
`KNOWN_SECONDS`, and what one without a lease knows not at all, so the wait is no longer than that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from actors.clock import Clock
from actors.cluster.protocol import AskReread
from actors.cluster.router import Router
from actors.errors import Unavailable
from actors.workers.cohorts import Operation, decided
from actors.workers.rollouts import KNOWN_SECONDS, Rollouts
from base.observability.actions import said
from store import rollouts
from store.cluster import nodes
from store.connections.pool import Database
from store.errors import StoreError
from store.rollouts import Rollout

_log = logging.getLogger("dw.actors")

_MARGIN_SECONDS = 0.1
_ANSWER_SECONDS = 1.0  # after that a node is asked once more
_PAUSE_SECONDS = 0.2


class RolloutCommands:
    """Changes the records of build ids and sees to it that all nodes go by them."""

    def __init__(self, db: Database, known: Rollouts, router: Router, clock: Clock) -> None:
        """`known`: what this node goes by."""
        self._db = db
        self._known = known
        self._router = router
        self._clock = clock

    async def change(self, operation: Operation, namespace: str, task_queue: str, build_id: str) -> Rollout:
        """The cohort's record after the operation; `build_id` "" is the cohort of workers without one.

        Raises `StoreError` when it is not known whether it is stored. It may be sent again.
        """
        now = self._clock.now()
        after = Rollout(namespace, task_queue, build_id)

        def decide(rows: Sequence[Rollout]) -> Sequence[Rollout]:
            nonlocal after
            after, changed = decided(operation, rows, namespace, task_queue, build_id, now)
            return changed

        await rollouts.change(self._db, namespace, task_queue, decide)
        await self._spread()
        return after

    async def _spread(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + KNOWN_SECONDS + _MARGIN_SECONDS
        try:
            others = set(await nodes.living(self._db)) - {self._router.node_id}
        except StoreError:
            await asyncio.sleep(until - loop.time())
            return
        await asyncio.gather(self._reread_here(until), *(self._reread_at(node, until) for node in sorted(others)))

    async def _reread_here(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            try:
                await self._known.reread()
                return
            except StoreError:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _reread_at(self, node_id: str, until: float) -> None:
        loop = asyncio.get_running_loop()
        while (left := until - loop.time()) > 0:
            try:
                if await self._router.ask_node(node_id, AskReread(), min(left, _ANSWER_SECONDS)) is not None:
                    return
            except Unavailable:
                pass
            await asyncio.sleep(min(_PAUSE_SECONDS, left))
        _log.warning(
            "node %s did not say that it knows a change of build ids; what it knew before does not count any more",
            node_id,
            extra=said("rollout.unconfirmed", peer=node_id),
        )
