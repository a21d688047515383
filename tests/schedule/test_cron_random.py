"""Random cron expressions, zones and instants: two implementations that share no code must agree (contract operations 1.2)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from random import Random

import pytest
from cronsim import CronSim

from actors.schedule import cron
from tests.schedule import expressions, walker
from tests.schedule.expressions import FIRST, LAST

pytestmark = pytest.mark.proof


def compare(seed: int, count: int) -> None:
    random = Random(seed)
    for _ in range(count):
        expression, zone, at = expressions.triple(random)
        found, expected = cron.parse(expression).next_after(at, zone), walker.next_after(expression, zone, at)
        assert found == expected, f"{expression!r} in {zone} after {at}"


@pytest.mark.slow
def test_agrees_with_a_walk_over_the_calendar() -> None:
    compare(1, 5_000)


@pytest.mark.parametrize("seed", range(2, 22))
def test_agrees_with_a_walk_over_the_calendar_a_hundred_thousand_times(seed: int) -> None:
    compare(seed, 5_000)


def shared_with_cronsim(text: str) -> bool:
    """CronSim joins day fields that begin with a star the other way, and knows neither macros nor `?` nor `W` nor `FRIL`.

    A step over a range of a single value it reads as one that goes on to the end of the field.
    """
    if text.startswith("@") or "?" in text or "W" in text.split()[2].upper():
        return False
    if any(first == last for first, last in re.findall(r"0?(\d+)-0?(\d+)/", text)):
        return False
    days = text.split()[2::2]
    return not any(each != "*" and each.startswith("*") for each in days) and not re.search("[A-Za-z]L|-SUN", text.upper())


def test_agrees_with_a_library_where_that_has_the_same_dialect() -> None:
    random = Random(1)
    compared = 0
    while compared < 5_000:
        text, at = expressions.expression(random), random.randint(FIRST, LAST)
        found = cron.parse(text).next_after(at, "UTC")
        if found is not None and shared_with_cronsim(text):
            assert int(next(CronSim(text, datetime.fromtimestamp(at, UTC))).timestamp()) == found, (text, at)
            compared += 1
