"""Recorded events of a run: rows of batches, one serialized event per line. Written by `store.commit` only."""

from __future__ import annotations

from store.pool import Database


async def load(db: Database, run_id: str, after: int = 0, upto: int | None = None) -> list[bytes]:
    """The serialized events with `after` < sequence <= `upto` (None: to the end), ascending, without gaps."""
    rows = await db.fetch(
        "SELECT first_sequence, body FROM history"
        " WHERE run_id = $1 AND last_sequence > $2 AND first_sequence <= $3 ORDER BY first_sequence",
        run_id,
        after,
        _LAST if upto is None else upto,
    )
    events: list[bytes] = []
    for first, body in ((row[0], row[1]) for row in rows):
        lines = body.split(b"\n")
        begin = max(0, after + 1 - first)
        end = len(lines) if upto is None else min(len(lines), upto + 1 - first)
        events += lines[begin:end]
    return events


async def total(db: Database, run_id: str) -> int:
    """The number of events recorded, which is the sequence of the last one."""
    return int(await db.fetchval("SELECT coalesce(max(last_sequence), 0) FROM history WHERE run_id = $1", run_id))


_LAST = 2**63 - 1
