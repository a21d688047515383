"""What a list query means: names resolved, values typed, ill-typed predicates refused (operations 5.2).

The types of custom attributes come from the namespace's definitions; what is not defined is taken by the kind of the value in
the query, and compared with what runs hold of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import get_args

from actors.run.views.status_buckets import BUCKETS, RUNNING, status_bucket
from actors.visibility import grammar
from actors.visibility.grammar import QuerySyntaxError, Value
from actors.visibility.values import coerced, date_time, is_date_time, moment
from store.visibility import conditions as c
from store.visibility.conditions import Condition

_TEXTS: dict[str, c.TextColumn] = {
    "WorkflowId": "workflow_id",
    "RunId": "run_id",
    "WorkflowType": "workflow_type",
    "TaskQueue": "task_queue",
    "BuildId": "compatibility",
    "BusinessKey": "business_key",
}
_TIMES: dict[str, c.TimeColumn] = {"StartTime": "started_at", "CloseTime": "closed_at"}
_STATUS = "Status"
_STATUSES = frozenset(status for statuses in BUCKETS.values() for status in statuses)
_EQUALITY = ("=", "!=")
_ORDERS = frozenset(get_args(c.Order))


class IllTyped(ValueError):
    """A predicate that no run can answer. `at`: where it stands, in characters from 0."""

    def __init__(self, text: str, at: int) -> None:
        super().__init__(text)
        self.at = at


def condition_of(text: str, definitions: Mapping[str, str]) -> Condition:
    """What a query asks for: the meaning of what parses whole, else a part of the workflow id or business key.

    Raises IllTyped, and QueryTooLarge.
    """
    try:
        query = grammar.parse(text)
    except QuerySyntaxError:
        return c.Part(text)
    return meaning(query, definitions)


def meaning(query: grammar.Query, definitions: Mapping[str, str]) -> Condition:
    """The condition a parsed query stands for. Raises IllTyped."""
    match query:
        case grammar.And(parts):
            return c.All(tuple(meaning(part, definitions) for part in parts))
        case grammar.Or(parts):
            return c.Some(tuple(meaning(part, definitions) for part in parts))
        case grammar.Negation(part):
            return c.Not(meaning(part, definitions))
        case grammar.Between(name, low, high, at):
            ends = (grammar.Comparison(name, ">=", low, at), grammar.Comparison(name, "<=", high, at))
            return c.All(tuple(_predicate(end, definitions) for end in ends))
        case _:
            return _predicate(query, definitions)


def _predicate(
    query: grammar.Comparison | grammar.Among | grammar.StartsWith | grammar.IsNull, definitions: Mapping[str, str]
) -> Condition:
    if isinstance(query, grammar.IsNull):
        absent = _absent(query.name)
        return c.Not(absent) if query.negated else absent
    if query.name in _TEXTS:
        return _text(_TEXTS[query.name], query)
    if query.name in _TIMES:
        return _time(_TIMES[query.name], query)
    if query.name == _STATUS:
        return _status(query)
    return _attribute(query, definitions.get(query.name))


def _absent(name: str) -> Condition:
    if name == "CloseTime":
        return c.InBucket(RUNNING)
    if name == _STATUS:
        return c.Some(())
    column = _TEXTS.get(name) or _TIMES.get(name)
    return c.AttributeAbsent(name) if column is None else c.Absent(column)


# -- what every run has ------------------------------------------------------------------------------------------------


def _text(column: c.TextColumn, query: grammar.Comparison | grammar.Among | grammar.StartsWith) -> Condition:
    match query:
        case grammar.Comparison(name, op, value):
            return c.Text(column, op, _string(name, value))  # type: ignore[arg-type]
        case grammar.Among(name, values, negated):
            return c.TextAmong(column, tuple(_string(name, value) for value in values), negated)
        case grammar.StartsWith(name, start):
            return c.TextStart(column, _string(name, start))


def _string(name: str, value: Value) -> str:
    if not isinstance(value.value, str):
        raise IllTyped(f"{name} is compared with a string", value.at)
    return value.value


def _time(column: c.TimeColumn, query: grammar.Comparison | grammar.Among | grammar.StartsWith) -> Condition:
    match query:
        case grammar.Comparison(name, op, value):
            return c.Time(column, op, _micros(name, value))  # type: ignore[arg-type]
        case grammar.Among(name, values, negated):
            if negated:
                return c.All(tuple(c.Time(column, "!=", _micros(name, value)) for value in values))
            return c.Some(tuple(c.Time(column, "=", _micros(name, value)) for value in values))
        case grammar.StartsWith(name, _, at):
            raise IllTyped(f"STARTS_WITH is for strings, and {name} is a date-time", at)


def _micros(name: str, value: Value) -> int:
    found = moment(value.value) if isinstance(value.value, str) else None
    if found is None:
        raise IllTyped(f"{name} is compared with a date-time", value.at)
    return found


def _status(query: grammar.Comparison | grammar.Among | grammar.StartsWith) -> Condition:
    match query:
        case grammar.Comparison(name, op, value, at):
            if op not in _EQUALITY:
                raise IllTyped("Status has no order", at)
            found = _one_status(_string(name, value))
            return found if op == "=" else c.Not(found)
        case grammar.Among(name, values, negated):
            some = c.Some(tuple(_one_status(_string(name, value)) for value in values))
            return c.Not(some) if negated else some
        case grammar.StartsWith(_, _, at):
            raise IllTyped("STARTS_WITH is for strings, and Status is one of a few", at)


def _one_status(value: str) -> Condition:
    """The bucket of this name, else the status; nothing when there is none."""
    word = value.strip().lower()
    if word in BUCKETS:
        return c.InBucket(word)
    if word in _STATUSES:
        return c.HasStatus(word, status_bucket(word))
    return c.Some(())


# -- custom attributes -------------------------------------------------------------------------------------------------


def _attribute(query: grammar.Comparison | grammar.Among | grammar.StartsWith, kind: str | None) -> Condition:
    match query:
        case grammar.Comparison(name, op, value, at):
            if op in _EQUALITY:
                return c.Attribute(name, _equal(name, value, kind), op == "!=")
            return _ordered(query, kind)
        case grammar.Among(name, values, negated):
            return c.Attribute(name, tuple(each for value in values for each in _equal(name, value, kind)), negated)
        case grammar.StartsWith(name, start, at):
            if kind not in (None, "keyword", "text"):
                raise IllTyped(f"STARTS_WITH is for strings, and {name} is of the type {kind}", at)
            return c.AttributeStart(name, _string(name, start))


def _ordered(query: grammar.Comparison, kind: str | None) -> Condition:
    name, op = query.name, query.op
    assert op in _ORDERS
    if kind in ("bool", "keyword_list") or isinstance(query.value.value, bool):
        raise IllTyped(f"{name} is of the type {kind or 'bool'}, which has no order", query.at)
    value = _fitting(name, query.value, kind)
    if isinstance(value, str) and (kind == "datetime" or (kind is None and is_date_time(value))):
        micros = moment(value)
        assert micros is not None
        return c.AttributeMoment(name, op, micros)  # type: ignore[arg-type]
    return c.AttributeOrder(name, op, value)  # type: ignore[arg-type]


def _equal(name: str, value: Value, kind: str | None) -> tuple[c.Scalar, ...]:
    """What equal values are stored as: a date-time as it is written here, or in the form of defined ones."""
    found = _fitting(name, value, kind)
    if isinstance(found, str) and (kind == "datetime" or (kind is None and is_date_time(found))):
        micros = moment(found)
        assert micros is not None
        return (found,) if found == date_time(micros) else (found, date_time(micros))
    return (found,)


def _fitting(name: str, value: Value, kind: str | None) -> c.Scalar:
    """The value in the type of the attribute it is compared with. Raises IllTyped when it is none of that type."""
    given = value.value
    if kind is None:
        return given
    if kind in ("int", "double"):
        number = coerced(given, "double") if isinstance(given, str) else given
        fits = isinstance(number, int | float | Decimal) and not isinstance(number, bool)
        given = Decimal(given.strip()) if fits and isinstance(given, str) else given
    elif kind == "bool":
        given = coerced(given, "bool")
        fits = isinstance(given, bool)
    elif kind == "datetime":
        fits = isinstance(given, str) and moment(given) is not None
    else:
        fits = isinstance(given, str)
    if not fits:
        raise IllTyped(f"{name} is of the type {kind}", value.at)
    return given
