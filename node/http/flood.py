"""Log lines that strangers can cause: one at once, then one a minute that counts the others."""

from __future__ import annotations

import logging
import time

from base.observability.actions import said

INTERVAL_SECONDS = 60.0


class Flood:
    """What happens often is logged seldom. `what` is the plural of what is counted."""

    def __init__(self, log: logging.Logger, what: str, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.total = 0
        self._log = log
        self._what = what
        self._interval = interval_seconds
        self._unsaid = 0
        self._last = ""
        self._next = 0.0

    def note(self, detail: str) -> None:
        """It happened again; `detail` is logged unless a line was written within the interval."""
        self.total += 1
        self._unsaid += 1
        self._last = detail
        self.flush()

    def flush(self) -> None:
        """Log what was not said yet, once the interval is over."""
        if not self._unsaid or (now := time.monotonic()) < self._next:
            return
        self._next = now + self._interval
        unsaid, self._unsaid = self._unsaid, 0
        self._log.warning(
            "%s: %d (%d since the start), the last: %s",
            self._what,
            unsaid,
            self.total,
            self._last,
            extra=said("http.flood", part=self._what, count=unsaid),
        )
