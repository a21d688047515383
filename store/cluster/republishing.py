"""What is to be published to the event stream again, shard by shard, and which stream the deployment published to last.

Times are microseconds since the epoch, by the database's clock where they are taken here.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from store.connections.pool import Database

_LOCK = 0x6477_6573  # advisory lock of who judges the stream
_REPAIR_LOCK = 0x6477_6574  # and of who repairs it, which takes longer
_AWAY = 60_000_000  # a stream not seen for longer, while another one was, has missed events
_FRESH = 4_000_000  # a sighting this young is not written again
_KEPT = 10  # identities remembered

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::int8"


@dataclass(frozen=True, slots=True)
class Job:
    """Events recorded since `since` in runs with `after_run` < id < `upto_run`, in `namespace` or all (None).

    `job` is another one when what is asked for changed.
    """

    job: str
    since: int
    upto_run: str
    namespace: str | None
    after_run: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Why events are missing in the stream, and which are published again: those since `since` (None: none)."""

    reason: str
    since: int | None


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of all runs: those to publish again, the last id looked at ("" at the end of all runs)."""

    run_ids: list[str]
    reached: str


async def last_seen(db: Database) -> dict[str, int]:
    """How far each stream seen so far is known to have gone, by its identity."""
    return {row[0]: row[1] for row in await db.fetch("SELECT created, last_sequence FROM event_streams")}


async def note_stream(
    db: Database, created: str, last_sequence: int, known_before: int, acked: int, window: int, bound: Callable[[int], str]
) -> Loss | None:
    """Remember that the stream stands at `last_sequence`; when it has lost events, ask for them to be published again.

    Before it was asked where it stands, `known_before` was what `last_seen` said of it (else 0), and `acked` the sequence of an
    event it had stored (else 0). What was recorded up to `window` before the loss is asked for (0: nothing); `bound(time)` is
    an id between those of the runs begun before and after it. Of several nodes one is told of a loss.
    """
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        at = int(await connection.fetchval(f"SELECT {_NOW}"))
        found = await connection.fetch("SELECT created, last_sequence, seen_at FROM event_streams")
        rows = {row[0]: (row[1], row[2]) for row in found}
        known = rows.pop(created, None)
        elsewhere = max((seen for _, seen in rows.values()), default=None)
        reason, since = "", 0
        if known is None:
            if elsewhere is not None:
                reason, since = "it is a new one", elsewhere - window
        elif last_sequence < acked or last_sequence < known[0] <= known_before:
            reason, since = "its end is lost", known[1] - window
        elif elsewhere is not None and elsewhere > known[1] + _AWAY:
            reason, since = "another one was used meanwhile", max(known[1] - _AWAY, elsewhere - window)
        elif at - known[1] < _FRESH:
            return None
        await connection.execute(
            "INSERT INTO event_streams AS e (created, last_sequence, seen_at) VALUES ($1, $2, $3) ON CONFLICT (created)"
            " DO UPDATE SET last_sequence = CASE WHEN $4 THEN $2 ELSE greatest(e.last_sequence, $2) END, seen_at = $3",
            created,
            last_sequence,
            at,
            bool(reason),
        )
        await connection.execute(
            "DELETE FROM event_streams WHERE created NOT IN (SELECT created FROM event_streams ORDER BY seen_at DESC LIMIT $1)",
            _KEPT,
        )
        if not reason:
            return None
        if window:
            await _ask(connection, since, bound(at), None)
        return Loss(reason, since if window else None)


async def ask(db: Database, since: int, bound: Callable[[int], str], namespace: str | None = None) -> None:
    """Ask the nodes to publish the events recorded since `since` again, of one namespace or of all."""
    async with db.transaction() as connection:
        await _ask(connection, since, bound(int(await connection.fetchval(f"SELECT {_NOW}"))), namespace)


async def runs_since(db: Database, since: int, namespace: str | None) -> int:
    """How many runs changed since then."""
    return int(
        await db.fetchval(
            "SELECT count(*) FROM runs WHERE last_progress_at >= $1 AND ($2::text IS NULL OR namespace = $2)", since, namespace
        )
    )


async def _ask(connection: Any, since: int, upto_run: str, namespace: str | None) -> None:
    # What is asked for twice is done once, from the beginning, for all that either asked for.
    await connection.execute(
        "INSERT INTO republishing AS r (shard, job, since, upto_run, namespace) SELECT shard, $1, $2, $3, $4 FROM shards"
        " ORDER BY shard ON CONFLICT (shard) DO UPDATE SET job = $1, since = least(r.since, $2),"
        " upto_run = greatest(r.upto_run, $3), after_run = '',"
        " namespace = CASE WHEN r.namespace = $4 THEN r.namespace END",
        secrets.token_hex(8),
        since,
        upto_run,
        namespace,
    )


async def jobs(db: Database) -> dict[int, Job]:
    """What is still to be done, by shard."""
    found = await db.fetch("SELECT shard, job, since, upto_run, namespace, after_run FROM republishing")
    return {row[0]: Job(row[1], row[2], row[3], row[4], row[5]) for row in found}


async def runs_after(db: Database, shards: Sequence[int], after: str, limit: int) -> Slice:
    """Which of the next `limit` runs behind `after` (of all shards) are to be published again by who hosts `shards`."""
    row = await db.fetchrow(
        "WITH slice AS MATERIALIZED ("
        "  SELECT run_id, shard, namespace, last_progress_at FROM runs WHERE run_id > $2 ORDER BY run_id LIMIT $3"
        ") SELECT (SELECT count(*) FROM slice), (SELECT max(run_id) FROM slice), ARRAY("
        "  SELECT s.run_id FROM slice s JOIN republishing r ON r.shard = s.shard WHERE s.shard = ANY ($1)"
        "  AND s.run_id > r.after_run AND s.run_id < r.upto_run AND s.last_progress_at >= r.since"
        "  AND (r.namespace IS NULL OR r.namespace = s.namespace) ORDER BY s.run_id)",
        list(shards),
        after,
        limit,
    )
    assert row is not None
    return Slice(list(row[2]), row[1] if row[0] == limit else "")


async def advance(db: Database, done: Mapping[int, str], reached: str) -> None:
    """The shards' jobs (`done`: shard -> job) are done up to the run `reached`, or altogether (""). Never goes back."""
    shards, jobs_of = list(done), list(done.values())
    matching = "FROM unnest($1::int4[], $2::text[]) AS d(shard, job) WHERE r.shard = d.shard AND r.job = d.job"
    if reached:
        await db.execute(
            f"UPDATE republishing r SET after_run = $3 {matching} AND r.after_run < $3 AND r.upto_run > $3",
            shards,
            jobs_of,
            reached,
        )
        await db.execute(f"DELETE FROM republishing r USING {matching[5:]} AND r.upto_run <= $3", shards, jobs_of, reached)
    else:
        await db.execute(f"DELETE FROM republishing r USING {matching[5:]}", shards, jobs_of)


@asynccontextmanager
async def repair_lock(db: Database) -> AsyncIterator[bool]:
    """Whether the lock of the one node that repairs the stream was free, and is held inside the block.

    It is held for long, by a connection of its own: the pool of `db` is for others.
    """
    own = Database(db.dsn, size=1)
    await own.start()
    try:
        async with own.transaction() as connection:
            yield bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _REPAIR_LOCK))
    finally:
        await own.stop()
