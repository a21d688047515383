"""One reader per command type: the fields of a command, as sent, made into a step of the core (worker-protocol 5.3 to 5.11)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

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
    WorkflowCommand,
)
from actors.run.values import Payload, RetryPolicy
from api.http.input import json_text
from api.http.input.fields import LONGEST_SECONDS, Fields, as_integer
from api.http.input.reserved import workflow_type_in
from api.payloads.codec import AVRO
from api.payloads.inputs import normalise_arguments, normalise_side_effect, normalise_value
from api.worker.commands.attributes import read_attribute_types, read_attributes

ACTIVITY_TIMEOUTS = ("start_to_close_timeout", "schedule_to_start_timeout", "schedule_to_close_timeout", "heartbeat_timeout")

# (a, b): a cannot exceed b.
ACTIVITY_TIMEOUT_ORDER = (
    ("heartbeat_timeout", "start_to_close_timeout"),
    ("start_to_close_timeout", "schedule_to_close_timeout"),
    ("heartbeat_timeout", "schedule_to_close_timeout"),
    ("schedule_to_start_timeout", "schedule_to_close_timeout"),
)

_ACTIVITY_OPTIONS = frozenset(("connection", "retry_policy", "priority", "fairness_key", "fairness_weight", *ACTIVITY_TIMEOUTS))

_CHILD_TIMEOUTS = ("execution_timeout_seconds", "run_timeout_seconds")

_CLOSE_POLICIES = ("abandon", "request_cancel", "terminate")

_FAIRNESS_KEY = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")

_MAX_INT8 = 9_223_372_036_854_775_807

_RANGE = ("version", "min_supported", "max_supported")


# -- shared fields -----------------------------------------------------------------------------------------------------


def _queue(fields: Fields) -> str | None:
    return fields.text("queue" if fields.get("queue") is not None else "task_queue", blank_is_fault=True)


def _arguments(fields: Fields) -> Payload | None:
    return normalise_arguments(fields, "arguments" if fields.get("arguments") is not None else "input")


def _timeouts(fields: Fields, names: tuple[str, ...]) -> dict[str, int | None]:
    return {name: fields.integer(name, low=1, high=LONGEST_SECONDS) for name in names}


def retry_policy(fields: Fields, *, one_backoff: bool = False) -> RetryPolicy | None:
    """The `retry_policy` (worker-protocol 5.1), None without one. `one_backoff`: an integer may stand for a list of it."""
    reader = fields.nested("retry_policy")
    if reader is None:
        return None
    backoff: list[int] = []
    single = one_backoff and as_integer(reader.get("backoff_seconds")) is not None
    for index, item in enumerate([reader.get("backoff_seconds")] if single else reader.items("backoff_seconds") or ()):
        seconds = as_integer(json_text.plain(item))
        if seconds is None or not 0 <= seconds <= LONGEST_SECONDS:
            reader.fault(f"backoff_seconds.{index}", f"The backoff seconds.{index} field must be an integer of at least 0.")
        else:
            backoff.append(seconds)
    return RetryPolicy(
        max_attempts=reader.integer("max_attempts", low=1, high=2_147_483_647, default=1) or 1,
        backoff_seconds=backoff,
        non_retryable_error_types=reader.strings("non_retryable_error_types") or [],
    )


def _failure(fields: Fields) -> dict[str, Any]:
    """The fields of a failure beside its message."""
    return {
        "exception_type": fields.text("exception_type", longest=None, blank_is_fault=True),
        "exception_class": fields.text("exception_class", longest=None, blank_is_fault=True),
        "non_retryable": fields.boolean("non_retryable"),
        "exception": fields.shallow("exception"),
    }


# -- blocking steps ----------------------------------------------------------------------------------------------------


def _schedule_activity(fields: Fields) -> ScheduleActivity:
    options: dict[str, Any] = {}
    if fields.has_any(_ACTIVITY_OPTIONS):  # a list of hundreds mostly has none, and is sent again and again
        key = fields.get("fairness_key")
        options = {
            "connection": fields.text("connection", blank_is_fault=True),
            "retry_policy": retry_policy(fields),
            "priority": _or_none(fields.get("priority"), 0, 9),
            "fairness_key": key.strip().lower() if isinstance(key, str) and _FAIRNESS_KEY.match(key.strip()) else None,
            "fairness_weight": _or_none(fields.get("fairness_weight"), 1, 1000),
            **_timeouts(fields, ACTIVITY_TIMEOUTS),
        }
    return ScheduleActivity(
        activity_type=fields.required_text("activity_type"), arguments=_arguments(fields), queue=_queue(fields), **options
    )


def _or_none(value: Any, low: int, high: int) -> int | None:
    """An integer in range; everything else falls back to the run's value (worker-protocol 5.3)."""
    number = as_integer(value)
    return number if number is not None and low <= number <= high else None


