"""Times as the HTTP surface writes them, from microseconds since the Unix epoch (control-plane "ts" and "ts0")."""

from __future__ import annotations

import time

from actors.run.times import iso as ts
from actors.run.times import iso_or_none as ts_or_none
from actors.run.times import iso_seconds as ts0

__all__ = ["now_micros", "now_seconds_z", "ts", "ts0", "ts0_or_none", "ts_or_none"]


def now_micros() -> int:
    """The present by this machine's own clock; what is compared with stored times goes by `Services.clock`."""
    return time.time_ns() // 1000


def ts0_or_none(micros: int | None) -> str | None:
    """`ts0` (`2026-05-01T09:00:00+00:00`), or None for None."""
    return None if micros is None else ts0(micros)


def now_seconds_z() -> str:
    """The present as `2026-05-01T09:00:00Z`, the form of health and readiness (control-plane 3.1)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
