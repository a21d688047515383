"""The one place where a condition becomes SQL. Whatever a caller sent is a bound parameter; the texts here are constants.

Each leaf is written so that an index can serve it where one does (migration 0008), and the planner, which sees the values
(`store.connections.pools`: searches are planned anew each time), chooses between the rarest match and the newest runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import msgspec

from store.visibility.conditions import (
    Absent,
    All,
    Attribute,
    AttributeAbsent,
    AttributeMoment,
    AttributeOrder,
    AttributeStart,
    Condition,
    HasStatus,
    InBucket,
    Not,
    Order,
    Part,
    Scalar,
    Some,
    Text,
    TextAmong,
    TextStart,
    Time,
    TimeColumn,
)

_BUCKETS = {
    "running": "closed_reason IS NULL",
    "completed": "closed_reason IN ('completed', 'continued')",
    "failed": "closed_reason NOT IN ('completed', 'continued')",
}

RUNS = "runs"
# `run_status` has the bucket and the end of a run, in the order of lists.
RUNS_BY_STATUS = "runs JOIN run_status AS s (in_namespace, bucket, began_at, of_run, ended_at, of_type) ON run_id = of_run"

# What can be read as a date-time with an offset; the cast of anything else would be an error of the whole statement.
_DATE_TIME = r"'^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)$'"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 and 9999

_OPERATORS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_json = msgspec.json.Encoder(decimal_format="number").encode

Bind = Callable[[object], str]


class Statement:
    """A statement while its text is made: what it reads, asks of a row, and is given.

    `by_status`: enter by `run_status`. Both ways find the same runs.
    """

    __slots__ = ("args", "asked", "run_id", "source", "started_at")

    def __init__(self, namespace: str, condition: Condition | None, *, by_status: bool = False) -> None:
        self.args: list[object] = []
        self.source = RUNS_BY_STATUS if by_status else RUNS
        self.started_at, self.run_id = ("began_at", "of_run") if by_status else ("started_at", "run_id")
        self.asked = [f"{'in_namespace' if by_status else 'namespace'} = {self.bind(namespace)}"]
        for part in [] if condition is None else _conjuncts(condition):
            if by_status and isinstance(part, InBucket | HasStatus):
                self.asked.append(f"bucket = {self.bind(part.bucket)}")
            if by_status and isinstance(part, Text) and part.column == "workflow_type" and part.op == "=":
                self.asked.append(f"of_type = {self.bind(part.value)}")
            elif by_status and isinstance(part, Time):
                self.asked.append(_time(part, _STATUS_COLUMNS, self.bind))
            elif not (by_status and isinstance(part, InBucket)):
                self.asked.append(_sql(part, self.bind))

    def bind(self, value: object) -> str:
        """The place of a further argument."""
        self.args.append(value)
        return f"${len(self.args)}"


def has_status(condition: Condition | None) -> bool:
    """Whether entering by `run_status` may be of use: all runs wanted are of a bucket with few, or closed at some time."""
    return condition is not None and any(map(_is_of_status, _conjuncts(condition)))


def _is_of_status(part: Condition) -> bool:
    if isinstance(part, InBucket | HasStatus):
        return part.bucket != "completed"
    return isinstance(part, Time) and part.column == "closed_at"


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    """The parts that must all be true."""
    if isinstance(condition, All):
        for part in condition.parts:
            yield from _conjuncts(part)
    else:
        yield condition


def _sql(condition: Condition, bind: Bind) -> str:
    match condition:
        case All(parts):
            return _joined(parts, " AND ", "true", bind)
        case Some(parts):
            return _joined(parts, " OR ", "false", bind)
        case Not(part):
            return _negated(part, bind)
        case Text(column, op, value):
            # Ranges go by code points; equality does not depend on a collation, and uses the index of its column.
            collation = "" if op in ("=", "!=") else ' COLLATE "C"'
            return f"{column}{collation} {_OPERATORS[op]} {bind(value)}"
        case TextAmong(column, values, negated):
            return f"{column} <> ALL ({bind(list(values))})" if negated else f"{column} = ANY ({bind(list(values))})"
        case TextStart(column, start):
            return f"starts_with({column}, {bind(start)})"
        case Time():
            return _time(condition, _COLUMNS, bind)
        case Absent(column):
            return f"{column} IS NULL"
        case InBucket(bucket):
            return _BUCKETS[bucket]
        case HasStatus(status, _):
            return f"status = {bind(status)}"
        case Part(text):
            place = bind(text)
            return f"(strpos(lower(workflow_id), lower({place})) > 0 OR strpos(lower(business_key), lower({place})) > 0)"
        case _:
            return _attribute(condition, bind)


def _attribute(condition: Attribute | AttributeOrder | AttributeMoment | AttributeStart | AttributeAbsent, bind: Bind) -> str:
    match condition:
        case Attribute(name, values, negated):
            held = " OR ".join(_held(name, value, bind) for value in values) or "false"
            if negated:
                return f"(jsonb_exists(search_attributes, {bind(name)}) AND NOT ({held}))"
            # Runs without attributes are not in the index.
            return f"(search_attributes <> '{{}}' AND ({held}))"
        case AttributeOrder(name, op, value):
            place = bind(name)
            if isinstance(value, str):
                compared = f'(search_attributes ->> {place}) COLLATE "C" {op} {bind(value)}'
                return _where_is(place, "string", compared)
            # Compared as JSON: that is by value, and fails for nothing.
            return _where_is(place, "number", f"search_attributes -> {place} {op} {bind(_text(value))}::jsonb")
        case AttributeMoment(name, op, micros):
            return _moment_is(bind(name), op, _moment(micros), bind)
        case AttributeStart(name, start):
            place = bind(name)
            return _where_is(place, "string", f"starts_with(search_attributes ->> {place}, {bind(start)})")
        case AttributeAbsent(name):
            return f"NOT jsonb_exists(search_attributes, {bind(name)})"
        case _:
            assert_never(condition)


def _joined(parts: tuple[Condition, ...], word: str, empty: str, bind: Bind) -> str:
    if not parts:
        return empty
    return f"({word.join(_sql(part, bind) for part in parts)})"


def _negated(condition: Condition, bind: Bind) -> str:
    """What is not true of a run is false of it, NULL or not. `NOT` goes down to the leaves, where indexes may serve."""
    match condition:
        case All(parts):
            return _sql(Some(tuple(Not(part) for part in parts)), bind)
        case Some(parts):
            return _sql(All(tuple(Not(part) for part in parts)), bind)
        case Not(part):
            return _sql(part, bind)
        case InBucket("running"):
            return "closed_reason IS NOT NULL"
        case AttributeAbsent(name):
            return f"jsonb_exists(search_attributes, {bind(name)})"
        case _:
            return f"({_sql(condition, bind)}) IS NOT TRUE"


_COLUMNS: dict[TimeColumn, str] = {"started_at": "started_at", "closed_at": "closed_at"}
_STATUS_COLUMNS: dict[TimeColumn, str] = {"started_at": "began_at", "closed_at": "ended_at"}


def _time(condition: Time, columns: dict[TimeColumn, str], bind: Bind) -> str:
    place = bind(condition.micros)
    compared = f"{columns[condition.column]} {_OPERATORS[condition.op]} {place}"
    if condition.column == "closed_at" and condition.op in ("=", "<", "<="):
        # No run closes before it starts: the list, which is in the order of starts, is entered where such runs can be.
        return f"({compared} AND {columns['started_at']} <= {place})"
    return compared


def _held(name: str, value: Scalar, bind: Bind) -> str:
    """The attribute is this value, or a list that holds it."""
    is_value = f"search_attributes @> {bind(_text({name: value}))}::jsonb"
    return f"{is_value} OR search_attributes @> {bind(_text({name: [value]}))}::jsonb" if isinstance(value, str) else is_value


def _moment_is(place: str, op: Order, bound: datetime, bind: Bind) -> str:
    text = f"(search_attributes ->> {place})"
    # Most are in UTC, as those of defined attributes are: up to the second these compare as texts, which refuses most of them.
    second = bind(f"{bound:%Y-%m-%dT%H:%M:%S}".rjust(19, "0"))
    beyond = ">" if op in ("<", "<=") else "<"
    is_beyond = f"{text} LIKE '____-__-__T__:__:__%Z' AND left({text}, 19) COLLATE \"C\" {beyond} {second}"
    readable = f"{text} ~ {_DATE_TIME} AND pg_input_is_valid({text}, 'timestamptz')"
    instant = f"CASE WHEN {is_beyond} THEN NULL WHEN {readable} THEN {text}::timestamptz END"
    return _where_is(place, "string", f"{instant} {op} {bind(bound)}::timestamptz")


def _where_is(place: str, kind: str, compared: str) -> str:
    """`compared` where the attribute is of a kind of JSON, as a CASE, of which the planner supposes that it is true of many.

    It knows little of what is in attributes; were it to suppose few, it would collect and sort them all, without an index.
    """
    return f"(CASE WHEN jsonb_typeof(search_attributes -> {place}) = '{kind}' THEN {compared} END)"


def _text(value: Any) -> str:
    return _json(value).decode()


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=min(max(micros, _EARLIEST), _LATEST))
