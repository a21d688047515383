"""Two nodes that ask each other, without the rest of a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from actors.queue.matching import QueuedTask
from actors.run.replies import ActivityTaskGrant
from bus.ask import Ask
from bus.connection import Bus

MakeAsk = Callable[[str], Awaitable[tuple[Bus, Ask]]]


class Parking:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.parked: list[asyncio.Future[bytes]] = []

    def __call__(self, _payload: bytes) -> asyncio.Future[bytes]:
        self.parked.append(asyncio.get_running_loop().create_future())
        return self.parked[-1]

    async def wait_for(self, count: int) -> None:
        """Until so many asks came."""
        async with asyncio.timeout(20):
            while True:
                if len(self.parked) >= count:
                    return
                await asyncio.sleep(0.005)


async def soon(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition that comes true by itself."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def task(task_id: str = "task") -> QueuedTask:
    return QueuedTask(task_id, "echo", None, 5, time.time_ns() // 1000 - 1)


def grant(task_id: str = "task", attempt: int = 1) -> ActivityTaskGrant:
    return ActivityTaskGrant(
        task_id, "w", "run", "execution", "attempt", attempt, "echo", "avro", b"", None, "queue", None, "worker", 0
    )
