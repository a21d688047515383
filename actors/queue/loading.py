"""Reads the rows behind the windows of one queue: one at a time, each as often as it is asked for and not more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from actors.errors import Unavailable
from actors.queue.candidates import Found, Window
from base.observability.actions import said

_log = logging.getLogger("dw.actors")

_RETRY_SECONDS = 0.5


class Loading:
    """What is to be read from the store, and the reading."""

    def __init__(
        self,
        read: Callable[[Window, int], Awaitable[Found]],
        done: Callable[[Window, Found], None],
        failed: Callable[[Window], bool],
    ) -> None:
        """`read(window, most)` asks the store, then `done` hears the answer.

        `failed` hears that there was none, and says whether to try again.
        """
        self._read = read
        self._done = done
        self._failed = failed
        self._wanted: dict[Window, int] = {}
        self._reading: Window | None = None
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False

    def __bool__(self) -> bool:
        """Whether the store is being read."""
        return self._task is not None

    def __contains__(self, window: Window) -> bool:
        """Whether a window's rows are being read, or will be when others are done."""
        return window is self._reading or (window in self._wanted and self._retry is None)

    def want(self, window: Window, most: int, *, again: bool = False) -> None:
        """Read a window's rows soon, at most so many. `again`: also when they are being read right now."""
        if self._stopped or (window is self._reading and not again):
            return
        self._wanted[window] = most
        if self._task is None and self._retry is None:
            self._start()

    def stop(self) -> None:
        """Read nothing more; what is under way is not heard."""
        self._stopped = True
        self._wanted.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _start(self) -> None:
        self._retry = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._wanted:
                window = next(iter(self._wanted))
                await self._load(window, self._wanted.pop(window))
        except Exception as error:
            if not isinstance(error, Unavailable) and not self._stopped:
                _log.exception("reading ready tasks failed", extra=said("tasks.load_failed"))
            if self._wanted:
                self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._start)
        finally:
            self._task = None

    async def _load(self, window: Window, most: int) -> None:
        self._reading = window
        window.begin_load(most)
        try:
            found = await self._read(window, most)
        except Exception:
            self._reading = None
            window.abort_load()
            if not self._stopped and self._failed(window):
                self._wanted.setdefault(window, most)
            raise
        self._reading = None
        if not self._stopped:
            self._done(window, found)
