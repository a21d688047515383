"""What happens when clocks are changed, written out by hand (contract operations 1.2, row DST).

A time that is left out comes as much later as the clock is put forward. A time that is there twice comes the first time only,
unless the hour is `*` or `*/n`. Local times with their offset, as a clock on the wall shows them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from actors.schedule.cron import parse
from actors.schedule.zones import zone

Row = tuple[str, str, str, list[str]]

# Zone, expression, local time from which on, occurrences.
TABLE: list[Row] = [
    # Lord Howe puts its clock forward by half an hour at 02:00 (+10:30 to +11:00) and back at 02:00 (to 01:30).
    (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T00:00+10:30",
        ["2026-10-03T02:15+10:30", "2026-10-04T02:45+11:00", "2026-10-05T02:15+11:00"],
    ),
    ("Australia/Lord_Howe", "0 2 * * *", "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00", "2026-10-05T02:00+11:00"]),
    ("Australia/Lord_Howe", "30 2 * * *", "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00", "2026-10-05T02:30+11:00"]),
    (
        "Australia/Lord_Howe",
        "*/15 * * * *",
        "2026-10-04T01:40+10:30",
        ["2026-10-04T01:45+10:30", "2026-10-04T02:30+11:00", "2026-10-04T02:45+11:00", "2026-10-04T03:00+11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T12:00+11:00",
        ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"],
    ),
    (
        "Australia/Lord_Howe",
        "45 * * * *",
        "2026-04-05T00:50+11:00",
        ["2026-04-05T01:45+11:00", "2026-04-05T01:45+10:30", "2026-04-05T02:45+10:30"],
    ),
    # Santiago goes from 24:00 to 01:00 of the next day (-04 to -03), and from 24:00 to 23:00 of the same.
    (
        "America/Santiago",
        "0 0 * * *",
        "2026-09-05T12:00-04:00",
        ["2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00"],
    ),
    ("America/Santiago", "30 0 6 9 *", "2026-09-05T12:00-04:00", ["2026-09-06T01:30-03:00", "2027-09-06T00:30-03:00"]),
    ("America/Santiago", "@hourly", "2026-09-05T22:30-04:00", ["2026-09-05T23:00-04:00", "2026-09-06T01:00-03:00"]),
    (
        "America/Santiago",
        "30 23 * * *",
        "2026-04-04T12:00-03:00",
        ["2026-04-04T23:30-03:00", "2026-04-05T23:30-04:00"],
    ),
    (
        "America/Santiago",
        "30 */1 * * *",
        "2026-04-04T23:00-03:00",
        ["2026-04-04T23:30-03:00", "2026-04-04T23:30-04:00", "2026-04-05T00:30-04:00"],
    ),
    ("America/Santiago", "0 0 5 4 *", "2026-04-04T12:00-03:00", ["2026-04-05T00:00-04:00", "2027-04-05T00:00-04:00"]),
    # Beirut goes from 00:00 to 01:00 (+02 to +03), and from 24:00 to 23:00.
    ("Asia/Beirut", "0 0 * * *", "2026-03-28T12:00+02:00", ["2026-03-29T01:00+03:00", "2026-03-30T00:00+03:00"]),
    ("Asia/Beirut", "0 0 * * SUN", "2026-03-28T12:00+02:00", ["2026-03-29T01:00+03:00", "2026-04-05T00:00+03:00"]),
    ("Asia/Beirut", "15,45 0-1 * * *", "2026-03-28T23:59+02:00", ["2026-03-29T01:15+03:00", "2026-03-29T01:45+03:00"]),
    ("Asia/Beirut", "30 23 * * *", "2026-10-24T12:00+03:00", ["2026-10-24T23:30+03:00", "2026-10-25T23:30+02:00"]),
    ("Asia/Beirut", "0 0 * * *", "2026-10-24T12:00+03:00", ["2026-10-25T00:00+02:00", "2026-10-26T00:00+02:00"]),
    # Kathmandu has no summer time; its day begins at 18:15 UTC. In 1986 its clock went from +05:30 to +05:45 at midnight.
    ("Asia/Kathmandu", "0 0 * * *", "2026-05-01T12:00+05:45", ["2026-05-02T00:00+05:45", "2026-05-03T00:00+05:45"]),
    ("Asia/Kathmandu", "*/20 * * * *", "2026-05-01T00:00+05:45", ["2026-05-01T00:20+05:45", "2026-05-01T00:40+05:45"]),
    ("Asia/Kathmandu", "5 0 1 1 *", "1985-12-31T12:00+05:30", ["1986-01-01T00:20+05:45", "1987-01-01T00:05+05:45"]),
    # Apia left out 30 December 2011, and changed from -10 to +14.
    (
        "Pacific/Apia",
        "0 12 * * *",
        "2011-12-29T00:00-10:00",
        ["2011-12-29T12:00-10:00", "2011-12-31T12:00+14:00", "2012-01-01T12:00+14:00"],
    ),
    ("Pacific/Apia", "0 12 30 12 *", "2011-12-29T00:00-10:00", ["2011-12-31T12:00+14:00", "2012-12-30T12:00+14:00"]),
    ("Pacific/Apia", "0 12 30,31 12 *", "2011-12-29T00:00-10:00", ["2011-12-31T12:00+14:00", "2012-12-30T12:00+14:00"]),
    ("Pacific/Apia", "0 9 * * FRI", "2011-12-24T00:00-10:00", ["2011-12-31T09:00+14:00", "2012-01-06T09:00+14:00"]),
    # Summer time there was given up in 2021.
    ("Pacific/Apia", "0 9 * * *", "2021-04-03T12:00+14:00", ["2021-04-04T09:00+13:00", "2021-04-05T09:00+13:00"]),
    ("Pacific/Apia", "0 9 * * *", "2021-09-25T12:00+13:00", ["2021-09-26T09:00+13:00", "2021-09-27T09:00+13:00"]),
    # Rules that changed: New York's summer began in April until 2006, and in March since.
    ("America/New_York", "30 2 * * *", "2006-04-01T12:00-05:00", ["2006-04-02T03:30-04:00", "2006-04-03T02:30-04:00"]),
    ("America/New_York", "30 2 * * *", "2007-03-10T12:00-05:00", ["2007-03-11T03:30-04:00", "2007-03-12T02:30-04:00"]),
    ("America/New_York", "30 2 * * *", "2007-03-31T12:00-04:00", ["2007-04-01T02:30-04:00"]),
    ("America/New_York", "30 1 * * *", "2026-10-31T12:00-04:00", ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
    (
        "America/New_York",
        "30 * * * *",
        "2026-11-01T00:45-04:00",
        ["2026-11-01T01:30-04:00", "2026-11-01T01:30-05:00", "2026-11-01T02:30-05:00"],
    ),
    (
        "America/New_York",
        "30 0-23 * * *",
        "2026-11-01T00:45-04:00",
        ["2026-11-01T01:30-04:00", "2026-11-01T02:30-05:00"],
    ),
    # Pyongyang put its clock back by half an hour in 2015, and forward again in 2018.
    ("Asia/Pyongyang", "45 23 * * *", "2015-08-14T12:00+09:00", ["2015-08-14T23:45+09:00", "2015-08-15T23:45+08:30"]),
    ("Asia/Pyongyang", "45 23 * * *", "2018-05-04T12:00+08:30", ["2018-05-05T00:15+09:00", "2018-05-05T23:45+09:00"]),
    ("Asia/Pyongyang", "41 */23 14 * 2L", "2015-08-14T23:50+09:00", ["2015-08-14T23:41+08:30", "2015-08-25T00:41+08:30"]),
    # Troll changes by two hours.
    ("Antarctica/Troll", "30 1,2 * * *", "2026-03-28T12:00+00:00", ["2026-03-29T03:30+02:00", "2026-03-29T04:30+02:00"]),
    # Monrovia's clock was 44 minutes and 30 seconds behind until 1972.
    ("Africa/Monrovia", "0 12 * * *", "1972-01-05T00:00:00-00:44:30", ["1972-01-05T12:00-00:44:30"]),
    ("Africa/Monrovia", "30 0 7 1 *", "1972-01-06T00:00:00-00:44:30", ["1972-01-07T01:14:30+00:00"]),
]


def shown(at: datetime) -> str:
    """A local time with its offset."""
    return at.isoformat()


@pytest.mark.parametrize(("name", "expression", "after", "expected"), TABLE)
def test_changes_of_the_clock(name: str, expression: str, after: str, expected: list[str]) -> None:
    at: int | None = int(datetime.fromisoformat(after).timestamp())
    found = []
    for _ in expected:
        assert at is not None
        at = parse(expression).next_after(at, name)
        assert at is not None
        found.append(datetime.fromtimestamp(at, zone(name)))
    assert [shown(each) for each in found] == [shown(datetime.fromisoformat(each)) for each in expected]


def test_nothing_is_left_out_and_nothing_comes_twice_in_a_day() -> None:
    """A daily schedule comes once a day in each of ten years, however clocks are changed."""
    for name in ("Australia/Lord_Howe", "America/Santiago", "Asia/Beirut", "Asia/Kathmandu", "Europe/Dublin"):
        for expression in ("0 0 * * *", "15 2 * * *", "45 23 * * *", "30 1 * * *"):
            at = int(datetime(2016, 1, 1, tzinfo=zone(name)).timestamp()) - 1
            days = []
            for _ in range(3650):
                found = parse(expression).next_after(at, name)
                assert found is not None
                at = found
                days.append(datetime.fromtimestamp(at, zone(name)).date())
            gaps = {later - earlier for earlier, later in pairwise(days)}
            assert gaps == {timedelta(days=1)}, (name, expression)
