"""Values of search attributes: their types, and what they become where a type is defined (operations 5.4)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.visibility.values import CUSTOM_TYPES, coerced, date_time, inferred, is_date_time, moment, typed

MIDNIGHT = "2026-05-01T00:00:00.000000Z"

COERCED: list[tuple[str, Any, Any]] = [
    ("int", "42", 42),
    ("int", " -7 ", -7),
    ("int", "42.0", 42),
    ("int", 42.0, 42),
    ("int", 42.5, 42.5),
    ("int", "x", "x"),
    ("int", True, True),
    ("int", "9223372036854775807", 9223372036854775807),
    ("int", "9223372036854775808", "9223372036854775808"),
    ("int", 1e300, 1e300),
    ("double", "4.5", 4.5),
    ("double", "1e3", 1000.0),
    ("double", 4, 4.0),
    ("double", (1 << 53) + 1, (1 << 53) + 1),
    ("double", "1e999", "1e999"),
    ("double", "nan", "nan"),
    ("double", False, False),
    ("double", "", ""),
    ("bool", "Yes", True),
    ("bool", "on", True),
    ("bool", "TRUE", True),
    ("bool", 1, True),
    ("bool", "", False),
    ("bool", "off", False),
    ("bool", 0, False),
    ("bool", "no", False),
    ("bool", 2, 2),
    ("bool", "perhaps", "perhaps"),
    ("bool", 1.0, 1.0),
    ("datetime", "2026-05-01", MIDNIGHT),
    ("datetime", "2026-05-01T02:00:00+02:00", MIDNIGHT),
    ("datetime", "2026-05-01 00:00", MIDNIGHT),
    ("datetime", "2026-05-01T00:00:00.1234567Z", "2026-05-01T00:00:00.123456Z"),
    ("datetime", "soon", "soon"),
    ("datetime", 5, 5),
    ("datetime", "2026-13-01T00:00:00Z", "2026-13-01T00:00:00Z"),
    ("datetime", "0001-01-01T00:00:00+23:00", "0001-01-01T00:00:00+23:00"),
    ("keyword", 5, 5),
    ("keyword", "a b", "a b"),
    ("text", "x", "x"),
    ("keyword_list", "x", "x"),
    ("keyword_list", ["x"], ["x"]),
    ("int", ["1"], ["1"]),
    ("int", None, None),
]


@pytest.mark.parametrize(("kind", "value", "expected"), COERCED)
def test_a_defined_type_is_given_where_nothing_is_lost(kind: str, value: Any, expected: Any) -> None:
    found = coerced(value, kind)
    assert (found, type(found)) == (expected, type(expected))
    assert coerced(value, None) is value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (1, "int"),
        (1.5, "double"),
        (["a"], "keyword_list"),
        ("a", "keyword"),
        ("a b", "text"),
        ("a" * 256, "text"),
        ("2026-05-01T00:00:00Z", "datetime"),
        ("2026-05-01T00:00:00.5+02:00", "datetime"),
        ("2026-05-01", "keyword"),
        ("2026-05-41T00:00:00Z", "keyword"),
        ("", "keyword"),
    ],
)
def test_the_type_of_what_is_not_defined(value: Any, kind: str) -> None:
    assert inferred(value) == kind
    assert kind in CUSTOM_TYPES


def test_what_is_not_defined_stays_as_it_came() -> None:
    assert typed({"a": "1", "b": "1", "c": None}, {"a": "int", "d": "bool"}) == {"a": 1, "b": "1", "c": None}


@pytest.mark.parametrize(
    "text",
    ["now", "infinity", "epoch", "2026", "12:00", "", "  ", "2026-05-01T25:00:00Z", "\u0662026-05-01", "2026-05-01T00:00:00"],
)
def test_what_is_no_date_time(text: str) -> None:
    assert not is_date_time(text)


def test_the_stored_form_is_read_back() -> None:
    for micros in (0, -1, 1_777_593_600_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999):
        assert moment(date_time(micros)) == micros
        assert len(date_time(micros)) == 27
