"""Worker registrations (contract worker-protocol 3). Times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from store.columns import Int4, Int8, Json, JsonText, Table, listed
from store.connections.pool import Database


@dataclass(slots=True)
class Worker:
    """A registration. For both type lists None (not sent) differs from [] (worker-protocol 3.3).

    `status` is stored as `active`; whether its cohort drains is the business of `store.rollouts`.
    """

    namespace: str
    worker_id: str
    task_queue: str
    runtime: str
    sdk_version: str | None
    build_id: str | None
    supported_workflow_types: list[str] | None
    workflow_definition_fingerprints: Annotated[dict[str, str], "json"]
    supported_activity_types: list[str] | None
    max_concurrent_workflow_tasks: Int4
    max_concurrent_activity_tasks: Int4
    capabilities: list[str]
    task_slots: Json | None
    process_metrics: JsonText | None
    heartbeat_interval_seconds: Int4 | None
    status: str
    last_heartbeat_at: Int8
    registered_at: Int8
    updated_at: Int8


_WORKERS = Table(Worker)
_SELECT = f"SELECT {_WORKERS.names} FROM workers"
_REPLACED = listed(_WORKERS.all_but("namespace", "worker_id", "registered_at"), "{0} = excluded.{0}")
_UPSERT = (
    f"INSERT INTO workers ({_WORKERS.names}) VALUES ({_WORKERS.parameters})"
    f" ON CONFLICT (namespace, worker_id) DO UPDATE SET {_REPLACED}"
)

# Contacts are written a little out of order; what is ahead of one by more than this is no earlier contact but a wrong time.
_DISORDER = 60_000_000


@dataclass(slots=True)
class Contact:
    """A sign of life of a worker at time `at`; None leaves the stored value."""

    namespace: str
    worker_id: str
    at: Int8
    task_slots: Json | None = None
    process_metrics: JsonText | None = None
    heartbeat_interval_seconds: Int4 | None = None


_CONTACTS = Table(Contact)
_KINDS = {"json": "text", "json text": "text"}  # cast where it is stored
_CONTACT_ARRAYS = ", ".join(f"${k}::{_KINDS.get(kind, kind)}[]" for k, (_, kind) in enumerate(_CONTACTS.columns, start=1))


async def register(db: Database, namespace: str, worker_id: str, decide: Callable[[Worker | None], Worker]) -> Worker:
    """Insert or replace a registration by what `decide` makes of the stored one, atomically (the fingerprint rule, 3.2).

    `decide` gets the stored registration or None and returns the one to store; when it raises, nothing is stored and the
    exception passes. Registrations of one worker id take turns, in all processes. `registered_at` of a stored one stays.
    """
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 3))", f"{namespace}\x1f{worker_id}")
        row = await connection.fetchrow(f"{_SELECT} WHERE namespace = $1 AND worker_id = $2 FOR UPDATE", namespace, worker_id)
        stored = None if row is None else _WORKERS.read(row)
        worker = decide(stored)
        if stored is not None:
            worker.registered_at = stored.registered_at
        await connection.execute(_UPSERT, *_WORKERS.arguments(worker))
        return worker


async def upsert(db: Database, worker: Worker) -> None:
    """Insert or replace a registration whatever is stored (but its `registered_at`, which stays)."""
    await db.execute(_UPSERT, *_WORKERS.arguments(worker))


async def get(db: Database, namespace: str, worker_id: str) -> Worker | None:
    row = await db.fetchrow(f"{_SELECT} WHERE namespace = $1 AND worker_id = $2", namespace, worker_id)
    return None if row is None else _WORKERS.read(row)


async def listing(db: Database, namespace: str, task_queue: str | None = None) -> list[Worker]:
    """Registrations of a namespace, last heard of first (control-plane 7.1)."""
    rows = await db.fetch(
        f"{_SELECT} WHERE namespace = $1 AND ($2::text IS NULL OR task_queue = $2) ORDER BY last_heartbeat_at DESC, worker_id",
        namespace,
        task_queue,
    )
    return [_WORKERS.read(row) for row in rows]


async def delete(db: Database, namespace: str, worker_id: str) -> bool:
    """Remove a registration; False when there is none."""
    return await db.execute("DELETE FROM workers WHERE namespace = $1 AND worker_id = $2", namespace, worker_id) == 1


async def touch(db: Database, contacts: Sequence[Contact]) -> set[tuple[str, str]]:
    """Note many contacts in one statement; which (namespace, worker_id) are registered.

    The last contact moves back only from a time that a clock far ahead gave it.
    """
    if not contacts:
        return set()
    latest: dict[tuple[str, str], Contact] = {}
    for contact in contacts:
        key = (contact.namespace, contact.worker_id)
        latest[key] = _merge(latest.get(key), contact)
    ordered = [latest[key] for key in sorted(latest)]  # one order for all, so that concurrent calls cannot deadlock
    rows = await db.fetch(
        f"UPDATE workers w SET last_heartbeat_at = {_later('w.last_heartbeat_at')},"
        f" updated_at = {_later('w.updated_at')},"
        " task_slots = coalesce(c.task_slots::json, w.task_slots),"
        " process_metrics = coalesce(c.process_metrics::json, w.process_metrics),"
        " heartbeat_interval_seconds = coalesce(c.heartbeat_interval_seconds, w.heartbeat_interval_seconds)"
        f" FROM unnest({_CONTACT_ARRAYS}) AS c({_CONTACTS.names})"
        " WHERE w.namespace = c.namespace AND w.worker_id = ANY (ARRAY[c.worker_id]) RETURNING w.namespace, w.worker_id",
        *zip(*map(_CONTACTS.arguments, ordered), strict=True),
    )
    return {(row[0], row[1]) for row in rows}


def _later(column: str) -> str:
    return f"CASE WHEN {column} > c.at + {_DISORDER} THEN c.at ELSE greatest({column}, c.at) END"


def _merge(earlier: Contact | None, later: Contact) -> Contact:
    """One contact that says what both say."""
    if earlier is None:
        return later
    interval = later.heartbeat_interval_seconds
    return Contact(
        later.namespace,
        later.worker_id,
        max(earlier.at, later.at),
        earlier.task_slots if later.task_slots is None else later.task_slots,
        earlier.process_metrics if later.process_metrics is None else later.process_metrics,
        earlier.heartbeat_interval_seconds if interval is None else interval,
    )
