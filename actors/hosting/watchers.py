"""Waiting for something to happen to a run hosted here, by the id it happens to: a run's next events, an update's end."""

from __future__ import annotations

import asyncio


class Watchers:
    """Futures by the id they wait for."""

    def __init__(self) -> None:
        self._futures: dict[str, list[asyncio.Future[None]]] = {}

    def watch(self, any_id: str) -> asyncio.Future[None]:
        """A future that ends at the next `wake` of this id. Cancel it when nobody waits any more."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._futures.setdefault(any_id, [])
        waiting.append(future)

        def gone(_: asyncio.Future[None]) -> None:
            waiting.remove(future)
            if not waiting and self._futures.get(any_id) is waiting:
                del self._futures[any_id]

        future.add_done_callback(gone)
        return future

    def wake_all(self) -> None:
        """Everybody is to look what goes on: the node shuts down."""
        for any_id in list(self._futures):
            self.wake(any_id)

    def wake(self, any_id: str) -> None:
        """It happened."""
        if self._futures:
            for future in list(self._futures.get(any_id, ())):
                if not future.done():
                    future.set_result(None)
