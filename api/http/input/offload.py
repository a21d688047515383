"""Work whose length a client decides is done beside the event loop, one piece after the other.

The thread shares the interpreter with the loop, so what runs here must be made of short steps: Python code is interrupted
for the loop every millisecond, one call into C is not.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

# Bytes of JSON that are read on the loop: at most some milliseconds, whatever they hold.
LONG = 64 * 1024

T = TypeVar("T")

_SWITCH_SECONDS = 0.001

_readers: list[ThreadPoolExecutor] = []


async def for_size(size: str | bytes, work: Callable[..., T], *arguments: Any) -> T:
    """What `work(*arguments)` makes of something as long as `size`: on the loop what is short, else beside it."""
    return work(*arguments) if len(size) <= LONG else await off_loop(work, *arguments)


async def off_loop(work: Callable[..., T], *arguments: Any) -> T:
    """What `work(*arguments)` returns or raises; the loop goes on meanwhile."""
    if not _readers:
        sys.setswitchinterval(_SWITCH_SECONDS)
        _readers.append(ThreadPoolExecutor(1, "reader"))
    return await asyncio.get_running_loop().run_in_executor(_readers[0], partial(work, *arguments))
