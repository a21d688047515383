"""What a list of runs may be filtered by, names and types resolved: the tree that `store.visibility.sql` turns into SQL.

A condition is true or false of a run, never unknown: a predicate on something the run does not have is false, and `Not` of it
true (operations 5.2). Times are microseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Order = Literal["<", "<=", ">", ">="]
Compare = Literal["=", "!=", "<", "<=", ">", ">="]
TextColumn = Literal["workflow_id", "run_id", "workflow_type", "task_queue", "compatibility", "business_key"]
TimeColumn = Literal["started_at", "closed_at"]
Scalar = str | int | Decimal | bool


@dataclass(frozen=True, slots=True)
class All:
    """Every part is true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part is true. Without parts: false."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Text:
    """A text column compared, by code points and case-sensitively. `!=` is false where there is no text."""

    column: TextColumn
    op: Compare
    value: str


@dataclass(frozen=True, slots=True)
class TextAmong:
    """A text column with one of these values; with none of them if `negated`, and then some text all the same."""

    column: TextColumn
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class TextStart:
    """A text column that begins with `start`."""

    column: TextColumn
    start: str


@dataclass(frozen=True, slots=True)
class Time:
    """A time column compared; false while it has no time."""

    column: TimeColumn
    op: Compare
    micros: int


@dataclass(frozen=True, slots=True)
class Absent:
    """A column without a value."""

    column: TextColumn | TimeColumn


@dataclass(frozen=True, slots=True)
class InBucket:
    """One of the status buckets of control-plane 5: `running` (open), `completed`, `failed`."""

    bucket: str


@dataclass(frozen=True, slots=True)
class HasStatus:
    """Exactly this status, which belongs to this bucket."""

    status: str
    bucket: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """A search attribute that is one of these values, or a list that holds one of them.

    `negated`: it is there, and is and holds none of them. Numbers of any kind compare by value.
    """

    name: str
    values: tuple[Scalar, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AttributeOrder:
    """A text or a number on this side of `value`, which is of the same kind."""

    name: str
    op: Order
    value: str | int | Decimal


@dataclass(frozen=True, slots=True)
class AttributeMoment:
    """A date-time on this side of an instant, whatever its offset."""

    name: str
    op: Order
    micros: int


@dataclass(frozen=True, slots=True)
class AttributeStart:
    """A text that begins with `start`."""

    name: str
    start: str


@dataclass(frozen=True, slots=True)
class AttributeAbsent:
    """No search attribute of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the workflow id or of the business key, in any letter case (control-plane 5.3)."""

    text: str


Condition = (
    All
    | Some
    | Not
    | Text
    | TextAmong
    | TextStart
    | Time
    | Absent
    | InBucket
    | HasStatus
    | Attribute
    | AttributeOrder
    | AttributeMoment
    | AttributeStart
    | AttributeAbsent
    | Part
)
