"""Commands of a completion: what is accepted, and every fault with its key."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run.commands.steps import (
    CompleteUpdate,
    CompleteWorkflow,
    ContinueAsNew,
    FailUpdate,
    FailWorkflow,
    OpenConditionWait,
    RecordSideEffect,
    RecordVersionMarker,
    ScheduleActivity,
    StartChild,
    StartTimer,
    UpsertSearchAttributes,
)
from actors.run.values import Payload, RetryPolicy
from api.http.input.fields import Fields
from api.http.input.json_text import text_of
from api.payloads.codec import encode
from api.worker.commands.batch import read_steps, scope_errors

ENVELOPE = {"codec": "avro", "blob": "AARbXQI="}
CHILD = {"type": "start_child_workflow", "workflow_type": "x"}
MARKER = {"type": "record_version_marker", "change_id": "c", "version": 1, "min_supported": 0, "max_supported": 1}
UPSERT = {"type": "upsert_search_attributes", "attributes": {"k": "v"}}


def plain(value: Any) -> Payload:
    """Plain JSON as the reader hands it on: the run decides which codec it is stored in."""
    return Payload("avro", encode(value), plain=text_of(value).decode())


def request(commands: Any, errors: dict[str, list[str]]) -> Fields:
    return Fields({"commands": commands}, errors=errors)


def read(*commands: Any) -> list[Any]:
    errors: dict[str, list[str]] = {}
    steps = read_steps(scope_errors(request(list(commands), errors)), errors)
    assert errors == {}
    return list(steps)


def faults(*commands: Any) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Faults of scope, and faults of content."""
    scope: dict[str, list[str]] = {}
    content: dict[str, list[str]] = {}
    read_steps(scope_errors(request(list(commands), scope)), content)
    return scope, content


def test_schedule_activity_with_everything() -> None:
    steps = read(
        {
            "type": "schedule_activity",
            "activity_type": " charge ",
            "arguments": ENVELOPE,
            "queue": "q",
            "connection": "c",
            "retry_policy": {"max_attempts": "3", "backoff_seconds": [1, "2"], "non_retryable_error_types": ["A"]},
            "start_to_close_timeout": "30",
            "schedule_to_start_timeout": 5,
            "schedule_to_close_timeout": 60,
            "heartbeat_timeout": 10,
            "priority": 1,
            "fairness_key": "Tenant-A",
            "fairness_weight": 7,
            "unknown": True,
        }
    )
    assert steps == [
        ScheduleActivity(
            activity_type="charge",
            arguments=Payload("avro", "AARbXQI="),
            queue="q",
            connection="c",
            retry_policy=RetryPolicy(3, [1, 2], ["A"]),
            start_to_close_timeout=30,
            schedule_to_start_timeout=5,
            schedule_to_close_timeout=60,
            heartbeat_timeout=10,
            priority=1,
            fairness_key="tenant-a",
            fairness_weight=7,
        )
    ]


def test_aliases_and_plain_json() -> None:
    steps = read(
        {"type": "schedule_activity", "activity_type": "a", "task_queue": "t", "input": ["order-42"]},
        {"type": "schedule_activity", "activity_type": "a", "task_queue": "t", "queue": "q", "input": [1], "arguments": ["x"]},
        {"type": "start_timer", "delay_seconds": 0},
        {"type": "complete_workflow", "result": {"status": "shipped"}},
        {"type": "fail_workflow", "message": "", "exception_type": "E", "non_retryable": True},
    )
    assert steps[0].queue == "t"
    assert steps[0].arguments == plain(["order-42"])
    assert (steps[1].queue, steps[1].arguments) == ("q", plain(["x"]))
    assert steps[2:] == [
        StartTimer(0),
        CompleteWorkflow(plain({"status": "shipped"})),
        FailWorkflow("", "E", None, True),
    ]
    assert read({"type": "complete_workflow"}) == [CompleteWorkflow(None)]
    assert read({"type": "schedule_activity", "activity_type": "a"})[0].arguments is None


def test_start_child_workflow() -> None:
    steps = read(
        {
            "type": "start_child_workflow",
            "workflow_type": " child ",
            "input": {"n": 1},
            "task_queue": "cq",
            "connection": "c",
            "parent_close_policy": "request_cancel",
            "retry_policy": {"max_attempts": 2, "backoff_seconds": [5]},
            "execution_timeout_seconds": "60",
            "run_timeout_seconds": 60,
        },
        {"type": "start_child_workflow", "workflow_type": "child", "parent_close_policy": None},
    )
    assert steps == [
        StartChild(
            workflow_type="child",
            arguments=plain([{"n": 1}]),
            queue="cq",
            connection="c",
            parent_close_policy="request_cancel",
            retry_policy=RetryPolicy(2, [5]),
            execution_timeout_seconds=60,
            run_timeout_seconds=60,
        ),
        StartChild(workflow_type="child"),
    ]


