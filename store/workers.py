"""Worker registrations (contract worker-protocol 3). Times are microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from store.pool import Database, Row

_COLUMNS = """
    namespace, worker_id, task_queue, runtime, sdk_version, build_id, supported_workflow_types,
    workflow_definition_fingerprints, supported_activity_types, max_concurrent_workflow_tasks, max_concurrent_activity_tasks,
    capabilities, task_slots, process_metrics, heartbeat_interval_seconds, status, last_heartbeat_at, registered_at,
    updated_at"""

_UPSERT = f"""
    INSERT INTO workers ({_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
    ON CONFLICT (namespace, worker_id) DO UPDATE
    SET task_queue = excluded.task_queue,
        runtime = excluded.runtime,
        sdk_version = excluded.sdk_version,
        build_id = excluded.build_id,
        supported_workflow_types = excluded.supported_workflow_types,
        workflow_definition_fingerprints = excluded.workflow_definition_fingerprints,
        supported_activity_types = excluded.supported_activity_types,
        max_concurrent_workflow_tasks = excluded.max_concurrent_workflow_tasks,
        max_concurrent_activity_tasks = excluded.max_concurrent_activity_tasks,
        capabilities = excluded.capabilities,
        task_slots = excluded.task_slots,
        process_metrics = excluded.process_metrics,
        heartbeat_interval_seconds = excluded.heartbeat_interval_seconds,
        status = excluded.status,
        last_heartbeat_at = excluded.last_heartbeat_at,
        updated_at = excluded.updated_at"""


@dataclass(slots=True)
class Worker:
    """A registration. For both type lists None (not sent) differs from [] (worker-protocol 3.3)."""

    namespace: str
    worker_id: str
    task_queue: str
    runtime: str
    sdk_version: str | None
    build_id: str | None
    supported_workflow_types: list[str] | None
    workflow_definition_fingerprints: dict[str, str]
    supported_activity_types: list[str] | None
    max_concurrent_workflow_tasks: int
    max_concurrent_activity_tasks: int
    capabilities: list[str]
    task_slots: dict[str, Any] | None
    process_metrics: bytes | None  # serialized JSON object
    heartbeat_interval_seconds: int | None
    status: str
    last_heartbeat_at: int
    registered_at: int
    updated_at: int


# Contacts are written a little out of order; what is ahead of one by more than this is no earlier contact but a wrong time.
_DISORDER = 60_000_000


@dataclass(slots=True)
class Contact:
    """A sign of life of a worker at time `at`; None leaves the stored value."""

    namespace: str
    worker_id: str
    at: int
    task_slots: Mapping[str, Any] | None = None
    process_metrics: bytes | None = None
    status: str | None = None
    heartbeat_interval_seconds: int | None = None


async def register(db: Database, namespace: str, worker_id: str, decide: Callable[[Worker | None], Worker]) -> Worker:
    """Insert or replace a registration by what `decide` makes of the stored one, atomically (the fingerprint rule, 3.2).

    `decide` gets the stored registration or None and returns the one to store; when it raises, nothing is stored and the
    exception passes. Registrations of one worker id take turns, in all processes. `registered_at` of a stored one stays.
    """
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 3))", f"{namespace}\x1f{worker_id}")
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM workers WHERE namespace = $1 AND worker_id = $2 FOR UPDATE", namespace, worker_id
        )
        stored = None if row is None else _worker(row)
        worker = decide(stored)
        if stored is not None:
            worker.registered_at = stored.registered_at
        await connection.execute(_UPSERT, *_arguments(worker))
        return worker


async def upsert(db: Database, worker: Worker) -> None:
    """Insert or replace a registration whatever is stored (but its `registered_at`, which stays)."""
    await db.execute(_UPSERT, *_arguments(worker))


async def get(db: Database, namespace: str, worker_id: str) -> Worker | None:
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM workers WHERE namespace = $1 AND worker_id = $2", namespace, worker_id)
    return None if row is None else _worker(row)


async def listing(db: Database, namespace: str, task_queue: str | None = None) -> list[Worker]:
    """Registrations of a namespace, last heard of first (control-plane 7.1)."""
    rows = await db.fetch(
        f"SELECT {_COLUMNS} FROM workers WHERE namespace = $1 AND ($2::text IS NULL OR task_queue = $2)"
        " ORDER BY last_heartbeat_at DESC, worker_id",
        namespace,
        task_queue,
    )
    return [_worker(row) for row in rows]


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
        " status = coalesce(c.status, w.status),"
        " heartbeat_interval_seconds = coalesce(c.heartbeat_interval_seconds, w.heartbeat_interval_seconds)"
        " FROM unnest($1::text[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::int4[])"
        " AS c(namespace, worker_id, at, task_slots, process_metrics, status, heartbeat_interval_seconds)"
        " WHERE w.namespace = c.namespace AND w.worker_id = ANY (ARRAY[c.worker_id]) RETURNING w.namespace, w.worker_id",
        [c.namespace for c in ordered],
        [c.worker_id for c in ordered],
        [c.at for c in ordered],
        [_json(c.task_slots) for c in ordered],
        [_text(c.process_metrics) for c in ordered],
        [c.status for c in ordered],
        [c.heartbeat_interval_seconds for c in ordered],
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
        later.status or earlier.status,
        earlier.heartbeat_interval_seconds if interval is None else interval,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _arguments(worker: Worker) -> tuple[object, ...]:
    return (
        worker.namespace,
        worker.worker_id,
        worker.task_queue,
        worker.runtime,
        worker.sdk_version,
        worker.build_id,
        worker.supported_workflow_types,
        _json(worker.workflow_definition_fingerprints),
        worker.supported_activity_types,
        worker.max_concurrent_workflow_tasks,
        worker.max_concurrent_activity_tasks,
        worker.capabilities,
        _json(worker.task_slots),
        _text(worker.process_metrics),
        worker.heartbeat_interval_seconds,
        worker.status,
        worker.last_heartbeat_at,
        worker.registered_at,
        worker.updated_at,
    )


def _worker(row: Row) -> Worker:
    slots, metrics = row["task_slots"], row["process_metrics"]
    return Worker(
        namespace=row["namespace"],
        worker_id=row["worker_id"],
        task_queue=row["task_queue"],
        runtime=row["runtime"],
        sdk_version=row["sdk_version"],
        build_id=row["build_id"],
        supported_workflow_types=row["supported_workflow_types"],
        workflow_definition_fingerprints=orjson.loads(row["workflow_definition_fingerprints"]),
        supported_activity_types=row["supported_activity_types"],
        max_concurrent_workflow_tasks=row["max_concurrent_workflow_tasks"],
        max_concurrent_activity_tasks=row["max_concurrent_activity_tasks"],
        capabilities=row["capabilities"],
        task_slots=None if slots is None else orjson.loads(slots),
        process_metrics=None if metrics is None else metrics.encode(),
        heartbeat_interval_seconds=row["heartbeat_interval_seconds"],
        status=row["status"],
        last_heartbeat_at=row["last_heartbeat_at"],
        registered_at=row["registered_at"],
        updated_at=row["updated_at"],
    )
