"""List queries as text: what parses, what it means, and where it is wrong (operations 5.2)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.visibility import grammar
from actors.visibility.grammar import QuerySyntaxError, QueryTooLarge, parse
from actors.visibility.meaning import IllTyped, condition_of
from store.visibility import conditions as c

TYPES = {
    "Count": "int",
    "Price": "double",
    "Vip": "bool",
    "Due": "datetime",
    "Tags": "keyword_list",
    "Note": "text",
    "Key": "keyword",
}
INSTANT = 1_777_593_600_000_000  # 2026-05-01T00:00:00Z

MEANINGS: list[tuple[str, c.Condition]] = [
    ('WorkflowType = "order"', c.Text("workflow_type", "=", "order")),
    ("workflowtype = 'order'", c.Attribute("workflowtype", ("order",))),
    ('WorkflowId STARTS_WITH "order-"', c.TextStart("workflow_id", "order-")),
    ('TaskQueue NOT IN ("a", "b")', c.TextAmong("task_queue", ("a", "b"), True)),
    ("BuildId is null", c.Absent("compatibility")),
    ("BusinessKey IS NOT NULL", c.Not(c.Absent("business_key"))),
    ('RunId >= "01"', c.Text("run_id", ">=", "01")),
    ('Status = "RUNNING"', c.InBucket("running")),
    ('Status = "failed"', c.InBucket("failed")),
    ('Status = "Cancelled"', c.HasStatus("cancelled", "failed")),
    ('Status = "waiting"', c.HasStatus("waiting", "running")),
    ('Status != "completed"', c.Not(c.InBucket("completed"))),
    ('Status IN ("completed", "terminated")', c.Some((c.InBucket("completed"), c.HasStatus("terminated", "failed")))),
    ('Status = "no such"', c.Some(())),
    ("Status IS NULL", c.Some(())),
    ('StartTime > "2026-05-01T00:00:00Z"', c.Time("started_at", ">", INSTANT)),
    ('StartTime <= "2026-05-01T02:00:00+02:00"', c.Time("started_at", "<=", INSTANT)),
    ('CloseTime = "2026-05-01"', c.Time("closed_at", "=", INSTANT)),
    ("CloseTime IS NULL", c.InBucket("running")),
    (
        'CloseTime BETWEEN "2026-05-01" AND "2026-05-01T00:00:00.000001Z"',
        c.All((c.Time("closed_at", ">=", INSTANT), c.Time("closed_at", "<=", INSTANT + 1))),
    ),
    ('CustomerId="42" and Status="running"', c.All((c.Attribute("CustomerId", ("42",)), c.InBucket("running")))),
    ("a = 1 OR b = 2 AND c = 3", c.Some((c.Attribute("a", (1,)), c.All((c.Attribute("b", (2,)), c.Attribute("c", (3,))))))),
    ("(a = 1 OR b = 2) AND c = 3", c.All((c.Some((c.Attribute("a", (1,)), c.Attribute("b", (2,)))), c.Attribute("c", (3,))))),
    ("not a = true", c.Not(c.Attribute("a", (True,)))),
    ("a != -2.50", c.Attribute("a", (Decimal("-2.50"),), True)),
    ("a IN (1, 'x', FALSE)", c.Attribute("a", (1, "x", False))),
    (
        "a BETWEEN 1 AND 2.5 AND b=1",
        c.All((c.All((c.AttributeOrder("a", ">=", 1), c.AttributeOrder("a", "<=", Decimal("2.5")))), c.Attribute("b", (1,)))),
    ),
    ("a < 'm'", c.AttributeOrder("a", "<", "m")),
    ("a STARTS_WITH ''", c.AttributeStart("a", "")),
    ("a IS NULL", c.AttributeAbsent("a")),
    ("`a.b:c-d` = 1", c.Attribute("a.b:c-d", (1,))),
    ("`and` = 1", c.Attribute("and", (1,))),
    (r'a = "q\"u\\o""t"', c.Attribute("a", ('q"u\\o"t',))),
    ("a = 'it''s'", c.Attribute("a", ("it's",))),
    ("a = 'say \"\"'", c.Attribute("a", ('say ""',))),
    ("Count = '7'", c.Attribute("Count", (Decimal(7),))),
    ("Count > 7.5", c.AttributeOrder("Count", ">", Decimal("7.5"))),
    ("Vip = 'yes'", c.Attribute("Vip", (True,))),
    ("Vip = 0", c.Attribute("Vip", (False,))),
    ("Tags = 'a'", c.Attribute("Tags", ("a",))),
    ("Note STARTS_WITH 'x'", c.AttributeStart("Note", "x")),
    ("Due > '2026-05-01'", c.AttributeMoment("Due", ">", INSTANT)),
    ("x >= '2026-05-01T00:00:00Z'", c.AttributeMoment("x", ">=", INSTANT)),
    ("x >= '2026-05-01'", c.AttributeOrder("x", ">=", "2026-05-01")),
    ("Due = '2026-05-01'", c.Attribute("Due", ("2026-05-01", "2026-05-01T00:00:00.000000Z"))),
    ("Key = '2026-05-01T00:00:00Z'", c.Attribute("Key", ("2026-05-01T00:00:00Z",))),
]


@pytest.mark.parametrize(("text", "expected"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_what_a_query_means(text: str, expected: c.Condition) -> None:
    assert condition_of(text, TYPES) == expected
    assert condition_of(f" \n{text}\t", TYPES) == expected


ILL_TYPED = [
    ("Vip > true", 4),
    ("Vip < 'x'", 4),
    ("x > true", 2),
    ("Tags >= 'a'", 5),
    ("Tags STARTS_WITH 'a'", 5),
    ("Count STARTS_WITH '1'", 6),
    ("Count = 'many'", 8),
    ("Count = true", 8),
    ("Count BETWEEN 1 AND 'many'", 20),
    ("Vip = 'perhaps'", 6),
    ("Vip = 7", 6),
    ("Due = 'soon'", 6),
    ("Due > 5", 6),
    ("Key = 5", 6),
    ("Note IN ('a', 5)", 14),
    ("Tags = 5", 7),
    ("WorkflowId = 5", 13),
    ("WorkflowId IN ('a', true)", 20),
    ("StartTime > 'yesterday'", 12),
    ("StartTime = 5", 12),
    ("StartTime STARTS_WITH '2026'", 10),
    ("CloseTime IN ('2026-05-01', 'x')", 28),
    ("Status > 'running'", 7),
    ("Status BETWEEN 'a' AND 'b'", 7),
    ("Status STARTS_WITH 'r'", 7),
    ("Status = 1", 9),
    ("a = 1 AND (b = 2 OR NOT Vip > 1)", 28),
]


@pytest.mark.parametrize(("text", "at"), ILL_TYPED, ids=[text for text, _ in ILL_TYPED])
def test_ill_typed_predicates_are_refused_where_they_stand(text: str, at: int) -> None:
    with pytest.raises(IllTyped) as refused:
        condition_of(text, TYPES)
    assert refused.value.at == at, str(refused.value)


SYNTAX = [
    ("order-42", 5),
    ("order", 5),
    ("", 0),
    ("a = ", 4),
    ("a = b", 4),
    ("= 1", 0),
    ("a == 1", 3),
    ("a = 1 AND", 9),
    ("a = 1 b = 2", 6),
    ("(a = 1", 6),
    ("a = 1)", 5),
    ("a IN ()", 6),
    ("a IN (1,)", 8),
    ("a IN 1", 5),
    ("a NOT 1", 6),
    ("a IS 1", 5),
    ("a IS NOT 1", 9),
    ("a BETWEEN 1", 11),
    ("a BETWEEN 1 OR 2", 12),
    ("a STARTS_WITH 1", 14),
    ("a = 'x", 4),
    ('a = "x', 4),
    ("`a = 1", 0),
    ("NOT NOT a = 1", 4),
    ("a = 1.", 4),
    ("a = 1e5", 4),
    ("a = .5", 4),
    ("a # 1", 2),
    ("and = 1", 0),
    ("a = NULL", 4),
    ("`` = 1", 0),
    ("a = " + "9" * 65, 4),
]


@pytest.mark.parametrize(("text", "at"), SYNTAX, ids=[repr(text[:20]) for text, _ in SYNTAX])
def test_what_does_not_parse_whole_is_a_part_of_a_name(text: str, at: int) -> None:
    with pytest.raises(QuerySyntaxError) as refused:
        parse(text)
    assert refused.value.at == at
    assert condition_of(text, TYPES) == c.Part(text)


def test_a_query_has_bounds() -> None:
    most = " OR ".join(["a = 1"] * grammar.MOST_VALUES)
    parse(most)
    with pytest.raises(QueryTooLarge) as refused:
        parse(f"{most} OR a = 1")
    assert refused.value.at == len(most) + 8
    parse("(" * grammar.DEEPEST + "a = 1" + ")" * grammar.DEEPEST)
    with pytest.raises(QueryTooLarge) as refused:
        parse("(" * 100_000)
    assert refused.value.at == grammar.DEEPEST


WORDS = st.sampled_from(
    [
        "a",
        "Status",
        "StartTime",
        "Vip",
        "`x y`",
        "=",
        "!=",
        "<",
        ">=",
        "AND",
        "OR",
        "NOT",
        "IN",
        "(",
        ")",
        ",",
        "BETWEEN",
        "IS",
        "NULL",
        "STARTS_WITH",
        "'v'",
        '"w"',
        "1",
        "-2.5",
        "true",
        "'2026-05-01T00:00:00Z'",
        "'",
        '"',
        "\\",
        "`",
        "é",
        "\u2028",
    ]
)


@given(st.one_of(st.text(), st.lists(WORDS, max_size=12).map(" ".join)))
def test_any_text_is_a_condition_or_refused_with_a_position(text: str) -> None:
    try:
        condition_of(text, TYPES)
    except (IllTyped, QueryTooLarge) as refused:
        assert 0 <= refused.at <= len(text)


def quoted(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '""') + '"'
    return str(value)


@given(
    st.lists(
        st.one_of(st.text(), st.booleans(), st.integers(-(2**63), 2**63), st.decimals(-1000, 1000, places=3)),
        min_size=1,
        max_size=9,
    )
)
def test_every_value_comes_through(values: list[Any]) -> None:
    parsed = parse(f"`n` IN ({','.join(map(quoted, values))})")
    assert isinstance(parsed, grammar.Among)
    assert [value.value for value in parsed.values] == values
