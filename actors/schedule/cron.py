"""Cron expressions: five fields in the dialect of contract operations 1.2, and when they come next in a zone.

`parse` reads an expression into the minutes, hours, days and months it allows; `Cron.next_after` looks for the next instant.
Times are seconds since the Unix epoch.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from actors.schedule import zones
from actors.schedule.zones import DAY, HOUR

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

# Eight years: from one 29 February to the next over a year that has none.
HORIZON_DAYS = 8 * 366

_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY = date(2, 1, 1).toordinal() - _EPOCH
_LAST_DAY = date(9990, 1, 1).toordinal() - _EPOCH

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_SPACE = re.compile(r"[ \t\n\v\f\r]+")


class BadCron(ValueError):
    """The expression is not of the dialect; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Days:
    """Which days of a month are allowed. Weekdays count from Sunday, 0. A field that is None does not restrict.

    `last`: the last day of the month; `nearest`: the working day nearest to that day. `nth`: pairs of a weekday and its number
    in the month; `last_weekdays`: the last such weekday of the month.
    """

    days: frozenset[int] | None = None
    last: bool = False
    nearest: int = 0
    weekdays: frozenset[int] | None = None
    nth: frozenset[tuple[int, int]] = frozenset()
    last_weekdays: frozenset[int] = frozenset()

    def of(self, year: int, month: int) -> list[int]:
        """The allowed days of a month in order; of two restricted fields either one allows a day."""
        first, length = calendar.monthrange(year, month)
        first = (first + 1) % 7
        if self.days is None and self.weekdays is None:
            return list(range(1, length + 1))
        allowed: set[int] = set()
        if self.days is not None:
            allowed.update(day for day in self.days if day <= length)
            if self.last:
                allowed.add(length)
            if self.nearest:
                allowed.update(_working_day(self.nearest, first, length))
        if self.weekdays is not None:
            for day in range(1, length + 1):
                weekday = (first + day - 1) % 7
                if (
                    weekday in self.weekdays
                    or (weekday, (day + 6) // 7) in self.nth
                    or (day + 7 > length and weekday in self.last_weekdays)
                ):
                    allowed.add(day)
        return sorted(allowed)


def _working_day(day: int, first: int, length: int) -> list[int]:
    """The day from Monday to Friday nearest to `day`, none if the month has no such day."""
    if day <= length:
        for near in (day, day - 1, day + 1, day - 2, day + 2):
            if 1 <= near <= length and (first + near - 1) % 7 not in (0, 6):
                return [near]
    return []


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression. `every_hour`: its hour is `*` or `*/n`, so it comes twice in an hour that is there twice."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    days: Days
    every_hour: bool

    def next_after(self, at: int, zone: str) -> int | None:
        """The first instant strictly after `at` that the expression names in a known zone, None within eight years.

        A local time that a clock put forward leaves out comes as much later as the clock was put forward.
        """
        today = at // DAY
        if not _FIRST_DAY <= today <= _LAST_DAY:
            return None
        limit = min(today + HORIZON_DAYS, _LAST_DAY)
        low, local, searched = at + 1, -1, None
        while True:
            piece = zones.piece_at(zone, low)
            jump = piece.offset - piece.before
            left_out = None
            if jump > 0 and low < piece.start + jump:
                found = self._first(low + piece.before, limit)
                if found is not None and found < piece.start + piece.offset:
                    left_out = found - piece.before
            if jump < 0 and not self.every_hour:
                low = max(low, piece.start - jump)  # what is there twice came the first time
            if searched is None or low + piece.offset < searched or local < low + piece.offset:
                searched = low + piece.offset
                found = self._first(searched, limit)
                if found is None:
                    return left_out
                local = found
            if local - piece.offset < piece.end:
                return local - piece.offset if left_out is None else min(left_out, local - piece.offset)
            if left_out is not None:
                return left_out
            low = piece.end

    def _first(self, local: int, limit: int) -> int | None:
        """The first local time at or after `local` that is named, and on the day `limit` at the latest."""
        day, minute = divmod(-(-local // 60), 24 * 60)
        today = date.fromordinal(day + _EPOCH)
        year, month, least = today.year, today.month, today.day
        if month in self.months:
            days = self.days.of(year, month)
            place = bisect_left(days, least)
            if place < len(days) and days[place] == least:
                at = self._minute(minute)
                if at is not None:
                    return day * DAY + at * 60
                place += 1
            if place < len(days):
                return self._start_of(day - least + days[place])
        while day <= limit:
            day += calendar.monthrange(year, month)[1] - least + 1
            year, month, least = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
            if month in self.months:
                days = self.days.of(year, month)
                if days:
                    found = day + days[0] - 1
                    return self._start_of(found) if found <= limit else None
        return None

    def _start_of(self, day: int) -> int:
        return day * DAY + self.hours[0] * HOUR + self.minutes[0] * 60

    def _minute(self, least: int) -> int | None:
        """The first named minute of a day from `least` on."""
        hour, minute = divmod(least, 60)
        place = bisect_left(self.hours, hour)
        if place < len(self.hours) and self.hours[place] == hour:
            within = bisect_left(self.minutes, minute)
            if within < len(self.minutes):
                return hour * 60 + self.minutes[within]
            place += 1
        return self.hours[place] * 60 + self.minutes[0] if place < len(self.hours) else None


# -- reading ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def value(self, text: str) -> int:
        """A number or a name."""
        if text in self.names:
            return self.low + self.names.index(text)
        if not _NUMBER.fullmatch(text) or not self.low <= int(text) <= self.high:
            raise BadCron(f"The {self.name} field does not allow [{text}].")
        return int(text)

    def span(self, text: str) -> range:
        """`*` or an ascending range."""
        if text == "*":
            return range(self.low, self.high + 1)
        start, _, end = text.partition("-")
        least, most = self.value(start), self.value(end)
        if most == 0 and end == "SUN" and least > 0:
            most = 7  # FRI-SUN: Sunday ends the week
        if most < least:
            raise BadCron(f"The {self.name} field has the descending range [{text}].")
        return range(least, most + 1)

    def term(self, text: str) -> range:
        """One member of a list, without the words that only the fields of days know."""
        if "/" in text:
            span, _, step = text.partition("/")
            if span != "*" and "-" not in span:
                raise BadCron(f"The {self.name} field has a step without a range [{text}].")
            if not _NUMBER.fullmatch(step) or int(step) == 0:
                raise BadCron(f"The {self.name} field has no such step [{text}].")
            return self.span(span)[:: int(step)]
        if text == "*" or "-" in text:
            return self.span(text)
        value = self.value(text)
        return range(value, value + 1)

    def values(self, text: str) -> set[int]:
        """A list of members."""
        return {value for member in text.split(",") for value in self.term(member)}


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day-of-month", 1, 31)
_MONTH = _Field("month", 1, 12, MONTHS)
_WEEKDAY = _Field("day-of-week", 0, 7, WEEKDAYS)


@lru_cache(maxsize=4096)
def parse(expression: str) -> Cron:
    """Read an expression; raises `BadCron`."""
    text = expression.strip(" \t\n\v\f\r")
    fields = _SPACE.split(MACROS.get(text.lower(), text).upper())
    if len(fields) != 5 or not text.isascii():
        raise BadCron("A cron expression has five fields.")
    minute, hour, day, month, weekday = fields
    return Cron(
        minutes=tuple(sorted(_MINUTE.values(minute))),
        hours=tuple(sorted(_HOUR.values(hour))),
        months=frozenset(_MONTH.values(month)),
        days=_days(day, weekday),
        every_hour=hour == "*" or (hour.startswith("*/") and "," not in hour),
    )


def _days(day: str, weekday: str) -> Days:
    days, last, nearest = _days_of_month(day)
    weekdays: set[int] = set()
    nth: set[tuple[int, int]] = set()
    last_weekdays: set[int] = set()
    restricted = weekday not in ("*", "?")
    for member in weekday.split(",") if restricted else ():
        if "#" in member:
            name, _, number = member.partition("#")
            if number not in ("1", "2", "3", "4", "5"):
                raise BadCron(f"The day-of-week field does not allow [{member}].")
            nth.add((_WEEKDAY.value(name) % 7, int(number)))
        elif member.endswith("L"):
            last_weekdays.add(_WEEKDAY.value(member[:-1]) % 7)
        else:
            weekdays.update(value % 7 for value in _WEEKDAY.term(member))
    return Days(
        days=days,
        last=last,
        nearest=nearest,
        weekdays=frozenset(weekdays) if restricted else None,
        nth=frozenset(nth),
        last_weekdays=frozenset(last_weekdays),
    )


def _days_of_month(text: str) -> tuple[frozenset[int] | None, bool, int]:
    """The days, whether the last one, and the day whose nearest working day it is."""
    if text in ("*", "?"):
        return None, False, 0
    if text == "L":
        return frozenset(), True, 0
    if text.endswith("W"):
        return frozenset(), False, _DAY.value(text[:-1])
    return frozenset(_DAY.values(text)), False, 0
