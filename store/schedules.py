"""Schedules as stored, and their audit history. Written by `store.commit.group`, but for the mark of what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from store.columns import Int8, Table
from store.commit.schedule_writes import AuditRow
from store.connections.pool import Database


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule's row. `state` and `definition` are for `actors.schedule.state.decode`; `created_at` in microseconds."""

    schedule_key: str
    namespace: str
    schedule_id: str
    version: Int8
    status: str
    created_at: Int8
    last_sequence: Int8
    published_sequence: Int8
    state: bytes
    definition: bytes


_ROWS = Table(StoredSchedule)
_EVENTS = Table(AuditRow)
_LATEST = (1 << 63) - 1

PAGE = (
    f"SELECT {_ROWS.names} FROM ("
    f"  SELECT {_ROWS.names}, octet_length(state) + octet_length(definition) AS size,"
    "     sum(octet_length(state) + octet_length(definition)) OVER (ORDER BY created_at DESC, schedule_key"
    "       ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS so_far"
    "  FROM schedules WHERE namespace = $1 AND status <> 'deleted'"
    "  AND created_at <= $2 AND (created_at < $2 OR schedule_key > $3)"
    "  ORDER BY created_at DESC, schedule_key LIMIT $4"
    ") s WHERE so_far - size < $5 ORDER BY created_at DESC, schedule_key"
)
_AUDIT = (
    f"SELECT {_EVENTS.names} FROM ("
    f"  SELECT {_EVENTS.names}, octet_length(payload) AS size,"
    "     sum(octet_length(payload)) OVER (ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS so_far"
    "  FROM schedule_events WHERE schedule_key = $1 AND sequence > $2 ORDER BY sequence LIMIT $3"
    ") e WHERE so_far - size < $4 ORDER BY sequence"
)


async def get(db: Database, schedule_key: str) -> StoredSchedule | None:
    """The schedule with this key, also a deleted one (its `status` says so); None when there never was one."""
    row = await db.fetchrow(f"SELECT {_ROWS.names} FROM schedules WHERE schedule_key = $1", schedule_key)
    return None if row is None else _ROWS.read(row)


async def load(db: Database, schedule_keys: Sequence[str]) -> list[StoredSchedule]:
    """The schedules with these keys, as far as there are any."""
    rows = await db.fetch(f"SELECT {_ROWS.names} FROM schedules WHERE schedule_key = ANY ($1)", list(schedule_keys))
    return [_ROWS.read(row) for row in rows]


class Position(NamedTuple):
    """The place of a schedule in the list of its namespace."""

    created_at: int
    schedule_key: str


async def page(db: Database, namespace: str, after: Position | None, limit: int, most_bytes: int) -> list[StoredSchedule]:
    """Up to `limit` schedules of a namespace that are not deleted, newest created first, behind a position.

    None behind the one with which they come to `most_bytes` as stored.
    """
    at, key = after or (_LATEST, "")
    rows = await db.fetch(PAGE, namespace, at, key, limit, most_bytes)
    return [_ROWS.read(row) for row in rows]


async def audit(db: Database, schedule_key: str, after_sequence: int, limit: int, most_bytes: int) -> list[AuditRow] | None:
    """Up to `limit` audit events after a sequence, in order; None for a key that never was a schedule's (operations 1.11).

    None behind the one with which they come to `most_bytes`. `payload` is JSON text, `recorded_at` in microseconds.
    """
    rows = await db.fetch(_AUDIT, schedule_key, after_sequence, limit, most_bytes)
    if rows or await db.fetchval("SELECT true FROM schedules WHERE schedule_key = $1", schedule_key):
        return [_EVENTS.read(row) for row in rows]
    return None


async def events(db: Database, schedule_key: str, after_sequence: int, limit: int) -> list[AuditRow]:
    """Up to `limit` audit events of a key after a sequence, in order."""
    rows = await db.fetch(
        f"SELECT {_EVENTS.names} FROM schedule_events WHERE schedule_key = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        schedule_key,
        after_sequence,
        limit,
    )
    return [_EVENTS.read(row) for row in rows]


async def due(db: Database, shards: Sequence[int], until: int, limit: int) -> list[tuple[str, int]]:
    """(key, wake_at) of the schedules in these shards with a deadline up to `until`, earliest first."""
    rows = await db.fetch(
        "SELECT d.schedule_key, d.wake_at FROM unnest($1::int4[]) AS s(shard), LATERAL ("
        "  SELECT c.schedule_key, c.wake_at FROM schedules c"
        "  WHERE c.shard = s.shard AND c.wake_at <= $2 ORDER BY c.wake_at LIMIT $3"
        ") d ORDER BY d.wake_at, d.schedule_key LIMIT $3",
        list(shards),
        until,
        limit,
    )
    return [(row[0], row[1]) for row in rows]


async def waiting_since_later(db: Database, shards: Sequence[int], at: int) -> list[str]:
    """The schedules of these shards that wait for something and were changed after a time that is still to come."""
    rows = await db.fetch(
        "SELECT schedule_key FROM schedules WHERE shard = ANY ($1) AND wake_at IS NOT NULL AND updated_at > $2",
        list(shards),
        at,
    )
    return [row[0] for row in rows]


async def recorded_since(db: Database, shards: Sequence[int], at: int, namespace: str | None) -> list[tuple[str, int]]:
    """(key, sequence of the first such event) of the schedules of these shards with audit events recorded since a time."""
    rows = await db.fetch(
        "SELECT e.schedule_key, min(e.sequence) FROM schedules s JOIN schedule_events e USING (schedule_key)"
        " WHERE s.shard = ANY ($1) AND e.recorded_at >= $2 AND ($3::text IS NULL OR s.namespace = $3) GROUP BY e.schedule_key",
        list(shards),
        at,
        namespace,
    )
    return [(row[0], row[1]) for row in rows]


async def unpublished(db: Database, shards: Sequence[int], limit: int) -> list[tuple[str, int]]:
    """(key, published_sequence) of schedules in these shards with audit events not marked as published."""
    rows = await db.fetch(
        "SELECT schedule_key, published_sequence FROM schedules"
        " WHERE shard = ANY ($1) AND published_sequence < last_sequence LIMIT $2",
        list(shards),
        limit,
    )
    return [(row[0], row[1]) for row in rows]


async def mark_published(db: Database, marks: Sequence[tuple[str, int]]) -> None:
    """Remember up to which sequence each schedule's events were published. Never lowers a mark, leaves the version alone."""
    if not marks:
        return
    ordered = sorted(marks)  # the order commits lock in
    await db.execute(
        "UPDATE schedules s SET published_sequence = u.sequence"
        " FROM unnest($1::text[], $2::int8[]) AS u(schedule_key, sequence)"
        " WHERE s.schedule_key = ANY (ARRAY[u.schedule_key]) AND s.published_sequence < u.sequence",
        [key for key, _ in ordered],
        [sequence for _, sequence in ordered],
    )
