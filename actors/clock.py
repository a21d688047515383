"""The time a node goes by: the database's, carried on by this machine's monotonic clock between two readings of it.

All nodes follow one clock, so that none of them is ahead for runs it shares with others, and no jump of a machine's own clock
fires a timer. Each heartbeat reads the database's clock, which bounds ours by the time the answer took (Cristian): as long as
ours is within these bounds it is left alone, else it is brought to the nearer one. A machine's own clock only says where to
begin; one that differs by more than a bound is named in the log and in readiness, and has no other effect.

The database's clock may itself jump. Back: followed at once (`actors.run.setback`). Ahead, by more than the bound and without
this machine's own clock saying the same: followed when several readings in a row agree, as what has fired stays so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from actors.run.times import Micros
from base.observability.actions import said

_log = logging.getLogger("dw.actors")

_CONVINCING_READINGS = 3
_LEAST_STEP = 1_000_000  # nanoseconds; callers hear of corrections from here on
_NANOS = 1_000_000_000


def _ticks() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)  # goes on while a machine sleeps


class Clock:
    """One node's time in microseconds since the Unix epoch.

    `wall` and `ticks` give nanoseconds: this machine's own time and its monotonic one. `bound_seconds`: see above.
    """

    def __init__(
        self, bound_seconds: float = 5.0, wall: Callable[[], int] = time.time_ns, ticks: Callable[[], int] = _ticks
    ) -> None:
        self.ticks = ticks
        self.skew_seconds = 0.0
        self._bound = int(bound_seconds * _NANOS)
        self._wall = wall
        self._offset = wall() - ticks()
        self._measured = False
        self._doubted = 0
        self._on_step: list[Callable[[int], None]] = []

    def now(self) -> Micros:
        """The present."""
        return (self.ticks() + self._offset) // 1000  # type: ignore[return-value]  # a cast would be a call more

    @property
    def skewed(self) -> bool:
        """Whether this machine's own clock differs from the database's by more than the bound.

        `skew_seconds` says by how much it is ahead, at least.
        """
        return abs(self.skew_seconds) * _NANOS > self._bound

    def on_step(self, call: Callable[[int], None]) -> None:
        """Have `call(microseconds)` called whenever `now` has moved otherwise than by time passing; below 0: back."""
        self._on_step.append(call)

    def observe(self, database: int, sent: int) -> None:
        """The database's clock was read: it said `database` (microseconds) between `sent`, by `ticks`, and now."""
        received = self.ticks()
        low, high = database * 1000 - received, database * 1000 + 1000 - sent
        own = self._wall() - received
        skew = own - min(max(own, low), high)
        offset = min(max(self._offset, low), high)
        step = offset - self._offset
        if self._measured and step > self._bound < abs(skew):
            self._doubted += 1
            if self._doubted < _CONVINCING_READINGS:
                return
        self._doubted = 0
        self._offset = offset
        noted = self._note(skew / _NANOS)
        if self._measured and abs(step) > self._bound and not noted:
            _log.warning(
                "the database's clock went %.1f s %s, followed",
                abs(step) / _NANOS,
                "ahead" if step > 0 else "back",
                extra=said("clock.stepped", seconds=round(step / _NANOS, 3)),
            )
        self._measured = True
        if abs(step) >= _LEAST_STEP:
            for call in self._on_step:
                call(step // 1000)

    def _note(self, skew_seconds: float) -> bool:
        before = self.skewed
        self.skew_seconds = skew_seconds
        if self.skewed == before:
            return False
        if self.skewed:
            _log.warning("%s", self.complaint(), extra=said("clock.skewed"))
        else:
            _log.info("the clock of this machine agrees with the database's again", extra=said("clock.agrees"))
        return True

    def complaint(self) -> str:
        """What readiness and the log say of a skewed clock."""
        where = "ahead of" if self.skew_seconds > 0 else "behind"
        return f"the clock of this machine is {abs(self.skew_seconds):.1f} s {where} the database's, which is followed"
