"""A second way to the next occurrence of a cron expression, to compare `actors.schedule.cron` with.

It reads the expression as text at every question and walks over the local calendar, day by day and minute by minute. Where a
local time is left out or there twice it asks Python's time zones (PEP 495). It shares nothing with the code it judges but the
zone files. For valid expressions only.
"""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from actors.schedule.zones import zone
from tests.schedule.zone_files import changes

HORIZON = 8 * 366  # days

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
NAMES = {name: str(value) for names, first in ((MONTHS, 1), (WEEKDAYS, 0)) for value, name in enumerate(names, first)}
MACROS = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}


def number(text: str) -> int:
    return int(NAMES.get(text, text))


@cache
def allows(field: str, value: int, least: int) -> bool:
    """Whether a field of lists, ranges and steps allows a value; `least`: the first one of the field, from which `*` counts."""
    for member in field.split(","):
        span, _, step = member.partition("/")
        every = int(step or 1)
        if span == "*":
            if (value - least) % every == 0:
                return True
        elif "-" in span:
            low, high = (number(each) for each in span.split("-"))
            if span.endswith("-SUN") and low:
                high = 7
            if low <= value <= high and (value - low) % every == 0:
                return True
        elif number(span) == value:
            return True
    return False


def day_of_month_allows(field: str, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    if field == "L":
        return day.day == length
    if field.endswith("W"):
        wanted = int(field[:-1])
        if wanted > length:
            return False
        for near in (0, -1, 1, -2, 2):
            if 1 <= wanted + near <= length and date(day.year, day.month, wanted + near).weekday() < 5:
                return day.day == wanted + near
    return allows(field, day.day, 1)


def day_of_week_allows(field: str, day: date) -> bool:
    sunday_first = (day.weekday() + 1) % 7
    same = (0, 7) if sunday_first == 0 else (sunday_first,)
    for member in field.split(","):
        if "#" in member:
            name, _, nth = member.partition("#")
            if number(name) in same and sum(1 for each in range(day.day, 0, -7)) == int(nth):
                return True
        elif member.endswith("L"):
            if number(member[:-1]) in same and (day + timedelta(days=7)).month != day.month:
                return True
        elif any(allows(member, each, 0) for each in same):
            return True
    return False


def day_allowed(month: str, day_of_month: str, day_of_week: str, day: date) -> bool:
    if not allows(month, day.month, 1):
        return False
    free = ("*", "?")
    if day_of_month in free and day_of_week in free:
        return True
    return (day_of_month not in free and day_of_month_allows(day_of_month, day)) or (
        day_of_week not in free and day_of_week_allows(day_of_week, day)
    )


def next_after(expression: str, name: str, at: int) -> int | None:
    """The first instant after `at`, in seconds since the epoch, that the expression names in a zone."""
    expression = expression.upper()
    minute, hour, day_of_month, month, day_of_week = MACROS.get(expression, expression).split()
    twice = hour == "*" or (hour.startswith("*/") and "," not in hour)
    place, jump = zone(name), longest_jump(name)
    here = datetime.fromtimestamp(at, place).replace(tzinfo=None)
    minutes = [each for each in range(60) if allows(minute, each, 0)]
    last = date(1970, 1, 1) + timedelta(days=at // 86_400 + HORIZON)
    best: int | None = None
    end = datetime.max  # what is further on is later than the best one, in any zone
    day = here.date() - timedelta(days=2)
    while day <= last and datetime(day.year, day.month, day.day) <= end:
        if day_allowed(month, day_of_month, day_of_week, day):
            for at_hour in (each for each in range(24) if allows(hour, each, 0)):
                start = datetime(day.year, day.month, day.day, at_hour)
                if not here - jump - timedelta(hours=1) < start <= end:
                    continue
                for instant in _instants(start, minutes, place, twice=twice):
                    if instant > at and (best is None or instant < best):
                        best = instant
                        end = min(end, start + jump + timedelta(hours=1))
        day += timedelta(days=1)
    return best


@cache
def longest_jump(name: str) -> timedelta:
    """The furthest that clocks of a zone were ever put forward or back, or will be."""
    return timedelta(seconds=max([7200, *(abs(after - before) for _, before, after in changes(name))]))


def _instants(hour: datetime, minutes: list[int], place: ZoneInfo, *, twice: bool) -> list[int]:
    """All instants of an hour that is allowed."""
    found = []
    for minute in minutes:
        wall = hour.replace(minute=minute, tzinfo=place)
        found.append(_instant(wall))
        if twice:
            second = wall.replace(fold=1)
            if _offset(second) < _offset(wall):
                found.append(_instant(second))
    return found


def _offset(wall: datetime) -> timedelta:
    offset = wall.utcoffset()
    assert offset is not None
    return offset


def _instant(wall: datetime) -> int:
    """A local time that is left out counts with the offset from before: so much later as the clock was put forward."""
    return (wall.replace(tzinfo=UTC) - _offset(wall) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
