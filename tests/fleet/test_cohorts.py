"""Cohorts of build ids as rules: a Hypothesis machine of what operators do, and how workers are counted (operations 4.5)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.workers.cohorts import ORDER, UNVERSIONED, Cohort, Operation, cohorts, decided
from store.rollouts import Rollout
from store.workers import Worker

NOW = 1_800_000_000_000_000
STALE_AFTER = 60
BUILDS = st.sampled_from([UNVERSIONED, "v1", "v2", "v3"])


class Operators(RuleBasedStateMachine):
    """Operators drain, resume and promote the build ids of one queue, in any order, some again and again.

    What must hold:
    - at most one record is selected, and one is from the first promotion on: the last that was promoted;
    - a cohort drains exactly if it was drained after its last resume or promotion, since the first such drain;
    - an operation changes records of the cohort it names, and of the one that loses the selection, in nothing but that and
      `rolled_back_at`; what changed nothing is not stored again;
    - `rolled_back_at` is set by a promotion of what had been promoted before, on what it takes the selection from, and cleared
      by the next promotion of that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Rollout] = {}
        self.now = NOW
        self.drained: dict[str, int] = {}
        self.promoted: dict[str, int] = {}
        self.rolled_back: dict[str, int] = {}
        self.selected: str | None = None

    def operate(self, operation: Operation, build_id: str) -> Rollout:
        self.now += 1
        before = dict(self.rows)
        row, changed = decided(operation, list(before.values()), "default", "q", build_id, self.now)
        assert all(before.get(each.build_id) != each for each in changed), "stored again"
        self.rows |= {each.build_id: each for each in changed}
        assert self.rows.get(build_id, Rollout("default", "q", build_id)) == row, "the answer is what is stored"
        for each in changed:
            if each.build_id != build_id:
                was = before[each.build_id]
                assert was.selected and not each.selected
                assert dataclasses.replace(each, selected=True, rolled_back_at=was.rolled_back_at) == was
        return row

    @rule(build_id=BUILDS)
    def drain(self, build_id: str) -> None:
        row = self.operate("drain", build_id)
        self.drained.setdefault(build_id, self.now)
        assert row.drained_at == self.drained[build_id]

    @rule(build_id=BUILDS)
    def resume(self, build_id: str) -> None:
        row = self.operate("resume", build_id)
        self.drained.pop(build_id, None)
        assert row.drained_at is None

    @rule(build_id=BUILDS)
    def promote(self, build_id: str) -> None:
        row = self.operate("promote", build_id)
        self.drained.pop(build_id, None)
        if self.selected not in (None, build_id) and build_id in self.promoted:
            self.rolled_back[self.selected or ""] = self.now
        self.rolled_back.pop(build_id, None)
        self.promoted[build_id] = self.now
        self.selected = build_id
        assert (row.selected, row.drained_at, row.promoted_at, row.rolled_back_at) == (True, None, self.now, None)

    @invariant()
    def one_is_selected(self) -> None:
        selected = [row.build_id for row in self.rows.values() if row.selected]
        assert selected == ([] if self.selected is None else [self.selected])

    @invariant()
    def records_say_what_was_done(self) -> None:
        for build_id, row in self.rows.items():
            assert row.drained_at == self.drained.get(build_id)
            assert row.promoted_at == self.promoted.get(build_id)
            assert row.rolled_back_at == self.rolled_back.get(build_id)
        assert set(self.drained) | set(self.promoted) <= set(self.rows)


TestOperators = Operators.TestCase
TestOperators.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


# -- how they stand ----------------------------------------------------------------------------------------------------


