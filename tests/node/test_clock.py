"""The node's clock: the database's, carried on by the monotonic clock, whatever the machine's own says."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.clock import Clock
from tests.core.harness import search

SECOND = 1_000_000
HOUR = 3600 * SECOND
START = 1_776_676_500_000_000


class Machine:
    """A machine and its database: true time, the machine's own clock, the database's, and a monotonic one that drifts."""

    def __init__(self, own: int = 0, database: int = 0) -> None:
        self.true = START
        self.own = own
        self.database = database
        self.drift = 0
        self.steps: list[int] = []
        self.clock = Clock(5.0, lambda: (self.true + self.own) * 1000, lambda: (self.true - START + self.drift) * 1000)
        self.clock.on_step(self.steps.append)

    def beat(self, there: int = 500, back: int = 500) -> None:
        """A second passes, then the database is asked; the ways there and back take so many microseconds."""
        self.true += SECOND
        sent = self.clock.ticks()
        self.true += there
        said = self.true + self.database
        self.true += back
        self.clock.observe(said, sent)

    @property
    def off(self) -> int:
        """By how much the node is ahead of its database."""
        return self.clock.now() - self.true - self.database


@pytest.mark.parametrize("own", [-HOUR, 0, HOUR])
def test_the_first_reading_is_followed(own: int) -> None:
    machine = Machine(own)
    assert machine.off == own
    machine.beat()
    assert abs(machine.off) <= 501
    machine.beat(3, 3)
    assert abs(machine.off) <= 4


def test_a_clock_within_the_bounds_of_a_reading_is_left_alone() -> None:
    machine = Machine()
    machine.beat()
    machine.beat(2 * SECOND, 10)
    machine.beat(10, 2 * SECOND)
    assert machine.off == 0 and machine.steps == []


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_jumps_of_the_machines_own_clock_have_no_effect(jump: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dw.actors")
    machine = Machine()
    machine.beat()
    machine.own = jump
    assert machine.off == 0
    for _ in range(5):
        machine.beat()
        assert machine.off == 0 and machine.clock.skewed
    assert round(machine.clock.skew_seconds) == jump // SECOND
    machine.own = 0
    for _ in range(5):
        machine.beat()
    assert machine.off == 0 and not machine.clock.skewed and machine.steps == []
    where = "ahead of" if jump > 0 else "behind"
    assert [record.getMessage() for record in caplog.records] == [
        f"the clock of this machine is 3600.0 s {where} the database's, which is followed",
        "the clock of this machine agrees with the database's again",
    ]


def test_a_slow_answer_is_no_skew() -> None:
    machine = Machine()
    machine.beat(30 * SECOND, 10)
    machine.beat(10, 30 * SECOND)
    assert not machine.clock.skewed and machine.clock.skew_seconds == 0


def test_the_databases_clock_is_followed_back_at_once() -> None:
    machine = Machine()
    machine.beat()
    machine.database = -HOUR
    machine.beat()
    assert abs(machine.off) <= 1001
    assert [round(step / SECOND) for step in machine.steps] == [-3600]


def test_the_databases_clock_is_followed_ahead_once_it_insists() -> None:
    machine = Machine()
    machine.beat()
    for _ in range(2):  # wrong for a moment
        machine.database = HOUR
        machine.beat()
        machine.database = 0
        machine.beat()
        assert machine.off == 0 and machine.steps == []
    machine.database = HOUR
    for followed in (False, False, True):
        machine.beat()
        assert (abs(machine.off) <= 1001) == followed
    assert [round(step / SECOND) for step in machine.steps] == [3600]


def test_the_databases_clock_is_followed_ahead_at_once_when_the_machine_agrees() -> None:
    machine = Machine()
    machine.beat()
    machine.drift = -HOUR  # it slept, and the monotonic clock did, too
    machine.beat()
    assert abs(machine.off) <= 1001 and not machine.clock.skewed


@given(
    st.integers(-HOUR, HOUR),
    st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000), st.integers(-100, 100)), min_size=1, max_size=40),
)
@search(100)
def test_the_error_is_never_more_than_a_reading_took(own: int, readings: list[tuple[int, int, int]]) -> None:
    machine = Machine(own)
    for there, back, drift in readings:
        machine.drift += drift  # up to a tenth of a millisecond in a second
        machine.beat(there, back)
        assert -back - 1 <= machine.off <= there + 1
