"""The fields of requests to schedules, read without a server (control-plane 11, operations 1.1)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from actors.schedule.spec import problems
from api.control.schedules import fields as schedule_fields
from api.control.schedules.fields import Wanted, read_page, read_range, read_schedule_id, read_wanted
from api.http.errors import ApiError, ValidationFailed
from api.http.input.body import parse_body
from api.http.input.fields import Fields
from tests.api.schedule_bodies import (
    ACTION,
    BACKFILL,
    BAD_BACKFILLS,
    BAD_CREATES,
    BAD_FIELDS,
    BAD_NOTES,
    BAD_TRIGGERS,
    GOOD,
    SPEC,
    written,
)
from tests.support.defaults import make_rules, make_settings

LONG = {"padding": "x" * 70_000}  # makes a body one that is read piece by piece


def fields_of(body: dict[str, Any]) -> Fields:
    text = written(body)
    return Fields(parse_body({}, text), source=text)


def wanted(body: dict[str, Any], *, whole: bool = True, **limits: int) -> Wanted:
    return read_wanted(fields_of(body), make_settings(rules=make_rules(**limits)), whole=whole)


@pytest.mark.parametrize("more", [{}, LONG], ids=["short", "long"])
@pytest.mark.parametrize("whole", [True, False], ids=["create", "update"])
def test_bad_fields(whole: bool, more: dict[str, Any]) -> None:
    for change, key in BAD_FIELDS:
        with pytest.raises(ValidationFailed) as refused:
            wanted({**(GOOD if whole else {}), **change, **more}, whole=whole)
        assert list(refused.value.body["errors"]) == [key], change


def test_bad_creates() -> None:
    for change, key in BAD_CREATES:
        fields = fields_of({**GOOD, **change})
        with pytest.raises(ValidationFailed) as refused:
            read_schedule_id(fields)
            fields.boolean("paused")
            read_wanted(fields, make_settings(), whole=True)
        assert list(refused.value.body["errors"]) == [key], change


def test_bad_backfills_triggers_and_notes() -> None:
    for change, key in BAD_BACKFILLS:
        fields = fields_of({**BACKFILL, **change})
        read_range(fields)
        schedule_fields.overlap_policy(fields)
        assert list(fields.errors) == [key], change
    for change, key in BAD_TRIGGERS:
        fields = fields_of(change)
        schedule_fields.overlap_policy(fields)
        assert list(fields.errors) == [key], change
    for change, key in BAD_NOTES:
        fields = fields_of(change)
        schedule_fields.read_note(fields)
        assert list(fields.errors) == [key], change


def test_all_faults_are_told_together() -> None:
    with pytest.raises(ValidationFailed) as refused:
        wanted({"spec": {}, "jitter_seconds": -1, "max_runs": 0, "note": 7, "memo": {"": 1}})
    assert set(refused.value.body["errors"]) == {"spec", "action", "jitter_seconds", "max_runs", "note", "memo"}


def test_what_is_absent() -> None:
    nothing = Wanted(None, None, None, None, None, None, None, UNSET, UNSET)
    assert wanted({}, whole=False) == nothing
    nulls = dict.fromkeys((*Wanted.__slots__, "unknown"))
    assert wanted(nulls, whole=False) == nothing
    assert wanted({"note": " ", "overlap_policy": "", "jitter_seconds": "", "max_runs": ""}, whole=False) == nothing
    made = wanted({**nulls, **GOOD})
    assert made.action is not None and made.spec == SPEC
    assert made.action == {**ACTION, "input": b"[1]"}
    assert made.memo is UNSET and made.search_attributes is UNSET


def test_what_is_empty() -> None:
    empties: list[Any] = [{}, []]
    for empty in empties:
        cleared = wanted({"memo": empty, "search_attributes": empty}, whole=False)
        assert (cleared.memo, cleared.search_attributes) == (b"{}", {})
    assert wanted({"search_attributes": {"A": None}}, whole=False).search_attributes == {}


def test_a_spec_is_kept_as_sent() -> None:
    spec = {
        "cron_expressions": [" 0 3 * * * ", "@daily"],
        "intervals": [{"every": " PT1H ", "offset": " ", "deep": {"n": 10**30}}],
        "timezone": " ",
        "calendars": [{"hour": 10**40}],
        "start_at": 1.5,
        "more": None,
    }
    made = wanted({**GOOD, "spec": spec}).spec
    assert made == {
        "cron_expressions": ["0 3 * * *", "@daily"],
        "intervals": [{"every": "PT1H", "deep": b'{"n":1%b}' % (b"0" * 30)}],
        "calendars": b'[{"hour":1%b}]' % (b"0" * 40),
        "start_at": b"1.5",
        "more": None,
    }
    assert problems(made) == {}


def test_an_action_is_kept_as_sent() -> None:
    envelope = {"codec": "avro", "blob": "AAA="}
    action = {**ACTION, "workflow_type": " a ", "input": envelope, "workflow_run_timeout": "5", "extra": {"n": 10**30}}
    made = wanted({**GOOD, "action": {**action, "run_timeout_seconds": None, "task_queue": ""}}).action
    assert made == {
        "workflow_type": "a",
        "input": b'{"codec":"avro","blob":"AAA="}',
        "workflow_run_timeout": 5,
        "extra": b'{"n":1%b}' % (b"0" * 30),
    }


def test_a_change_of_an_action_clears_what_is_null() -> None:
    change = {"workflow_type": None, "task_queue": None, "input": None, "execution_timeout_seconds": None, "x": None}
    assert wanted({"action": change}, whole=False).action == {
        "task_queue": None,
        "input": None,
        "execution_timeout_seconds": None,
        "x": None,
    }
    assert wanted({"action": {"workflow_type": " ", "run_timeout_seconds": 3}}, whole=False).action == {
        "run_timeout_seconds": 3
    }
    assert wanted({"action": {}}, whole=False).action == {}


def test_numbers_may_be_texts() -> None:
    made = wanted({**GOOD, "jitter_seconds": "3600", "max_runs": 2.0, "catchup_window_seconds": " 60 ", "note": " n "})
    assert (made.jitter_seconds, made.max_runs, made.catchup_window_seconds, made.note) == (3600, 2, 60, "n")


def test_a_memo_too_large() -> None:
    assert wanted({**GOOD, "memo": {"a": "x" * 42}}, max_memo_bytes=50).memo == b'{"a":"%b"}' % (b"x" * 42)
    with pytest.raises(ApiError) as refused:
        wanted({**GOOD, "memo": {"a": "x" * 43}}, max_memo_bytes=50)
    assert (refused.value.status, refused.value.body["reason"], refused.value.body["limit"]) == (422, "memo_too_large", 50)
    with pytest.raises(ValidationFailed):
        wanted({**GOOD, "memo": {"a": "x" * 43}, "jitter_seconds": -1}, max_memo_bytes=50)


def test_ids() -> None:
    assert read_schedule_id(fields_of({"schedule_id": " a.b:c_D-1 "})) == "a.b:c_D-1"
    made = {read_schedule_id(fields_of(body)) for body in ({}, {"schedule_id": None}, {"schedule_id": " "})}
    assert len(made) == 3 and all(len(each) == 26 and each == each.upper() for each in made)


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-02", 86_400),
        (" 1970-01-01T02:00:00+01:00 ", 3600),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01 00:00:05", 5),
    ],
)
def test_times(text: str, second: float) -> None:
    fields = fields_of({"start_time": text, "end_time": "2026-05-01T00:00:00Z"})
    assert read_range(fields) == (int(second * 1_000_000), 1_777_593_600_000_000)
    assert not fields.errors


def test_pages_of_the_audit_history() -> None:
    for limit, expected in {
        "": 100,
        "1": 1,
        "500": 500,
        "501": 500,
        "0": 100,
        "-5": 100,
        "x": 100,
        "1.5": 100,
        "9" * 40: 100,
    }.items():
        assert read_page({"limit": limit}) == (expected, 0)
    for after, sequence in {"": 0, "0": 0, " 7 ": 7, str((1 << 63) - 1): (1 << 63) - 1}.items():
        assert read_page({"after_sequence": after}) == (100, sequence)
    for after in ("-1", "x", "1.5", "+1", "1e3", str(1 << 63), "9" * 5000, "٣"):
        with pytest.raises(ApiError) as refused:
            read_page({"after_sequence": after})
        assert (refused.value.status, refused.value.body["reason"]) == (422, "invalid_after_sequence")
