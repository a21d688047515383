"""Runs as stored. Written by `store.commit.group`, but for the mark of what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.columns import Int4, Int8, JsonText, Table, listed
from store.commit.writes import RunIdentity, RunRow
from store.connections.pool import Database, Row

_NOT_YET = 60_000_000  # microseconds after "now" that no clock is ahead unless it is wrong


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A whole run row. `row.search_attributes` and `identity.search_attributes` both hold the present attributes."""

    run_id: str
    version: int
    identity: RunIdentity
    row: RunRow


@dataclass(frozen=True, slots=True)
class RunItem:
    """What lists show of a run (control-plane 5.3, 5.5). `search_attributes` is a serialized JSON object."""

    run_id: str
    namespace: str
    workflow_id: str
    run_number: Int4
    workflow_type: str
    task_queue: str | None
    business_key: str | None
    compatibility: str | None
    status: str
    closed_reason: str | None
    started_at: Int8
    closed_at: Int8 | None
    last_progress_at: Int8
    search_attributes: JsonText


_ATTRIBUTES = "search_attributes"
ITEMS = Table(RunItem)
_IDENTITY, _ROW = Table(RunIdentity).all_but(_ATTRIBUTES), Table(RunRow).all_but(_ATTRIBUTES)  # both end with them
_SELECT = f"SELECT run_id, version, {listed(_IDENTITY)}, {listed(_ROW)}, {_ATTRIBUTES} FROM runs"


async def load(db: Database, run_id: str) -> StoredRun | None:
    """The run with this id; None when there is none."""
    row = await db.fetchrow(f"{_SELECT} WHERE run_id = $1", run_id)
    return None if row is None else _stored(row)


async def load_all(db: Database, run_ids: Sequence[str]) -> dict[str, StoredRun]:
    """Those of these runs that there are, by id."""
    rows = await db.fetch(f"{_SELECT} WHERE run_id = ANY ($1)", list(run_ids))
    return {row[0]: _stored(row) for row in rows}


async def load_by_key(db: Database, run_key: str) -> StoredRun | None:
    """The run whose ids carry this key; None when there is none."""
    row = await db.fetchrow(f"{_SELECT} WHERE run_key = $1", run_key)
    return None if row is None else _stored(row)


async def states(db: Database, run_ids: Sequence[str]) -> dict[str, bytes]:
    """The states of those of these runs that exist, by run id."""
    rows = await db.fetch("SELECT run_id, state FROM runs WHERE run_id = ANY ($1)", list(run_ids))
    return {row[0]: row[1] for row in rows}


async def version(db: Database, run_id: str) -> int | None:
    """The version a compare-and-set must expect now; None when there is no such run."""
    found = await db.fetchval("SELECT version FROM runs WHERE run_id = $1", run_id)
    return None if found is None else int(found)


async def due(db: Database, shards: Sequence[int], until: int, limit: int) -> list[tuple[str, int, int]]:
    """(run_id, shard, wake_at) of the runs in these shards with a deadline up to `until`, earliest first."""
    rows = await db.fetch(
        "SELECT d.run_id, d.shard, d.wake_at FROM unnest($1::int4[]) AS s(shard), LATERAL ("
        "  SELECT m.run_id, m.shard, m.wake_at FROM run_marks m"
        "  WHERE m.shard = s.shard AND m.wake_at <= $2 ORDER BY m.wake_at LIMIT $3"
        ") d ORDER BY d.wake_at, d.run_id LIMIT $3",
        list(shards),
        until,
        limit,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def awaited(db: Database, shard: int, after: tuple[int, str], limit: int) -> list[tuple[str, int, int]]:
    """(run_id, wake_at, last_progress_at) of the runs of a shard whose (deadline, id) comes after `after`, in that order."""
    rows = await db.fetch(
        "SELECT m.run_id, m.wake_at, r.last_progress_at FROM ("
        "  SELECT run_id, wake_at FROM run_marks WHERE shard = $1 AND wake_at >= $2 AND (wake_at, run_id) > ($2, $3)"
        "  ORDER BY wake_at, run_id LIMIT $4"
        ") m JOIN runs r USING (run_id) ORDER BY m.wake_at, m.run_id",
        shard,
        *after,
        limit,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def unpublished(db: Database, shards: Sequence[int], older_than: int, limit: int) -> list[tuple[str, int, int]]:
    """(run_id, published_sequence, last_sequence) of runs with events not marked as published, idle since `older_than`.

    Those that were changed by a clock that was far ahead count as idle.
    """
    rows = await db.fetch(
        "SELECT run_id, published_sequence, last_sequence FROM run_marks JOIN runs USING (run_id)"
        " WHERE run_marks.shard = ANY ($1) AND unpublished AND published_sequence < last_sequence"
        f" AND (last_progress_at < $2 OR last_progress_at > $2 + {_NOT_YET})"
        " LIMIT $3",
        list(shards),
        older_than,
        limit,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def mark_published(db: Database, marks: Sequence[tuple[str, int]]) -> None:
    """Remember up to which sequence each run's events were published. Never lowers a mark, leaves the version alone."""
    if not marks:
        return
    ordered = sorted(marks)  # the order group commits lock in
    await db.execute(
        "WITH marked AS ("
        "  UPDATE runs r SET published_sequence = u.sequence FROM unnest($1::text[], $2::int8[]) AS u(run_id, sequence)"
        "  WHERE r.run_id = ANY (ARRAY[u.run_id]) AND r.published_sequence < u.sequence"
        "  RETURNING r.run_id, r.published_sequence < r.last_sequence AS unpublished"
        ") UPDATE run_marks m SET unpublished = u.unpublished FROM marked u WHERE m.run_id = ANY (ARRAY[u.run_id])",
        [run_id for run_id, _ in ordered],
        [sequence for _, sequence in ordered],
    )


async def of_instance(db: Database, namespace: str, workflow_id: str) -> list[RunItem]:
    """All runs of a workflow id by ascending run number; empty when the namespace has no such instance."""
    rows = await db.fetch(
        f"SELECT {ITEMS.names} FROM runs WHERE workflow_id = $1 AND namespace = $2 ORDER BY run_number",
        workflow_id,
        namespace,
    )
    return [ITEMS.read(row) for row in rows]


def _stored(row: Row) -> StoredRun:
    run_id, version, *values, text = row
    attributes, upto = text.encode(), len(_IDENTITY)
    identity = RunIdentity(*[*values[:upto], attributes])
    return StoredRun(run_id, version, identity, RunRow(*[*values[upto:], attributes]))
