"""Deletes closed runs, but for their bare rows (contract operations 6.3). What may go is decided by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.connections.pool import Database
from store.sql import beside

_SQL = beside(__file__)
EXPIRED_SQL, PRUNE_SQL = _SQL["expired"], _SQL["prune"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run as it was looked at; `version` is what `prune` expects of it still."""

    run_id: str
    namespace: str
    version: int
    is_open: bool
    unpublished: bool  # the event stream does not have all of its events
    state: bytes


@dataclass(frozen=True, slots=True)
class Pruned:
    """A run that was deleted, and how many records went with it."""

    run_id: str
    events: int
    memos: int
    search_attributes: int
    updates: int  # that had a request id


async def expired(
    db: Database, namespace: str, after: int, before: int, limit: int, shards: Sequence[str] | None = None
) -> list[tuple[str, int]]:
    """(run_id, closed_at) of runs of a namespace closed from `after` on and before `before`, earliest first.

    Without those noted as archived. `shards`: only of these, by their two characters in ids.
    """
    rows = await db.fetch(EXPIRED_SQL, namespace, after, before, None if shards is None else list(shards), limit)
    return [(row[0], row[1]) for row in rows]


async def look_at(db: Database, run_ids: Sequence[str]) -> list[Candidate]:
    """Those of these runs that are there and not pruned yet, in no order."""
    return [Candidate(*row) for row in await db.fetch(_SQL["looked_at"], list(run_ids))]


async def keep(db: Database, run_ids: Sequence[str]) -> None:
    """Note that these closed runs are archived: `expired` leaves them out from now on."""
    await db.execute(_SQL["kept"], list(run_ids))


async def prune(db: Database, runs: Sequence[Candidate]) -> list[Pruned]:
    """Delete these runs as far as they are closed, published and as they were looked at; those that went."""
    rows = await db.fetch(PRUNE_SQL, [run.run_id for run in runs], [run.version for run in runs])
    return [Pruned(row[0], row[1], int(row[2]), row[3], row[4]) for row in rows]
