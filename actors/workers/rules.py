"""Rules about registered workers: who is in contact, which definitions may be replaced, who can answer a query.

Contract: worker-protocol 3.2, 3.3, 8.4. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.dialects.sdk04 import dialect_of
from actors.queue.poll import WorkerProfile
from actors.run.words import Reason
from store.workers import Worker

QUERY_WORKER_UNAVAILABLE: Reason = "query_worker_unavailable"
QUERY_WORKER_INCOMPATIBLE: Reason = "query_worker_incompatible"


class DefinitionChanged(Exception):
    """A worker in contact registers another definition of a workflow type under its id (worker-protocol 3.2)."""

    def __init__(self, workflow_type: str) -> None:
        super().__init__(workflow_type)
        self.workflow_type = workflow_type


@dataclass(frozen=True, slots=True)
class Registration:
    """One registered worker and what its polls may be given."""

    worker: Worker
    workflow_profile: WorkerProfile
    activity_profile: WorkerProfile


def registration_of(worker: Worker) -> Registration:
    """What a worker's polls may be given."""
    workflows, activities = worker.supported_workflow_types, worker.supported_activity_types
    dialect = dialect_of(worker.runtime, worker.sdk_version)
    return Registration(
        worker,
        WorkerProfile(worker.worker_id, worker.build_id, _types(workflows, activities), dialect),
        WorkerProfile(worker.worker_id, worker.build_id, _types(activities, workflows), dialect),
    )


def _types(own: list[str] | None, other: list[str] | None) -> frozenset[str] | None:
    """Which types a worker takes (worker-protocol 3.3): None all, empty none."""
    if own is None or (not own and not other):
        return None
    return frozenset(own)


def is_stale(worker: Worker, now: int, stale_after_seconds: int) -> bool:
    """Whether the last contact is longer ago than `stale_after_seconds`.

    One that is further ahead says nothing: the clock it was noted by was wrong.
    """
    return abs(now - worker.last_heartbeat_at) > stale_after_seconds * 1_000_000


def replacing(stored: Worker | None, worker: Worker, noted: int, now: int, stale_after_seconds: int) -> Worker:
    """The registration to store in place of `stored`. Raises `DefinitionChanged`.

    `noted`: a contact of the stored one that is not stored yet, 0 when none. What it registered of types that the new one still
    serves is kept.
    """
    if stored is None:
        return worker
    if noted <= now - stale_after_seconds * 1_000_000 and is_stale(stored, now, stale_after_seconds):
        return worker
    before, given = stored.workflow_definition_fingerprints, worker.workflow_definition_fingerprints
    for name in sorted(given):
        if before.get(name, given[name]) != given[name]:
            raise DefinitionChanged(name)
    types = worker.supported_workflow_types
    kept = {name: text for name, text in before.items() if types is None or name in types}
    worker.workflow_definition_fingerprints = {**kept, **given}
    return worker


def missing_for_query(
    listed: Iterable[Registration], workflow_type: str, compatibility: str | None, now: int, stale_after_seconds: int
) -> Reason | None:
    """Why none of a queue's workers could answer a query of this type and build marker; None when a fresh, active one can."""
    serving = [
        registration.workflow_profile
        for registration in listed
        if registration.worker.status == "active"
        and not is_stale(registration.worker, now, stale_after_seconds)
        and registration.workflow_profile.serves(workflow_type, None)
    ]
    if not serving:
        return QUERY_WORKER_UNAVAILABLE
    return None if any(profile.serves(workflow_type, compatibility) for profile in serving) else QUERY_WORKER_INCOMPATIBLE
