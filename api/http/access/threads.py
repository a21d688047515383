"""Threads for calls that may block, of which none can keep the process from ending."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any


class Threads:
    """At most `most` threads, started when there is work for them. Used from one event loop."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._started = 0
        self._unfinished = 0
        self._jobs: queue.SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = queue.SimpleQueue()

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises. Who stops waiting does not stop it, if it has begun; else it never begins."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._unfinished += 1
        self._jobs.put((future, work))
        if self._started < min(self._most, self._unfinished):
            self._started += 1
            threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True).start()
        value, fault = await future
        if fault is not None:
            raise fault
        return value

    def _serve(self) -> None:
        while True:
            future, work = self._jobs.get()
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = (None, None) if future.cancelled() else (work(), None)
            except BaseException as fault:  # even an exit is the caller's to judge
                outcome = (None, fault)
            try:
                future.get_loop().call_soon_threadsafe(self._finished, future, outcome)
            except RuntimeError:  # the loop is closed
                return

    def _finished(self, future: asyncio.Future[Any], outcome: tuple[Any, BaseException | None]) -> None:
        self._unfinished -= 1
        if not future.done():
            future.set_result(outcome)
