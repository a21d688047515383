"""Ids the HTTP surface makes up itself: ULIDs that belong to no run."""

from __future__ import annotations

import secrets

from actors.run import ids
from api.http.times import now_micros


def new_ulid() -> str:
    """A fresh lower-case ULID (10 characters time, 16 random)."""
    tail = "".join(secrets.choice(ids.ALPHABET) for _ in range(16))
    return ids.mint(now_micros() // 1000, ids.RunKey(tail[:15]), tail[15])