def test_waits_and_markers() -> None:
    steps = read(
        {"type": "open_condition_wait"},
        {
            "type": "open_condition_wait",
            "condition_key": " paid ",
            "condition_definition_fingerprint": "sha256:ab",
            "timeout_seconds": "0",
        },
        {"type": "open_condition_wait", "condition_key": "  "},
        {"type": "record_side_effect", "result": "AARbXQI="},
        {"type": "record_side_effect", "result": False},
        {"type": "record_version_marker", "change_id": "c1", "version": "-1", "min_supported": -1, "max_supported": 2},
    )
    assert steps == [
        OpenConditionWait(),
        # The key is compared by the worker, so it is kept letter by letter.
        OpenConditionWait(" paid ", "sha256:ab", 0),
        OpenConditionWait(),
        RecordSideEffect(Payload("avro", "AARbXQI=", plain='"AARbXQI="')),
        RecordSideEffect(plain(False)),
        RecordVersionMarker("c1", -1, -1, 2),
    ]


def test_search_attributes_are_normalised() -> None:
    step = read(
        {
            "type": "upsert_search_attributes",
            "attributes": {
                "Region": " north ",
                "Blank": "  ",
                "Gone": None,
                "Count": 3,
                "Ratio": 0.5,
                "Open": True,
                "Tags": [" a ", "", "b"],
            },
            "attribute_types": {"Region": "keyword", "Tags": " keyword_list "},
        }
    )[0]
    assert step == UpsertSearchAttributes(
        {"Region": "north", "Blank": None, "Gone": None, "Count": 3, "Ratio": 0.5, "Open": True, "Tags": ["a", "b"]},
        {"Region": "keyword", "Tags": "keyword_list"},
    )


def test_updates_and_continue_as_new() -> None:
    steps = read(
        {"type": "complete_update", "update_id": "u1"},
        {"type": "complete_update", "update_id": "u1", "result": {"ok": True}},
        {
            "type": "fail_update",
            "update_id": " u2 ",
            "message": " no ",
            "exception_type": "E",
            "exception_class": "C",
            "non_retryable": True,
            "exception": {"k": 1},
        },
        {"type": "continue_as_new"},
        {"type": "continue_as_new", "workflow_type": "next", "input": [1], "task_queue": "t"},
    )
    assert steps == [
        CompleteUpdate("u1"),
        CompleteUpdate("u1", plain({"ok": True})),
        FailUpdate("u2", " no ", "E", "C", True, {"k": 1}),
        ContinueAsNew(),
        ContinueAsNew("next", plain([1]), "t"),
    ]


def test_invalid_priorities_fall_back_to_the_runs() -> None:
    step = read(
        {"type": "schedule_activity", "activity_type": "a", "priority": 10, "fairness_key": "a b", "fairness_weight": 0}
    )[0]
    assert (step.priority, step.fairness_key, step.fairness_weight) == (None, None, None)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("text", "commands.0"),
        ({}, "commands.0.type"),
        ({"type": 5}, "commands.0.type"),
        ({"type": "start_timer", "retry_policy": {}}, "commands.0.retry_policy"),
        ({"type": "complete_workflow", "non_retryable": False}, "commands.0.non_retryable"),
        ({"type": "schedule_activity", "run_timeout_seconds": 1}, "commands.0.run_timeout_seconds"),
        ({"type": "fail_workflow", "heartbeat_timeout": 1}, "commands.0.heartbeat_timeout"),
        ({"type": "complete_update", "non_retryable": True}, "commands.0.non_retryable"),
        ({"type": "continue_as_new", "run_timeout_seconds": 5}, "commands.0.run_timeout_seconds"),
        ({"type": "start_child_workflow", "start_to_close_timeout": 5}, "commands.0.start_to_close_timeout"),
        (
            {"type": "start_child_workflow", "run_timeout_seconds": 9, "execution_timeout_seconds": 8},
            "commands.0.run_timeout_seconds",
        ),
        (
            {"type": "schedule_activity", "heartbeat_timeout": 9, "start_to_close_timeout": "8"},
            "commands.0.heartbeat_timeout",
        ),
        (
            {"type": "schedule_activity", "start_to_close_timeout": 9, "schedule_to_close_timeout": 8},
            "commands.0.start_to_close_timeout",
        ),
        (
            {"type": "schedule_activity", "schedule_to_start_timeout": 9, "schedule_to_close_timeout": 8},
            "commands.0.schedule_to_start_timeout",
        ),
    ],
)
def test_scope_faults(command: Any, key: str) -> None:
    scope, _ = faults(command)
    assert list(scope) == [key]


