"""Counts of the last minute, and the notes of leases: pure parts of task queue views (operations 2.1)."""

from __future__ import annotations

import random

import pytest

from actors.hosting.rates import Rates
from actors.queue.poll import QueueName
from actors.run.ids import RunId
from actors.run.state import Activity, RunState
from actors.run.views.leases import MOST_NOTED, SEE_STATE, Lease, leases_of, note_of, noted

SECOND = 1_000_000


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_last_minute(seed: int) -> None:
    chance = random.Random(seed)
    now = 0
    rates = Rates(lambda: now)
    name = QueueName("default", "q", "workflow")
    counted: list[tuple[int, int, int]] = []
    for _ in range(2000):
        now += chance.choice([0, 0, SECOND // 3, SECOND, 20 * SECOND])
        added, dispatched = chance.randrange(3), chance.randrange(3)
        rates.count(name, added=added, dispatched=dispatched)
        counted.append((now // SECOND, added, dispatched))
        recent = [each for each in counted if each[0] > now // SECOND - 60]
        expected = sum(each[1] for each in recent), sum(each[2] for each in recent)
        assert rates.of("default", ["q"]) == ([("q", "workflow", *expected)] if any(expected) else [])
    now += 61 * SECOND
    assert rates.of("default", ["q", "other"]) == [] == rates.of("lab", ["q"])


def test_a_clock_that_goes_back_leaves_no_counts_for_ever() -> None:
    now = 10_000 * SECOND
    rates = Rates(lambda: now)
    rates.count(QueueName("default", "q", "activity"), added=5)
    now = 0
    rates.count(QueueName("default", "q", "activity"), added=1)
    assert rates.of("default", ["q"]) == [("q", "activity", 1, 0)]


def test_counters_are_bounded() -> None:
    rates = Rates(lambda: 0)
    for number in range(30_000):
        rates.count(QueueName("default", f"q{number}", "activity"), added=1)
    assert len(rates) == 20_000 and rates.of("default", ["q29999"]) and not rates.of("default", ["q1"])


def run_with(running: int, closed_at: int | None = None) -> RunState:
    activities = {
        f"t{n}": Activity(
            f"e{n}", "step", n, n, "q", "avro", 0, 0, status="running", attempts=2, attempt_id=f"a{n}", owner="w",
            lease_expires_at=50 + n,
        )
        for n in range(running)
    }  # fmt: skip
    ready = Activity("e", "step", 1, 1, "q", "avro", 0, 0)
    return RunState("default", "w", RunId("r"), "T", "q", 0, activities={**activities, "ready": ready}, closed_at=closed_at)


def test_a_note_is_small_and_belongs_to_one_version() -> None:
    assert note_of(run_with(0), 7) is None and note_of(run_with(3, closed_at=9), 7) is None
    note = note_of(run_with(2), 7)
    assert note is not None and noted(note, 8) == []
    assert (
        noted(note, 7)
        == leases_of(run_with(2))
        == [
            Lease("t0", "activity", "q", "w", 50, 2, "a0"),
            Lease("t1", "activity", "q", "w", 51, 2, "a1"),
        ]
    )
    assert note_of(run_with(MOST_NOTED + 1), 7) == SEE_STATE != note_of(run_with(MOST_NOTED), 7)
