"""What starts, drains and stops in a node, and the one contract all of it keeps.

- `start()` returns when the service works, or when it has begun to try. While it runs already, a start has no effect. A start
  that raises (or is cancelled) leaves nothing running, and may be tried again.
- `drain()` takes no new work and waits for what is in hand, for a bounded time. What keeps nothing has nothing to drain. A
  drained service still runs until it is stopped.
- `stop()` ends it: when it returns nothing of it runs, and its tasks have ended. Before a start, and a second time, it has no
  effect; of several at once all return when it has ended. A start and a stop wait for each other. After a stop it may be
  started again.

A service overrides `_start`, and where it has to `_stop` (its tasks still run) and `_stopped` (they have ended). Its tasks come
from `_spawn`: it holds them, and ends them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from base.observability.actions import said

_log = logging.getLogger("dw.node")


class Service:
    """Base of what lives as long as a node."""

    def __init__(self) -> None:
        self._life = asyncio.Lock()
        self._kept: set[asyncio.Task[Any]] = set()
        self.running = False
        self.stopping = False  # loops look at it, as some libraries swallow a cancellation

    async def start(self) -> None:
        """Begin (see the module). Raises what keeps it from starting."""
        async with self._life:
            if self.running:
                return
            self.stopping = False
            try:
                await self._start()
            except BaseException:
                self.stopping = True
                await self._end_tasks()
                await self._quietly(self._stopped())
                raise
            self.running = True

    async def drain(self) -> object:
        """Take no new work, finish what is in hand (see the module)."""

    async def stop(self) -> object:
        """End (see the module). Never raises; what goes wrong is logged."""
        async with self._life:
            if not self.running:
                return None
            self.running = False
            try:
                await self._quietly(self._stop())
            finally:
                self.stopping = True
                await self._end_tasks()
            await self._quietly(self._stopped())
            return None

    async def _start(self) -> None:
        """What a start takes; raises when it cannot be done now."""

    async def _stop(self) -> None:
        """What comes before its tasks are ended."""

    async def _stopped(self) -> None:
        """What is left when its tasks have ended; called after a start that failed, too."""

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` beside, until it ends or the service is stopped."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task

    async def _end_tasks(self) -> None:
        tasks = list(self._kept)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _quietly(self, part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        except Exception:
            name = type(self).__name__
            _log.exception("%s did not stop cleanly", name, extra=said("service.stop_failed", part=name))
