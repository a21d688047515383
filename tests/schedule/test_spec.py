"""Specs: what is wrong with one, and when it is due (contract operations 1.1, 1.2)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.schedule.spec import compiled, duration, problems
from tests.schedule.harness import HOUR, MINUTE, at, text_of

DAY = 86_400
DURATIONS = [
    ("PT30M", 1800),
    ("PT1H30M", 5400),
    ("PT90S", 90),
    ("P1D", DAY),
    ("P1DT12H", DAY + 43_200),
    ("P1W", 7 * DAY),
    ("P1M", 30 * DAY),
    ("P1Y", 365 * DAY),
    ("P1Y2M3W4DT5H6M7S", (365 + 60 + 21 + 4) * DAY + 5 * 3600 + 6 * 60 + 7),
    ("PT0S", 0),
    ("P0D", 0),
]


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str, seconds: int) -> None:
    assert duration(text) == seconds


BAD_DURATIONS = ["", "P", "PT", "P1", "1H", "PT1", "P1H", "PT1D", "-PT5M", "PT-5M", "PT1.5S", "pt5m", " PT5M", "P1DT", "P1M1Y"]


@pytest.mark.parametrize("text", [*BAD_DURATIONS, "PT\u0663M", "PT1H\n", f"PT{'9' * 70}S"])
def test_no_durations(text: str) -> None:
    assert duration(text) is None


def occurrences(spec: dict[str, Any], start: str, end: str) -> list[str | None]:
    assert not problems(spec)
    return [text_of(each) for each in compiled(spec).between(at(start), at(end))]


def test_intervals_are_a_grid_from_the_epoch_on() -> None:
    spec = {"intervals": [{"every": "PT6H", "offset": "PT15M"}], "timezone": "Asia/Kathmandu"}
    assert occurrences(spec, "2026-05-01 00:00", "2026-05-01 13:00") == [
        "2026-05-01 00:15:00",
        "2026-05-01 06:15:00",
        "2026-05-01 12:15:00",
    ]
    week = {"intervals": [{"every": "P1W"}]}  # the epoch was a Thursday
    assert occurrences(week, "2026-05-01 00:00", "2026-05-20 00:00") == ["2026-05-07 00:00:00", "2026-05-14 00:00:00"]


def test_an_offset_may_be_longer_than_the_interval() -> None:
    spec = {"intervals": [{"every": "PT1H", "offset": "P1DT10M"}]}
    assert occurrences(spec, "2026-05-01 00:00", "2026-05-01 02:00") == ["2026-05-01 00:10:00", "2026-05-01 01:10:00"]


def test_all_parts_of_a_spec_count_and_the_same_instant_once() -> None:
    spec = {"cron_expressions": ["0 * * * *", "*/30 1 * * *"], "intervals": [{"every": "PT90M"}]}
    assert occurrences(spec, "2026-05-01 00:00", "2026-05-01 03:01") == [
        "2026-05-01 00:00:00",
        "2026-05-01 01:00:00",
        "2026-05-01 01:30:00",
        "2026-05-01 02:00:00",
        "2026-05-01 03:00:00",
    ]


def test_the_start_of_a_range_is_in_it_and_its_end_is_not() -> None:
    spec = {"cron_expressions": ["0 * * * *"]}
    assert occurrences(spec, "2026-05-01 01:00", "2026-05-01 02:00") == ["2026-05-01 01:00:00"]
    assert occurrences(spec, "2026-05-01 01:00:00.000001", "2026-05-01 02:00:00.000001") == ["2026-05-01 02:00:00"]


def test_next_is_strictly_after() -> None:
    spec = compiled({"cron_expressions": ["0 * * * *"]})
    noon = at("2026-05-01 12:00")
    assert spec.next_after(noon) == noon + HOUR
    assert spec.next_after(noon - 1) == noon
    assert spec.next_after(noon + 59 * MINUTE) == noon + HOUR


def test_nothing_is_due_beyond_the_calendar() -> None:
    spec = compiled({"intervals": [{"every": f"PT{'9' * 40}S"}]})
    assert spec.next_after(at("2026-05-01 00:00")) is None


GOOD: list[dict[str, Any]] = [
    {"cron_expressions": ["15 7 * * *"], "timezone": "UTC"},
    {"intervals": [{"every": "PT30M"}]},
    {"intervals": [{"every": "PT30M", "offset": None}], "cron_expressions": None, "timezone": None},
    {"intervals": [{"every": "PT30M", "jitter": 3}], "cron_expressions": [], "timezone": "america/new_york"},
    {"cron_expressions": ["@daily"], "start_at": "whenever", "calendars": [{}], "timezone": ""},
]


@pytest.mark.parametrize("spec", GOOD)
def test_good_specs(spec: dict[str, Any]) -> None:
    assert problems(spec) == {}


BAD: list[tuple[Any, list[str]]] = [
    (None, ["spec"]),
    ([], ["spec"]),
    ("@daily", ["spec"]),
    ({}, ["spec"]),
    ({"cron_expressions": [], "intervals": []}, ["spec"]),
    ({"timezone": "UTC"}, ["spec"]),
    ({"cron_expressions": "@daily"}, ["spec.cron_expressions"]),
    ({"cron_expressions": {"0": "@daily"}}, ["spec.cron_expressions"]),
    ({"cron_expressions": ["@daily", "no", 5, None]}, [f"spec.cron_expressions.{each}" for each in (1, 2, 3)]),
    ({"cron_expressions": ["@daily"] * 257}, ["spec.cron_expressions"]),
    ({"intervals": "PT5M"}, ["spec.intervals"]),
    ({"intervals": ["PT5M"]}, ["spec.intervals.0"]),
    ({"intervals": [{}]}, ["spec.intervals.0.every"]),
    ({"intervals": [{"every": 300}]}, ["spec.intervals.0.every"]),
    ({"intervals": [{"every": "PT0S"}]}, ["spec.intervals.0.every"]),
    (
        {"intervals": [{"every": "PT1M"}, {"every": "often", "offset": "later"}]},
        ["spec.intervals.1.every", "spec.intervals.1.offset"],
    ),
    ({"intervals": [{"every": "PT1M", "offset": 5}]}, ["spec.intervals.0.offset"]),
    ({"intervals": [{"every": "PT1M"}] * 257}, ["spec.intervals"]),
    ({"cron_expressions": ["@daily"], "timezone": "Mars/Olympus"}, ["spec.timezone"]),
    ({"cron_expressions": ["@daily"], "timezone": 1}, ["spec.timezone"]),
    ({"cron_expressions": ["@daily"], "timezone": "+02:00"}, ["spec.timezone"]),
    ({"cron_expressions": ["@daily"], "timezone": "U" * 70}, ["spec.timezone"]),
]


@pytest.mark.parametrize(("spec", "fields"), BAD)
def test_bad_specs(spec: Any, fields: list[str]) -> None:
    assert list(problems(spec)) == fields
