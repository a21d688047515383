"""What this node knows of drained and promoted build ids, so that a poll or a start looks it up in memory.

Every node keeps the records that say something in memory and reads what changed once a second. What it knows counts for as long
as the lease that it had when it began to read: whoever changed a record waits until every node with a lease has said that it
read it, or that long (`actors.rollout_commands`). Then no node goes by the old one, whatever became of it. Contract: operations
4.5.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from actors.clock import Clock
from actors.errors import Unavailable, one_family
from actors.queue.parked_poll import ParkedPoll
from base.service import Service
from store import rollouts
from store.connections.pool import Database
from store.errors import StoreError, StoreUnavailable
from store.rollouts import Changes, Rollout

KNOWN_SECONDS = 3.0  # at most, from the begin of the read
_REREAD_SECONDS = 1.0
_NANOS = 1_000_000_000

Cohort = tuple[str, str, str]  # namespace, task queue, build id ("": none)


class Rollouts(Service):
    """Which cohorts drain and which one of a queue is selected. As a service it reads what changed, again and again.

    `lease_left`: for how many seconds the others count this node as one of them, even if they hear nothing of it.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        super().__init__()
        self.lease_left: Callable[[], float] = lambda: KNOWN_SECONDS
        self._db = db
        self._ticks = clock.ticks
        self._known_until = 0
        self._revision = 0
        self._removals = -1
        self._draining: set[Cohort] = set()
        self._selected: dict[tuple[str, str], str] = {}
        self._held: dict[Cohort, set[ParkedPoll]] = {}
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._spawn(self._keep_reading(), name="rollouts")

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether what is in memory counts; else `confirm` it first."""
        return self._ticks() < self._known_until

    def drains(self, cohort: Cohort) -> bool:
        """Whether the cohort drains, by the last read."""
        return cohort in self._draining

    def selected(self, namespace: str, task_queue: str) -> str | None:
        """The build id that a start of now is marked with, "" for none; None when nothing is selected for the queue.

        Raises `Unavailable` while that is not certain.
        """
        if self._ticks() >= self._known_until:
            raise Unavailable("the rollouts of build ids are being read")
        return self._selected.get((namespace, task_queue))

    async def confirm(self) -> None:
        """Have it known again. Raises `Unavailable` when that cannot be now."""
        if not self.known:
            with one_family():
                await self.reread()
            if not self.known:
                raise Unavailable("this node has no lease, or the database is slow")

    async def reread(self) -> None:
        """Read what changed: what was committed before this call is known when it returns. Raises `StoreError`."""
        reading = self._next
        if reading is None or reading.done():
            reading = self._next = self._spawn(self._read(), name="rollouts read")
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Several share a read that has not begun; none of them ends it for the others.
        await asyncio.wait([reading])
        if reading.cancelled():
            raise StoreUnavailable("the node is leaving")
        reading.result()

    async def _read(self) -> None:
        async with self._reading:
            self._next = None
            until = self._ticks() + int(min(self.lease_left(), KNOWN_SECONDS) * _NANOS)
            self._learn(await rollouts.since(self._db, self._revision, self._removals))
            self._known_until = max(self._known_until, until)

    async def _keep_reading(self) -> None:
        while True:
            with contextlib.suppress(StoreError):
                await self.reread()
            await asyncio.sleep(_REREAD_SECONDS)

    def _learn(self, changes: Changes) -> None:
        before = self._draining
        self._revision, self._removals = changes.revision, changes.removals
        draining = set() if changes.whole else set(before)
        if changes.whole:
            self._selected = {}
        elif not changes.rows:
            return
        for row in sorted(changes.rows, key=lambda row: row.selected):
            self._take(row, draining)
        self._draining = draining
        for cohort in before ^ draining:
            for parked in list(self._held.get(cohort, ())):
                parked.abandon()

    def _take(self, row: Rollout, draining: set[Cohort]) -> None:
        queue = row.namespace, row.task_queue
        cohort = (*queue, row.build_id)
        if row.drained_at is None:
            draining.discard(cohort)
        else:
            draining.add(cohort)
        if row.selected:
            self._selected[queue] = row.build_id
        elif self._selected.get(queue) == row.build_id:
            del self._selected[queue]

    # -- polls that wait -----------------------------------------------------------------------------------------------

    def hold(self, cohort: Cohort, parked: ParkedPoll) -> None:
        """This poll of a worker of the cohort waits: it is abandoned, whatever it got, when the cohort drains or is resumed."""
        held = self._held.get(cohort)
        if held is None:
            held = self._held[cohort] = set()
        held.add(parked)

    def let_go(self, cohort: Cohort, parked: ParkedPoll) -> None:
        """It waits no longer."""
        held = self._held.get(cohort)
        if held is not None:
            held.discard(parked)
            if not held:
                del self._held[cohort]
