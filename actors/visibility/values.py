"""The types of search attributes: what a value is, and what it is made to be where its name is defined (operations 5.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

SYSTEM_ATTRIBUTES = {
    "WorkflowType": "keyword",
    "WorkflowId": "keyword",
    "RunId": "keyword",
    "Status": "keyword",
    "StartTime": "datetime",
    "CloseTime": "datetime",
    "TaskQueue": "keyword",
    "BuildId": "keyword",
}
CUSTOM_TYPES = ("keyword", "text", "int", "double", "bool", "datetime", "keyword_list")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}\Z")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,64}(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,3})?\Z")
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})\Z"
)
_FRACTION = re.compile(r"[.,]([0-9]+)")
_INT8 = range(-(1 << 63), 1 << 63)
_MOST_EXACT = 1 << 53  # up to here a double holds every integer
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off", ""), False),
}


def is_date_time(text: str) -> bool:
    """Whether a text is an RFC 3339 date-time, which is what makes a value of no defined type one."""
    return _RFC_3339.match(text) is not None and moment(text) is not None


def moment(text: str) -> int | None:
    """The microseconds since the epoch that a text stands for: any ISO date-time or date, UTC unless it says; None if none."""
    digits = _FRACTION.sub(lambda found: f".{found[1][:6]:0<6}", text.strip(), count=1)
    try:
        found = datetime.fromisoformat(digits.upper())
        return (found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def date_time(micros: int) -> str:
    """The stored form of a date-time: form A of operations 0."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def inferred(value: Any) -> str:
    """The type of a value whose name is not defined."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "double"
    if isinstance(value, list):
        return "keyword_list"
    if is_date_time(value):
        return "datetime"
    return "keyword" if len(value) <= 255 and not re.search(r"\s", value) else "text"


def typed(attributes: Mapping[str, Any], definitions: Mapping[str, str]) -> dict[str, Any]:
    """The attributes as they are stored: what is defined in its type where nothing is lost, everything else as it came."""
    return {key: coerced(value, definitions.get(key)) for key, value in attributes.items()}


def coerced(value: Any, kind: str | None) -> Any:
    """A value in the type defined for it; the value itself when there is none, or when something would be lost."""
    if kind is None or value is None or isinstance(value, list):
        return value
    reader = _READERS.get(kind)
    found = None if reader is None else reader(value)
    return value if found is None else found


def _int(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if _WHOLE.match(text) else _double(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MOST_EXACT:
        value = int(value)
    return value if isinstance(value, int) and value in _INT8 else None


def _double(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not _DECIMAL.match(text):
            return None
        value = float(text)
    if isinstance(value, int):
        return float(value) if abs(value) <= _MOST_EXACT else None
    return value if isinstance(value, float) and abs(value) != float("inf") else None


def _bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, str | int) else None


def _date_time(value: Any) -> str | None:
    micros = moment(value) if isinstance(value, str) else None
    return None if micros is None else date_time(micros)


_READERS = {"int": _int, "double": _double, "bool": _bool, "datetime": _date_time}