def test_scope_texts() -> None:
    scope, _ = faults({"type": "x", "retry_policy": {}, "heartbeat_timeout": 3, "start_to_close_timeout": 2})
    assert scope["commands.0.retry_policy"] == [
        "retry_policy is only supported for schedule_activity and start_child_workflow commands."
    ]
    assert "heartbeat_timeout cannot exceed start_to_close_timeout." in scope["commands.0.heartbeat_timeout"]
    assert faults({"type": "x", "retry_policy": None})[0] == {}


@pytest.mark.parametrize("commands", [None, [], "x", {"type": "complete_workflow"}])
def test_commands_must_be_a_list_of_some(commands: Any) -> None:
    errors: dict[str, list[str]] = {}
    assert scope_errors(request(commands, errors)) == []
    assert list(errors) == ["commands"]


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ({"type": "wait_condition"}, "commands.0.type"),
        *(
            ({"type": kind}, "commands.0.type")
            for kind in (
                "open_signal_wait",
                "upsert_memo",
                "record_local_activity",
                "start_service_operation",
                "cancel_timer",
                "cancel_activity",
                "cancel_selection_operation",
            )
        ),
        ({"type": "schedule_activity"}, "commands.0.activity_type"),
        ({"type": "schedule_activity", "activity_type": ""}, "commands.0.activity_type"),
        ({"type": "schedule_activity", "activity_type": "a", "queue": " "}, "commands.0.queue"),
        ({"type": "schedule_activity", "activity_type": "a", "start_to_close_timeout": 0}, "commands.0.start_to_close_timeout"),
        ({"type": "schedule_activity", "activity_type": "a", "heartbeat_timeout": True}, "commands.0.heartbeat_timeout"),
        ({"type": "schedule_activity", "activity_type": "a", "retry_policy": [1]}, "commands.0.retry_policy"),
        (
            {"type": "schedule_activity", "activity_type": "a", "retry_policy": {"max_attempts": 0}},
            "commands.0.retry_policy.max_attempts",
        ),
        (
            {"type": "schedule_activity", "activity_type": "a", "retry_policy": {"backoff_seconds": [1, -1]}},
            "commands.0.retry_policy.backoff_seconds.1",
        ),
        (
            {"type": "schedule_activity", "activity_type": "a", "retry_policy": {"non_retryable_error_types": "E"}},
            "commands.0.retry_policy.non_retryable_error_types",
        ),
        (
            {"type": "schedule_activity", "activity_type": "a", "arguments": {"codec": "x", "blob": ""}},
            "commands.0.arguments.codec",
        ),
        (
            {"type": "schedule_activity", "activity_type": "a", "input": {"codec": "avro", "blob": 4}},
            "commands.0.input.blob",
        ),
        ({"type": "start_timer"}, "commands.0.delay_seconds"),
        ({"type": "start_timer", "delay_seconds": -1}, "commands.0.delay_seconds"),
        ({"type": "start_timer", "delay_seconds": "soon"}, "commands.0.delay_seconds"),
        ({"type": "start_timer", "delay_seconds": 10**12}, "commands.0.delay_seconds"),
        ({"type": "complete_workflow", "result": {"codec": "php", "blob": "x"}}, "commands.0.result.codec"),
        (
            {"type": "complete_workflow", "result": {"codec": "avro", "external_storage": {"codec": "avro"}}},
            "commands.0.result.external_storage",
        ),
        ({"type": "start_child_workflow"}, "commands.0.workflow_type"),
        ({**CHILD, "parent_close_policy": "detach"}, "commands.0.parent_close_policy"),
        ({**CHILD, "parent_close_policy": " "}, "commands.0.parent_close_policy"),
        ({**CHILD, "parent_close_policy": 1}, "commands.0.parent_close_policy"),
        ({**CHILD, "execution_timeout_seconds": 0}, "commands.0.execution_timeout_seconds"),
        ({**CHILD, "run_timeout_seconds": "x"}, "commands.0.run_timeout_seconds"),
        ({**CHILD, "queue": ""}, "commands.0.queue"),
        ({**CHILD, "connection": " "}, "commands.0.connection"),
        ({**CHILD, "arguments": {"codec": "php", "blob": "x"}}, "commands.0.arguments.codec"),
        ({"type": "record_side_effect"}, "commands.0.result"),
        ({"type": "record_side_effect", "result": None}, "commands.0.result"),
        ({"type": "record_side_effect", "result": {"codec": "avro", "blob": 1}}, "commands.0.result.blob"),
        ({**MARKER, "change_id": " "}, "commands.0"),
        ({**MARKER, "change_id": None}, "commands.0"),
        ({**MARKER, "version": "new"}, "commands.0"),
        ({**MARKER, "version": True}, "commands.0"),
        ({**MARKER, "min_supported": None}, "commands.0"),
        ({**MARKER, "max_supported": 2**70}, "commands.0"),
        ({"type": "upsert_search_attributes"}, "commands.0.attributes"),
        ({"type": "upsert_search_attributes", "attributes": {}}, "commands.0.attributes"),
        ({"type": "upsert_search_attributes", "attributes": []}, "commands.0.attributes"),
        ({"type": "upsert_search_attributes", "attributes": "x"}, "commands.0.attributes"),
        *(
            ({"type": "upsert_search_attributes", "attributes": attributes}, "commands.0.attributes")
            for attributes in (
                {"a b": 1},
                {"": 1},
                {"x" * 65: 1},
                {"k": {"nested": 1}},
                {"k": [1]},
                {"k": ["a", None]},
                {"k": "x" * 256},
                {"k": ["x" * 256]},
                {"k": 2**70},
                {"k": "nul\x00"},
            )
        ),
        ({**UPSERT, "attribute_types": {"k": "text"}}, "commands.0.attribute_types"),
        ({**UPSERT, "attribute_types": {"k": 1}}, "commands.0.attribute_types"),
        ({**UPSERT, "attribute_types": {"a b": "int"}}, "commands.0.attribute_types"),
        ({**UPSERT, "attribute_types": "int"}, "commands.0.attribute_types"),
        ({"type": "open_condition_wait", "timeout_seconds": -1}, "commands.0.timeout_seconds"),
        ({"type": "open_condition_wait", "condition_key": 5}, "commands.0.condition_key"),
        (
            {"type": "open_condition_wait", "condition_definition_fingerprint": " "},
            "commands.0.condition_definition_fingerprint",
        ),
        ({"type": "complete_update"}, "commands.0.update_id"),
        ({"type": "complete_update", "update_id": " "}, "commands.0.update_id"),
        ({"type": "complete_update", "update_id": "u", "result": {"codec": "x", "blob": "y"}}, "commands.0.result.codec"),
        ({"type": "fail_update", "message": "m"}, "commands.0.update_id"),
        ({"type": "fail_update", "update_id": "u"}, "commands.0.message"),
        ({"type": "fail_update", "update_id": "u", "message": " "}, "commands.0.message"),
        ({"type": "fail_update", "update_id": "u", "message": "m", "exception": "x"}, "commands.0.exception"),
        ({"type": "continue_as_new", "workflow_type": " "}, "commands.0.workflow_type"),
        ({"type": "continue_as_new", "queue": ""}, "commands.0.queue"),
        ({"type": "continue_as_new", "arguments": {"codec": "avro", "blob": 4}}, "commands.0.arguments.blob"),
        ({"type": "fail_workflow"}, "commands.0.message"),
        ({"type": "fail_workflow", "message": 5}, "commands.0.message"),
        ({"type": "fail_workflow", "message": "m", "exception_type": " "}, "commands.0.exception_type"),
        ({"type": "fail_workflow", "message": "m", "non_retryable": "maybe"}, "commands.0.non_retryable"),
        ({"type": "fail_workflow", "message": "m", "exception": {"n": "nul\x00"}}, "commands.0.exception"),
        ({"type": "start_timer", "delay_seconds": -1}, "commands.0.delay_seconds"),
    ],
)
def test_content_faults(command: Any, key: str) -> None:
    scope, content = faults(command)
    assert scope == {}
    assert list(content) == [key]


def test_unknown_types_are_named() -> None:
    _, content = faults({"type": "complete_workflow"}, {"type": "upsert_memo", "entries": {}})
    assert content == {"commands.1.type": ["Workflow task command type [upsert_memo] is not supported by the server yet."]}