def _start_timer(fields: Fields) -> StartTimer:
    return StartTimer(fields.integer("delay_seconds", low=0, high=LONGEST_SECONDS, required=True) or 0)


def _start_child(fields: Fields) -> StartChild:
    policy = fields.text("parent_close_policy", longest=None, blank_is_fault=True)
    if policy is not None and policy not in _CLOSE_POLICIES:
        fields.fault("parent_close_policy", f"The parent close policy field must be one of {', '.join(_CLOSE_POLICIES)}.")
    return StartChild(
        workflow_type=workflow_type_in(fields),
        arguments=_arguments(fields),
        queue=_queue(fields),
        connection=fields.text("connection", blank_is_fault=True),
        parent_close_policy=policy or "abandon",
        retry_policy=retry_policy(fields),
        **_timeouts(fields, _CHILD_TIMEOUTS),
    )


def _open_condition_wait(fields: Fields) -> OpenConditionWait:
    # The worker compares the recorded key with its own letter by letter, so it is not trimmed.
    key = fields.free_text("condition_key")
    fields.without_nul("condition_key")
    return OpenConditionWait(
        condition_key=key if key is not None and key.strip() else None,
        condition_definition_fingerprint=fields.text("condition_definition_fingerprint", longest=None, blank_is_fault=True),
        timeout_seconds=fields.integer("timeout_seconds", low=0, high=LONGEST_SECONDS),
    )


# -- immediate steps ---------------------------------------------------------------------------------------------------


def _record_side_effect(fields: Fields) -> RecordSideEffect:
    if fields.get("result") is None:
        fields.missing("result")
    return RecordSideEffect(normalise_side_effect(fields, "result") or Payload(AVRO))


def _record_version_marker(fields: Fields) -> RecordVersionMarker:
    """Faults of this command are all told under the key of the command (worker-protocol 5.7)."""
    reader = Fields(fields.data)
    change_id = reader.required_text("change_id", longest=None)
    numbers = {name: reader.integer(name, low=-_MAX_INT8, high=_MAX_INT8, required=True) or 0 for name in _RANGE}
    for texts in reader.errors.values():
        fields.errors.setdefault(fields.prefix.rstrip("."), []).extend(texts)
    return RecordVersionMarker(change_id, **numbers)


def _upsert_search_attributes(fields: Fields) -> UpsertSearchAttributes:
    attributes = read_attributes(fields)
    return UpsertSearchAttributes(attributes, read_attribute_types(fields))


def _complete_update(fields: Fields) -> CompleteUpdate:
    return CompleteUpdate(fields.required_text("update_id"), normalise_value(fields, "result"))


def _fail_update(fields: Fields) -> FailUpdate:
    message = fields.free_text("message", required=True)
    if message is not None and not message.strip():
        fields.missing("message")
    return FailUpdate(fields.required_text("update_id"), message or "", **_failure(fields))


# -- terminal steps ----------------------------------------------------------------------------------------------------


def _complete_workflow(fields: Fields) -> CompleteWorkflow:
    return CompleteWorkflow(normalise_value(fields, "result"))


def _fail_workflow(fields: Fields) -> FailWorkflow:
    return FailWorkflow(fields.free_text("message", required=True) or "", **_failure(fields))


def _continue_as_new(fields: Fields) -> ContinueAsNew:
    return ContinueAsNew(
        workflow_type=workflow_type_in(fields, required=False) or None,
        arguments=_arguments(fields),
        queue=_queue(fields),
    )


# In the order of `supported_workflow_task_commands` (worker-protocol 2.5).
READERS: dict[str, Callable[[Fields], WorkflowCommand]] = {
    "complete_workflow": _complete_workflow,
    "fail_workflow": _fail_workflow,
    "continue_as_new": _continue_as_new,
    "schedule_activity": _schedule_activity,
    "start_timer": _start_timer,
    "start_child_workflow": _start_child,
    "complete_update": _complete_update,
    "fail_update": _fail_update,
    "record_side_effect": _record_side_effect,
    "record_version_marker": _record_version_marker,
    "upsert_search_attributes": _upsert_search_attributes,
    "open_condition_wait": _open_condition_wait,
}