def worker(worker_id: str, build_id: str | None = "v1", seconds: int = 0, **changes: Any) -> Worker:
    """A worker whose last contact is so many seconds ago."""
    values: dict[str, Any] = {
        "namespace": "default",
        "worker_id": worker_id,
        "task_queue": "q",
        "runtime": "python",
        "sdk_version": "sdk/1",
        "build_id": build_id,
        "supported_workflow_types": None,
        "workflow_definition_fingerprints": {},
        "supported_activity_types": None,
        "max_concurrent_workflow_tasks": 1,
        "max_concurrent_activity_tasks": 1,
        "capabilities": [],
        "task_slots": None,
        "process_metrics": None,
        "heartbeat_interval_seconds": None,
        "status": "active",
        "last_heartbeat_at": NOW - seconds * 1_000_000,
        "registered_at": NOW - 3600_000_000,
        "updated_at": NOW,
    }
    return Worker(**{**values, **changes})


def shown(workers: list[Worker], rows: list[Rollout] | None = None) -> list[Cohort]:
    return cohorts("default", "q", workers, rows or [], NOW, STALE_AFTER)


def test_workers_are_counted_by_effective_status() -> None:
    listed = [worker("a"), worker("b", seconds=61), worker("c", "v2"), worker("d", "v2", 61), worker("e", None)]
    draining = Rollout("default", "q", "v2", drained_at=NOW)
    found = {cohort.rollout.build_id: cohort for cohort in shown(listed, [draining])}
    counts = {build_id: (cohort.active, cohort.draining, cohort.stale) for build_id, cohort in found.items()}
    assert counts == {"v1": (1, 0, 1), "v2": (0, 1, 1), "": (1, 0, 0)}


@pytest.mark.parametrize(
    ("active", "draining", "stale", "intent", "status"),
    [
        (2, 0, 1, False, "active"),
        (2, 0, 0, True, "active_with_draining"),
        (1, 1, 0, False, "active_with_draining"),
        (0, 1, 1, False, "draining"),
        (0, 0, 1, True, "draining"),
        (0, 0, 0, True, "draining"),
        (0, 0, 1, False, "stale_only"),
        (0, 0, 0, False, "no_workers"),
    ],
)
def test_rollout_status(active: int, draining: int, stale: int, intent: bool, status: str) -> None:
    row = Rollout("default", "q", "v1", drained_at=NOW if intent else None)
    assert Cohort(row, active, draining, stale).status == status
    assert status in ORDER


def test_order() -> None:
    """By status, the named before the unversioned, the newest contact first."""
    listed = [
        worker("a", None),
        worker("b", "late", 5),
        worker("c", "later", 3),
        worker("d", "gone", 300),
        worker("e", None, 200),
        worker("f", "old", 1),
    ]
    rows = [Rollout("default", "q", "ahead"), Rollout("default", "q", "old", drained_at=NOW)]
    assert [cohort.rollout.build_id for cohort in shown(listed, rows)] == ["later", "late", "", "old", "gone", "ahead"]


def test_what_is_told_of_a_cohort() -> None:
    listed = [
        worker("a", seconds=5, runtime="php", sdk_version=None, registered_at=NOW - 9),
        worker("b", seconds=7, sdk_version="sdk/2"),
        worker("c", seconds=9),
    ]
    (cohort,) = shown(listed)
    assert (cohort.runtimes, cohort.sdk_versions) == ({"php", "python"}, {"sdk/1", "sdk/2"})
    assert cohort.first_seen_at == NOW - 3600_000_000
    assert cohort.last_heartbeat_at == NOW - 5_000_000


def test_definitions_that_differ_are_told() -> None:
    """Of workers in contact; those that are gone define nothing any more."""
    listed = [
        worker("a", workflow_definition_fingerprints={"pay": "x", "ship": "1"}),
        worker("b", workflow_definition_fingerprints={"pay": "y", "ship": "1"}),
        worker("c", seconds=61, workflow_definition_fingerprints={"ship": "2", "bill": "3"}),
    ]
    (cohort,) = shown(listed)
    assert cohort.conflicts == {"pay": ["x", "y"]}
    assert cohort.fingerprinted == {"pay", "ship", "bill"}
