"""Commands of a workflow-task completion, as sent, made into the typed steps of the core (worker-protocol 5).

Two kinds of faults: those of `scope_errors` are answered before anything is looked up, those of `read_steps` only to the worker
that holds the task's lease (worker-protocol 2.3). All keys start with `commands.N.`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from actors.run.commands import CompleteWorkflow, FailWorkflow, Payload, RetryPolicy, ScheduleActivity, StartTimer, Steps
from api.capabilities import SUPPORTED_COMMANDS
from api.payloads import AVRO, normalise_arguments, normalise_value
from api.validation import Fields, as_integer

Errors = dict[str, list[str]]

# A century: far above any sense, and safely inside what times can hold.
LONGEST_SECONDS = 3_155_760_000

_ACTIVITY = ("schedule_activity",)
_CALLS = ("schedule_activity", "start_child_workflow")
_CHILD = ("start_child_workflow",)
_FAILS = ("fail_workflow", "fail_update")

_TIMEOUTS = ("start_to_close_timeout", "schedule_to_start_timeout", "schedule_to_close_timeout", "heartbeat_timeout")

_SCOPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("retry_policy", _CALLS),
    *((name, _ACTIVITY) for name in _TIMEOUTS),
    ("execution_timeout_seconds", _CHILD),
    ("run_timeout_seconds", _CHILD),
    ("non_retryable", _FAILS),
)

_SCOPED = frozenset(name for name, _ in _SCOPES)

# (a, b): a cannot exceed b.
_ORDER = (
    ("heartbeat_timeout", "start_to_close_timeout"),
    ("start_to_close_timeout", "schedule_to_close_timeout"),
    ("heartbeat_timeout", "schedule_to_close_timeout"),
    ("schedule_to_start_timeout", "schedule_to_close_timeout"),
    ("run_timeout_seconds", "execution_timeout_seconds"),
)

_FAIRNESS_KEY = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")


def scope_errors(commands: Any, errors: Errors) -> list[dict[str, Any]]:
    """The commands as a list of objects that each have a type, every fault of shape and scope noted in `errors`."""
    if commands is None or commands == []:
        errors.setdefault("commands", []).append("The commands field is required.")
        return []
    if not isinstance(commands, list):
        errors.setdefault("commands", []).append("The commands field must be a list.")
        return []
    found: list[dict[str, Any]] = []
    for index, command in enumerate(commands):
        if not isinstance(command, dict):
            errors.setdefault(f"commands.{index}", []).append(f"The commands.{index} field must be an object.")
            continue
        fields = Fields(command, f"commands.{index}.", errors)
        kind = fields.text("type", required=True, longest=None)
        if kind is None:
            continue
        if not _SCOPED.isdisjoint(command):
            _check_scopes(fields, kind)
        found.append(command)
    return found


def _check_scopes(fields: Fields, kind: str) -> None:
    sent = fields.data
    for name, allowed in _SCOPES:
        if sent.get(name) is not None and kind not in allowed:
            fields.fault(name, f"{name} is only supported for {' and '.join(allowed)} commands.")
    for first, second in _ORDER:
        low, high = as_integer(sent.get(first)), as_integer(sent.get(second))
        if low is not None and high is not None and low > high:
            fields.fault(first, f"{first} cannot exceed {second}.")


def read_steps(commands: list[dict[str, Any]], errors: Errors) -> list[Steps]:
    """The typed steps; faults of content are noted in `errors`, and the list is of no use then."""
    steps: list[Steps] = []
    for index, command in enumerate(commands):
        fields = Fields(command, f"commands.{index}.", errors)
        kind = command["type"].strip()
        reader = _READERS.get(kind) if kind in SUPPORTED_COMMANDS else None
        if reader is None:
            fields.fault("type", f"Workflow task command type [{kind}] is not supported by the server yet.")
        else:
            steps.append(reader(fields))
    return steps


def _schedule_activity(fields: Fields) -> ScheduleActivity:
    sent = fields.data
    timeouts = {name: fields.integer(name, low=1, high=LONGEST_SECONDS) for name in _TIMEOUTS}
    key = sent.get("fairness_key")
    return ScheduleActivity(
        activity_type=fields.required_text("activity_type"),
        arguments=_arguments(fields),
        queue=fields.text("queue" if sent.get("queue") is not None else "task_queue", blank_is_fault=True),
        connection=fields.text("connection", blank_is_fault=True),
        retry_policy=_retry_policy(fields),
        priority=_or_none(sent.get("priority"), 0, 9),
        fairness_key=key.strip().lower() if isinstance(key, str) and _FAIRNESS_KEY.match(key.strip()) else None,
        fairness_weight=_or_none(sent.get("fairness_weight"), 1, 1000),
        **timeouts,
    )


def _or_none(value: Any, low: int, high: int) -> int | None:
    """An integer in range; everything else falls back to the run's value (worker-protocol 5.3)."""
    number = as_integer(value)
    return number if number is not None and low <= number <= high else None


def _arguments(fields: Fields) -> Payload | None:
    return normalise_arguments(fields, "arguments" if fields.data.get("arguments") is not None else "input", AVRO)


def _retry_policy(fields: Fields) -> RetryPolicy | None:
    sent = fields.object("retry_policy")
    if sent is None:
        return None
    reader = Fields(sent, f"{fields.prefix}retry_policy.", fields.errors)
    backoff: list[int] = []
    listed = sent.get("backoff_seconds")
    if listed is not None and not isinstance(listed, list):
        reader.fault("backoff_seconds", "The backoff seconds field must be a list.")
    else:
        for index, item in enumerate(listed or ()):
            seconds = as_integer(item)
            if seconds is None or not 0 <= seconds <= LONGEST_SECONDS:
                reader.fault(f"backoff_seconds.{index}", f"The backoff seconds.{index} field must be an integer of at least 0.")
            else:
                backoff.append(seconds)
    return RetryPolicy(
        max_attempts=reader.integer("max_attempts", low=1, high=2_147_483_647, default=1) or 1,
        backoff_seconds=backoff,
        non_retryable_error_types=reader.strings("non_retryable_error_types") or [],
    )


def _start_timer(fields: Fields) -> StartTimer:
    return StartTimer(fields.integer("delay_seconds", low=0, high=LONGEST_SECONDS, required=True) or 0)


def _complete_workflow(fields: Fields) -> CompleteWorkflow:
    return CompleteWorkflow(normalise_value(fields, "result", AVRO))


def _fail_workflow(fields: Fields) -> FailWorkflow:
    fields.storable("exception")
    return FailWorkflow(
        message=fields.free_text("message", required=True) or "",
        exception_type=fields.text("exception_type", longest=None, blank_is_fault=True),
        exception_class=fields.text("exception_class", longest=None, blank_is_fault=True),
        non_retryable=fields.boolean("non_retryable"),
        exception=fields.object("exception"),
    )


_READERS: dict[str, Callable[[Fields], Steps]] = {
    "schedule_activity": _schedule_activity,
    "start_timer": _start_timer,
    "complete_workflow": _complete_workflow,
    "fail_workflow": _fail_workflow,
}
