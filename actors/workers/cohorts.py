"""Cohorts of workers by build id: what operators decide of them, and how they stand (contract operations 4.5).

A cohort is all workers of a task queue with one build id; "" is that of the workers without. Rules; times are microseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from actors.workers.rules import is_stale
from store.rollouts import Rollout
from store.workers import Worker

Operation = Literal["drain", "resume", "promote"]
UNVERSIONED = ""

ORDER = ("active", "active_with_draining", "draining", "stale_only", "no_workers")


def decided(
    operation: Operation, rows: Sequence[Rollout], namespace: str, task_queue: str, build_id: str, now: int
) -> tuple[Rollout, list[Rollout]]:
    """The cohort's record after an operation, and the records to store: those that changed.

    `rows`: the records of the queue. At most one of them is selected, before and after.
    """
    stored = next((row for row in rows if row.build_id == build_id), None)
    before = stored or Rollout(namespace, task_queue, build_id)
    if operation == "drain":
        after = before if before.drained_at is not None else dataclasses.replace(before, drained_at=now)
    elif operation == "resume":
        after = dataclasses.replace(before, drained_at=None)
    else:
        return _promoted(before, rows, now)
    return after, [] if after == before else [after]


def _promoted(before: Rollout, rows: Sequence[Rollout], now: int) -> tuple[Rollout, list[Rollout]]:
    after = dataclasses.replace(before, drained_at=None, promoted_at=now, rolled_back_at=None, selected=True)
    # Selected earlier, and another one since: the way back.
    back = before.promoted_at is not None and not before.selected
    losing = [
        dataclasses.replace(row, selected=False, rolled_back_at=now if back else row.rolled_back_at)
        for row in rows
        if row.selected and row.build_id != before.build_id
    ]
    return after, [*losing, after]


@dataclass(slots=True)
class Cohort:
    """How the workers of one build id stand: counted by effective status, and what is known of them."""

    rollout: Rollout
    active: int = 0
    draining: int = 0
    stale: int = 0
    runtimes: set[str] = field(default_factory=set)
    sdk_versions: set[str] = field(default_factory=set)
    first_seen_at: int | None = None
    last_heartbeat_at: int | None = None
    fingerprinted: set[str] = field(default_factory=set)
    """Workflow types of which any worker told a fingerprint."""
    fingerprints: dict[str, set[str]] = field(default_factory=dict)
    """Those that workers in contact told, by workflow type."""

    @property
    def status(self) -> str:
        """One of `ORDER`."""
        intent = self.rollout.drained_at is not None
        if self.active:
            return "active_with_draining" if intent or self.draining else "active"
        if self.draining or intent:
            return "draining"
        return "stale_only" if self.stale else "no_workers"

    @property
    def conflicts(self) -> dict[str, list[str]]:
        """Workflow types that workers in contact define differently, with their fingerprints."""
        return {name: sorted(texts) for name, texts in sorted(self.fingerprints.items()) if len(texts) > 1}

    def count(self, worker: Worker, now: int, stale_after_seconds: int) -> None:
        """Take a worker of this build id in."""
        stale = is_stale(worker, now, stale_after_seconds)
        if stale:
            self.stale += 1
        elif self.rollout.drained_at is not None:
            self.draining += 1
        else:
            self.active += 1
        self.runtimes.add(worker.runtime)
        if worker.sdk_version:
            self.sdk_versions.add(worker.sdk_version)
        self.first_seen_at = min(self.first_seen_at or worker.registered_at, worker.registered_at)
        self.last_heartbeat_at = max(self.last_heartbeat_at or worker.last_heartbeat_at, worker.last_heartbeat_at)
        for name, text in worker.workflow_definition_fingerprints.items():
            self.fingerprinted.add(name)
            if not stale:
                self.fingerprints.setdefault(name, set()).add(text)


def cohorts(
    namespace: str,
    task_queue: str,
    listed: Iterable[Worker],
    rows: Iterable[Rollout],
    now: int,
    stale_after_seconds: int,
) -> list[Cohort]:
    """The cohorts of a queue that have workers or a record, in the order they are shown.

    `listed`: the workers of the queue; `rows`: its records.
    """
    found = {row.build_id: Cohort(row) for row in rows}
    for worker in listed:
        build_id = worker.build_id or UNVERSIONED
        cohort = found.get(build_id)
        if cohort is None:
            cohort = found[build_id] = Cohort(Rollout(namespace, task_queue, build_id))
        cohort.count(worker, now, stale_after_seconds)
    return sorted(found.values(), key=_place)


def _place(cohort: Cohort) -> tuple[int, bool, int, str]:
    build_id = cohort.rollout.build_id
    return ORDER.index(cohort.status), not build_id, -(cohort.last_heartbeat_at or 0), build_id
