"""Recorded events of a run: rows of batches, one serialized event per line. Written by `store.commit.group` only."""

from __future__ import annotations

from dataclasses import dataclass

from store.connections.pool import Database


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


async def batches(db: Database, run_id: str, after: int, most_bytes: int) -> list[bytes]:
    """The next events behind `after`, the last of a batch or 0: whole batches as they were recorded, none read twice.

    About `most_bytes`, at least a batch (of 2 MiB and a little at most, what one request can bring); none: that was all.
    """
    rows = await db.fetch(
        "SELECT body FROM (SELECT first_sequence, body, sum(octet_length(body)) OVER (ORDER BY first_sequence) AS upto FROM ("
        "  SELECT first_sequence, body FROM history WHERE run_id = $1 AND first_sequence > $2 ORDER BY first_sequence LIMIT 100"
        ") AS batch) AS sized WHERE upto - octet_length(body) < $3 ORDER BY first_sequence",
        run_id,
        after,
        most_bytes,
    )
    return [line for row in rows for line in row[0].split(b"\n")]


@dataclass(frozen=True, slots=True)
class Page:
    """Events of a run, and what a reader of them must know of the run."""

    namespace: str
    workflow_id: str
    status: str
    last_sequence: int
    events: list[bytes]


async def page(db: Database, run_id: str, after: int, limit: int) -> Page | None:
    """Up to `limit` events behind `after`, in one look; None when there is no such run."""
    row = await db.fetchrow(
        "SELECT r.namespace, r.workflow_id, r.status, r.last_sequence, h.first, h.bodies FROM runs r, LATERAL ("
        " SELECT min(first_sequence) AS first, array_agg(body ORDER BY first_sequence) AS bodies FROM history"
        " WHERE run_id = $1 AND last_sequence > $2 AND first_sequence <= $3) h WHERE r.run_id = $1",
        run_id,
        after,
        after + limit,
    )
    if row is None:
        return None
    namespace, workflow_id, status, last, first, bodies = row
    lines = [line for body in bodies or () for line in body.split(b"\n")]
    skip = max(0, after + 1 - first) if lines else 0
    return Page(namespace, workflow_id, status, last, lines[skip : skip + limit])


async def total(db: Database, run_id: str) -> int:
    """The number of events recorded, which is the sequence of the last one."""
    return int(await db.fetchval("SELECT coalesce(max(last_sequence), 0) FROM history WHERE run_id = $1", run_id))


_LAST = 2**63 - 1
