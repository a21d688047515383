"""Notices when nothing is stored in a stream any more although NATS is connected, and says so once.

What nats-server 2.10 to 2.15 does when it can not write: a stream of one replica is closed for writing. From then on every
publish stays without an answer while everything else goes on as ever, also when there is space again: only a restart of that
server opens it, or a stream made anew. With replicas another server leads on. Older servers switch JetStream off altogether,
until a restart as well. Limits of the stream or the server are told in negative answers instead, and end by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from base.observability.actions import said

_log = logging.getLogger("dw.bus")

GRACE_SECONDS = 3.0


class Standstill:
    """From when on, and why. `reason` is None while things go well; one line is logged when that changes."""

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._what = what
        self._clock = clock
        self.reason: str | None = None
        self.answer = ""  # the last negative answer since something was stored
        self.silent = False  # whether NATS answers but stores nothing and does not say why
        self._since = 0.0
        self._progress = 0.0

    def progressed(self) -> None:
        """Something was stored, or began to wait for it while nothing was amiss."""
        self._progress = self._clock()
        self.answer = ""
        if self.reason is not None:
            _log.warning(
                "%s works again, after %d s",
                self._what,
                self._clock() - self._since,
                extra=said("stream.works", part=self._what, seconds=round(self._clock() - self._since)),
            )
            self.reason = None
            self.silent = False

    def waits(self) -> None:
        """Something begins to wait."""
        if self.reason is None:
            self._progress = self._clock()

    def due(self) -> bool:
        """Whether what waits has waited too long without this being said."""
        return self.reason is None and self._clock() - self._progress > GRACE_SECONDS

    @property
    def seconds(self) -> float:
        """How long nothing has been stored; 0.0 while things go well."""
        return 0.0 if self.reason is None else self._clock() - self._progress

    def begin(self, reason: str, *, silent: bool) -> None:
        """Nothing is stored any more."""
        self.reason, self.silent = reason, silent
        self._since = self._progress
        _log.warning("%s stands still: %s", self._what, reason, extra=said("stream.stands_still", part=self._what))
