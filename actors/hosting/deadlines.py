"""Wakes runs and schedules when a deadline of theirs is due: a heap for the near future, the `wake_at` columns for the rest.

The heap is filled by commits made here and by a periodic look into the store, which also finds what others changed, what was
evicted and what a dead node left behind (architecture, rule 6).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from actors.run.times import Micros

HORIZON_SECONDS = 90


K = TypeVar("K")


class DeadlineQueue(Generic[K]):
    """Deadlines by run key, or by the key of a schedule. `fire(key)` is called once for each that passes."""

    def __init__(self, fire: Callable[[K], None], now: Callable[[], Micros]) -> None:
        """`now` in microseconds; `stepped` must be called when it moved otherwise than by time passing."""
        self._fire = fire
        self._now = now
        self._heap: list[tuple[int, K]] = []
        self._at: dict[K, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    def set(self, key: K, at: int | None, now: Micros) -> None:
        """Its earliest deadline is now `at` microseconds; None for none, far ones are left to the store."""
        if at is None or at > now + HORIZON_SECONDS * 1_000_000:
            self._at.pop(key, None)
            return
        if self._at.get(key) == at:
            return
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if self._timer is None or at < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        heap = self._heap
        while heap and self._at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        if heap:
            self._timer_at = heap[0][0]
            delay = max(self._timer_at - self._now(), 0) / 1e6
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._now()
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, key = heapq.heappop(heap)
            if self._at.get(key) == at:
                del self._at[key]
                self._fire(key)
        self._arm()

    def stepped(self) -> None:
        """The clock went back or ahead: what is awaited comes later or sooner by that."""
        if self._heap:
            self._arm()

    def stop(self) -> None:
        """Forget everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()
        self._at.clear()
