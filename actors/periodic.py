"""Work that is done again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from base.observability.actions import said
from store.errors import StoreUnavailable

_log = logging.getLogger("dw.actors")


async def every(seconds: float, work: Callable[[], object]) -> None:
    """Run `await work()` again and again, with a pause of `seconds`; a failure is logged and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            result = work()
            if asyncio.iscoroutine(result):
                await result
        except StoreUnavailable:
            pass
        except Exception:
            _log.exception("periodic work failed", extra=said("maintenance.failed"))
