"""Commands of a workflow-task completion, as sent, made into the typed steps of the core (worker-protocol 5).

Two kinds of faults: those of `scope_errors` are answered before anything is looked up, those of `read_steps` only to the worker
that holds the task's lease (worker-protocol 2.3). All keys start with `commands.N.`. Each type is read in
`api.worker.commands.readers`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial

from msgspec import Raw

from actors.run.commands.steps import WorkflowCommand
from api.http.input import json_text
from api.http.input.fields import MOST_FAULTS, Fields, as_integer
from api.worker.commands.readers import ACTIVITY_TIMEOUT_ORDER, ACTIVITY_TIMEOUTS, READERS

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
_ORDER = (*ACTIVITY_TIMEOUT_ORDER, ("run_timeout_seconds", "execution_timeout_seconds"))


def scope_errors(request: Fields) -> list[Fields]:
    """A reader of each of the request's `commands`, which have a type; every fault of shape and scope is noted.

    Reading is given up at MOST_FAULTS.
    """
    name = "commands"
    commands = request.items(name)
    if not commands:
        if name not in request.errors:
            request.missing(name)
        return []
    texts = _Texts(request, name)
    found: list[Fields] = []
    for index, sent in enumerate(commands):
        command = json_text.plain(sent)
        if type(command) is dict:
            members: json_text.Members | json_text.Sparse = command
        elif json_text.kind(command) is dict:
            members = json_text.members(command)
        else:
            request.fault(f"{name}.{index}", f"The {name}.{index} field must be an object.")
            if len(request.errors) >= MOST_FAULTS:
                break
            continue
        fields = Fields(members, f"{name}.{index}.", request.errors, partial(texts.item, index), request.reference_faults)
        kind = fields.text("type", required=True, longest=None)
        if kind is None:
            if len(request.errors) >= MOST_FAULTS:
                break
            continue
        if fields.has_any(_SCOPED):
            _check_scopes(fields, kind)
        found.append(fields)
    return found


class _Texts:
    """The texts of the items of a list, taken apart when first asked for."""

    __slots__ = ("_items", "_name", "_request")

    def __init__(self, request: Fields, name: str) -> None:
        self._request = request
        self._name = name
        self._items: list[Raw] | None = None

    def item(self, index: int) -> Raw | None:
        if self._items is None:
            text = self._request.raw(self._name)
            self._items = [] if text is None else json_text.items(text)
        return self._items[index]


def _check_scopes(fields: Fields, kind: str) -> None:
    for name, allowed in _SCOPES:
        if fields.get(name) is not None and kind not in allowed:
            fields.fault(name, f"{name} is only supported for {' and '.join(allowed)} commands.")
    for first, second in _ORDER:
        low, high = as_integer(fields.get(first)), as_integer(fields.get(second))
        if low is not None and high is not None and low > high:
            fields.fault(first, f"{first} cannot exceed {second}.")


def read_steps(commands: list[Fields], errors: Errors) -> list[WorkflowCommand]:
    """The typed steps; faults of content are noted in `errors`, and the list is of no use then."""
    steps: list[WorkflowCommand] = []
    for fields in commands:
        fields.errors = errors
        kind = fields.get("type").strip()
        reader = READERS.get(kind)
        if reader is None:
            fields.fault("type", f"Workflow task command type [{kind[:80]}] is not supported by the server yet.")
        else:
            steps.append(reader(fields))
        if len(errors) >= MOST_FAULTS:
            break
    return steps


class Batches:
    """Batches of steps read before, by the commands as sent.

    A worker sends the same long list again at each task while a member of it is unresolved (worker-protocol 6.3); a look-up
    costs a twentieth of reading it. Only batches without fault are kept. The same text gives the same list object, which nobody
    may change: its digest is found by it (docs/design/sdk04-view.md, "A batch sent again is the same object").
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, list[WorkflowCommand]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()  # long requests are read beside the loop

    def read(self, request: Fields, content: Errors) -> list[WorkflowCommand]:
        """`scope_errors` of the request, then `read_steps` into `content`."""
        sent = self._long(request)
        if sent is None:
            return read_steps(scope_errors(request), content)
        with self._lock:
            known = self._known.get(sent)
            if known is not None:
                self._known.move_to_end(sent)
                return known
        steps = read_steps(scope_errors(request), content)
        if not request.errors and not content and len(sent) <= _KEPT_BYTES // 4:
            self._keep(sent, steps)
        return steps

    def _long(self, request: Fields) -> bytes | None:
        """The text of a batch worth keeping, None for a short one."""
        commands = request.data.get("commands")
        if type(commands) is Raw:
            return bytes(commands)
        if not isinstance(commands, list) or len(commands) < _LONG_BATCH:
            return None
        text = request.raw("commands")
        return None if text is None else bytes(text)

    def _keep(self, sent: bytes, steps: list[WorkflowCommand]) -> None:
        with self._lock:
            if self._known.setdefault(sent, steps) is not steps:
                return
            self._bytes += len(sent)
            while self._bytes > _KEPT_BYTES:
                gone, _ = self._known.popitem(last=False)
                self._bytes -= len(gone)
