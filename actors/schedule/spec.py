"""When a schedule is due: its cron expressions and intervals together (contract operations 1.1, 1.2).

`problems` says what is wrong with a spec a client sent, field by field; `compiled` makes one that `next_after` and `between`
can be asked of. Times are microseconds since the Unix epoch, occurrences whole seconds of them.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from actors.schedule import cron, zones
from actors.schedule.cron import BadCron, Cron

SECOND = 1_000_000
MOST_ENTRIES = 256  # of cron expressions, and of intervals: each costs a search
LONGEST_TEXT = 64  # of a duration and of a zone's name

_LAST_SECOND = 253_370_764_800  # 9999-01-01: what is due later is due never

_DURATION = re.compile(
    r"P(?=[0-9T])(?:([0-9]+)Y)?(?:([0-9]+)M)?(?:([0-9]+)W)?(?:([0-9]+)D)?"
    r"(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?",
    re.ASCII,
)
_UNITS = (365 * 86_400, 30 * 86_400, 7 * 86_400, 86_400, 3600, 60, 1)


def duration(text: str) -> int | None:
    """An ISO-8601 duration in whole seconds, a year as 365 days and a month as 30; None for anything else."""
    found = _DURATION.fullmatch(text) if len(text) <= LONGEST_TEXT else None
    if found is None:
        return None
    return sum(int(count) * unit for count, unit in zip(found.groups(), _UNITS, strict=True) if count)


@dataclass(frozen=True, slots=True)
class Interval:
    """A grid of instants from the epoch on, in seconds."""

    every: int
    offset: int = 0

    def next_after(self, at: int) -> int | None:
        """The first grid point strictly after `at`."""
        if self.every <= 0:
            return None
        return self.offset + ((at - self.offset) // self.every + 1) * self.every


@dataclass(frozen=True, slots=True)
class Spec:
    """A spec that can be evaluated."""

    crons: tuple[Cron, ...]
    intervals: tuple[Interval, ...]
    zone: str

    def next_after(self, at: int) -> int | None:
        """The earliest occurrence strictly after `at`, None when there is none (within eight years, for cron)."""
        second = at // SECOND
        found = [each.next_after(second, self.zone) for each in self.crons]
        found += [each.next_after(second) for each in self.intervals]
        first = min((each for each in found if each is not None), default=None)
        return None if first is None or first > _LAST_SECOND else first * SECOND

    def between(self, start: int, end: int) -> Iterator[int]:
        """The occurrences from `start` to before `end`, oldest first."""
        sources: list[Cron | Interval] = [*self.crons, *self.intervals]
        apart = [self._each(source, start, end) for source in sources]
        last = None
        for at in heapq.merge(*apart):
            if at != last:
                yield at
            last = at

    def _each(self, source: Cron | Interval, start: int, end: int) -> Iterator[int]:
        alone = Spec((source,), (), self.zone) if isinstance(source, Cron) else Spec((), (source,), self.zone)
        at = alone.next_after(start - 1)
        while at is not None and at < end:
            yield at
            at = alone.next_after(at)


def compiled(spec: dict[str, Any]) -> Spec:
    """The spec of a schedule, checked before (`problems`); what cannot be read contributes nothing."""
    crons, intervals = [], []
    for text in spec.get("cron_expressions") or ():
        try:
            crons.append(cron.parse(text))
        except BadCron:
            continue
    for each in spec.get("intervals") or ():
        every = duration(each["every"])
        if every:
            intervals.append(Interval(every, duration(each.get("offset") or "") or 0))
    return Spec(tuple(crons), tuple(intervals), zone_of(spec) or zones.DEFAULT)


def zone_of(spec: dict[str, Any]) -> str | None:
    """The zone's name as the database spells it, None when there is no such zone."""
    return zones.known(spec.get("timezone") or zones.DEFAULT)


def problems(spec: Any) -> dict[str, list[str]]:
    """What is wrong with a spec: texts by field (`spec.intervals.0.every`), empty when nothing is. Unknown keys are allowed."""
    if not isinstance(spec, dict):
        return {"spec": ["The spec field must be an object."]}
    found: dict[str, list[str]] = {}
    crons = _entries(spec, "cron_expressions", found)
    intervals = _entries(spec, "intervals", found)
    if not found and not crons and not intervals:
        found["spec"] = ["The spec must contain at least one cron expression or interval."]
    for index, text in enumerate(crons):
        wrong = _cron_problem(text)
        if wrong is not None:
            found[f"spec.cron_expressions.{index}"] = [wrong]
    for index, each in enumerate(intervals):
        _interval_problems(f"spec.intervals.{index}", each, found)
    zone = spec.get("timezone")
    if zone is not None and not (isinstance(zone, str) and len(zone) <= LONGEST_TEXT and zone_of(spec)):
        found["spec.timezone"] = ["The spec.timezone field must be a valid timezone."]
    return found


def _entries(spec: dict[str, Any], key: str, found: dict[str, list[str]]) -> list[Any]:
    entries = spec.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list):
        found[f"spec.{key}"] = [f"The spec.{key} field must be a list."]
        return []
    if len(entries) > MOST_ENTRIES:
        found[f"spec.{key}"] = [f"The spec.{key} field must not have more than {MOST_ENTRIES} items."]
        return []
    return entries


def _cron_problem(text: Any) -> str | None:
    if not isinstance(text, str):
        return "The cron expression must be a string."
    try:
        cron.parse(text)
    except BadCron as error:
        return f"The cron expression is invalid: {error}"
    return None


def _interval_problems(field: str, each: Any, found: dict[str, list[str]]) -> None:
    if not isinstance(each, dict):
        found[field] = [f"The {field} field must be an object."]
        return
    every = each.get("every")
    if every is None:
        found[f"{field}.every"] = [f"The {field}.every field is required."]
    elif not isinstance(every, str) or not duration(every):
        found[f"{field}.every"] = [f"The {field}.every field must be a positive ISO-8601 duration."]
    offset = each.get("offset")
    if offset is not None and (not isinstance(offset, str) or duration(offset) is None):
        found[f"{field}.offset"] = [f"The {field}.offset field must be an ISO-8601 duration."]
