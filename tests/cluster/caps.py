"""What caps are judged by: the leases that runs really have at each moment, and the places that stand in the table."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import asyncpg

from actors.run.state import RunState, decode
from actors.run.values import Permit
from tests.support.services import Deployment

Lease = tuple[str, str, str]  # namespace, queue, kind

# One statement, so one moment: states and places cannot disagree.
_LOOK = """
SELECT (SELECT array_agg(state) FROM runs WHERE closed_at IS NULL) AS states,
    ARRAY(SELECT (scope || '#' || number) FROM admission_permits) AS places
"""


def leases_of(state: RunState) -> list[Lease]:
    """The tasks of a run that workers have."""
    found: list[Lease] = []
    if state.is_open:
        task = state.task
        if task is not None and task.status == "leased":
            found.append((state.namespace, state.task_queue, "workflow"))
        found += [(state.namespace, each.queue, "activity") for each in state.activities.values() if each.status == "running"]
    return found


class LeaseWatch:
    """Looks at all live leases again and again. `most`: the highest count of each kind of lease; `looks`: how often."""

    def __init__(self, place: Deployment) -> None:
        self.most: Counter[Lease] = Counter()
        self.most_of_kind: Counter[tuple[str, str]] = Counter()
        self.looks = 0
        self.wrong: list[str] = []
        self.places: list[Permit] = []
        self.seen: list[tuple[float, int]] = []
        self._place = place
        self._connection: Any = None
        self._one = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LeaseWatch:
        self._connection = await asyncpg.connect(self._place.dsn)
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._connection.close()

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.02)

    async def look(self) -> None:
        """One moment: count, and compare what runs hold with the table."""
        async with self._one:
            row = await self._connection.fetchrow(_LOOK)
        states = [decode(state) for state in row[0] or []]
        counts = Counter(lease for state in states for lease in leases_of(state))
        kinds: Counter[tuple[str, str]] = Counter()
        for (namespace, _, kind), count in counts.items():
            kinds[namespace, kind] += count
        self.most |= counts
        self.most_of_kind |= kinds
        self.looks += 1
        self.seen.append((time.monotonic(), sum(counts.values())))
        self.places = [Permit(scope, int(number)) for scope, _, number in (each.rpartition("#") for each in row[1])]
        held = sorted((p.scope, p.number) for state in states for each in state.permits.values() for p in each)
        there = sorted((p.scope, p.number) for p in self.places if p.ends)
        if held != there:
            self.wrong.append(f"runs hold {held}, the table says {there}")

    @property
    def leased_places(self) -> list[Permit]:
        """Places of leases, at the last look."""
        return [place for place in self.places if place.ends]
