"""Commands of a workflow-task completion, as sent, made into the typed steps of the core (worker-protocol 5).

Two kinds of faults: those of `scope_errors` are answered before anything is looked up, those of `read_steps` only to the worker
that holds the task's lease (worker-protocol 2.3). All keys start with `commands.N.`. Each type is read in `api.step_readers`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from actors.run.commands import Steps
from api.step_readers import ACTIVITY_TIMEOUTS, READERS
from api.validation import Fields, as_integer

Errors = dict[str, list[str]]

_LONG_BATCH = 32
_KEPT_BYTES = 8 * 1024 * 1024

_ACTIVITY = ("schedule_activity",)
_CALLS = ("schedule_activity", "start_child_workflow")
_CHILD = ("start_child_workflow",)
_FAILS = ("fail_workflow", "fail_update")

_SCOPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("retry_policy", _CALLS),
    *((name, _ACTIVITY) for name in ACTIVITY_TIMEOUTS),
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
        reader = READERS.get(kind)
        if reader is None:
            fields.fault("type", f"Workflow task command type [{kind}] is not supported by the server yet.")
        else:
            steps.append(reader(fields))
    return steps


class Batches:
    """Batches of steps read before, by the commands as sent.

    A worker sends the same long list again at each task while a member of it is unresolved (worker-protocol 6.3); a look-up
    costs a twentieth of reading it. Only batches without fault are kept.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, list[Steps]] = OrderedDict()
        self._bytes = 0

    def read(self, commands: Any, shape: Errors, content: Errors) -> list[Steps]:
        """`scope_errors` into `shape`, then `read_steps` into `content`."""
        if not isinstance(commands, list) or len(commands) < _LONG_BATCH:
            return read_steps(scope_errors(commands, shape), content)
        try:
            sent = msgspec.msgpack.encode(commands)
        except (OverflowError, RecursionError, ValueError):
            return read_steps(scope_errors(commands, shape), content)
        known = self._known.get(sent)
        if known is not None:
            self._known.move_to_end(sent)
            return known
        steps = read_steps(scope_errors(commands, shape), content)
        if not shape and not content and len(sent) <= _KEPT_BYTES // 4:
            self._known[sent] = steps
            self._bytes += len(sent)
            while self._bytes > _KEPT_BYTES:
                gone, _ = self._known.popitem(last=False)
                self._bytes -= len(gone)
        return steps
