"""The 0.4 generation of the Python SDK: the view of history it is shown, and the batches it sends again.

Its replayer matches results to yields by their position in history and emits a whole list again while a member is unresolved
(contract engine-semantics 2.6, rules V1 to V6, and 3.2). The view is an append-only order of the run's events: `spans` of
consecutive sequences. It is kept for every run, so that any worker may take over; workers of other generations are shown the
plain history.

    settled the older spans, packed: a signal under a lease makes three, and a run may get thousands of them
    fresh   events not placed yet: a sequence, negative for a signal, or [sequence, step] for a resolution
    held    step -> sequence of resolutions that wait for an earlier step of their group (V3)
    signals sequences of signals held back (V4, V5)
    receivers  positions of signals and applied updates that no completed normal task has seen
    groups  per completion its blocking steps not yet shown as resolved, in order; the last one is the current batch
"""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

import msgspec

from actors.dialects.page_cache import PageCache
from actors.run.commands.steps import ScheduleActivity, StartChild, StartTimer, WorkflowCommand
from actors.run.dialect import PlainHistory, Recorded, Snapshot, number
from actors.run.state import RunState, View, WorkflowTask
from actors.run.values import Payload

DIALECT = "0.4"

_encode = msgspec.msgpack.Encoder().encode


def dialect_of(runtime: str, sdk_version: str | None) -> str:
    """Which dialect a registration speaks: "0.4", or "" for plain history (engine-semantics 2.6)."""
    return DIALECT if runtime == "python" and (sdk_version or "").startswith("durable-workflow-python/0.") else ""


class Sdk04(PlainHistory):
    """Keeps the view of every run; shows it to workers of the 0.4 generation."""

    def __init__(self) -> None:
        self._digests = _Digests()
        self._pages = PageCache()

    def recorded(self, state: RunState, event: Recorded) -> None:
        view = state.view
        if not state.is_open:
            return  # nobody is shown what is noted on a closed run
        if event.own:
            _append(view, event.sequence)
            if event.event_type == "UpdateApplied":
                view.receivers.append(view.length)
        elif event.event_type == "SignalReceived":
            view.fresh.append(-event.sequence)
        elif event.step:
            view.fresh.append([event.sequence, event.step])
        else:
            view.fresh.append(event.sequence)

    def batch(self, state: RunState, steps: Sequence[WorkflowCommand], numbers: list[int]) -> None:
        view = state.view
        view.groups = [group for group in view.groups if group]
        view.groups.append(list(numbers))
        state.batch = self._digests.of(state, steps)

    def claimed(self, state: RunState, dialect: str) -> Snapshot:
        view = state.view
        _extend(view, hold=_holding(state))
        repeatable = bool(view.groups and view.groups[-1])
        if dialect == DIALECT:
            return Snapshot(view.length, view.length, repeatable, bool(view.receivers))
        return Snapshot(state.last_sequence, view.length, repeatable, bool(state.receivers))

    def seen(self, state: RunState, task: WorkflowTask) -> None:
        super().seen(state, task)
        view = state.view
        view.receivers = [position for position in view.receivers if position > task.view_length]

    def paces_signals(self, dialect: str) -> bool:
        return dialect == DIALECT

    def hidden_signals(self, state: RunState, dialect: str) -> Collection[int]:
        return state.view.signals if dialect == DIALECT else ()

    def for_query(self, state: RunState, history: list[bytes], dialect: str) -> tuple[bytes, int]:
        if dialect != DIALECT:
            return super().for_query(state, history, dialect)
        # V6: the view as it would be with everything placed, held signals last; the stored view stays as it is.
        view = copy.deepcopy(state.view)
        _extend(view, hold=_HOLD_ALL)
        for sequence in view.signals:
            _append(view, sequence)
        lines = [line for first, last in _spans(view) for line in history[first - 1 : last]]
        return number(lines, 1), len(lines)

    def repeats(self, state: RunState, steps: Sequence[WorkflowCommand]) -> bool:
        task = state.task
        return (
            task is not None
            and task.dialect == DIALECT
            and task.repeatable
            and bool(steps)
            and self._digests.of(state, steps) == state.batch
        )

    def shows(self, state: RunState, dialect: str, step: int) -> bool:
        if dialect != DIALECT:
            return True
        # Held exactly while an earlier step of its group has no resolution at all.
        resolved = {event[1] for event in state.view.fresh if not isinstance(event, int)} | state.view.held.keys()
        for group in state.view.groups:
            if step in group:
                return all(earlier in resolved for earlier in group[: group.index(step)])
        return True

    def page(
        self, state: RunState, history: list[bytes], dialect: str, snapshot: int, after: int, size: int
    ) -> tuple[bytes, int, int | None]:
        if dialect != DIALECT:
            return super().page(state, history, dialect, snapshot, after, size)
        last = min(after + size, snapshot)
        slices: list[tuple[int, int]] = []
        position = 0
        for first, end in _spans(state.view):
            length = end - first + 1
            start, stop = max(after - position, 0), min(last - position, length)
            if start < stop:
                slices.append((first - 1 + start, first - 1 + stop))
            position += length
            if position >= last:
                break
        page = self._pages.page(state.run_id, history, after, slices)
        return page, max(last - after, 0), last if last < snapshot else None


_LOOSE_SPANS = 64
_LONG_BATCH = 32
_KEPT_DIGESTS = 32

_HOLD_ALL = 0
_HOLD_NONE = -1


def _holding(state: RunState) -> int:
    """How many signals no completed task has seen may stand in the view after a claim now (V4, V5); -1 for any number."""
    task = state.task
    if not state.begun or (task is not None and task.update_id is not None):
        return _HOLD_ALL
    return _HOLD_NONE if state.wait is None else 1


def _extend(view: View, *, hold: int) -> None:
    """V2: place what is not placed yet in history order, except what V3 to V5 hold back."""
    fresh, view.fresh = view.fresh, []
    waiting: list[int | list[int]] = [-sequence for sequence in view.signals]
    view.signals = []
    for event in waiting + fresh:
        if not isinstance(event, int):
            _resolve(view, event[0], event[1])
        elif event > 0:
            _append(view, event)
        elif hold == _HOLD_NONE or len(view.receivers) < hold:
            _append(view, -event)
            view.receivers.append(view.length)
        else:
            view.signals.append(-event)


def _append(view: View, sequence: int) -> None:
    spans = view.spans
    if spans and spans[-1][1] == sequence - 1:
        spans[-1][1] = sequence
    else:
        spans.append([sequence, sequence])
        if len(spans) > _LOOSE_SPANS:
            _settle(view)
    view.length += 1


def _settle(view: View) -> None:
    """Pack the older half of the loose spans: per span two numbers, how far it begins behind the last end and its length."""
    half = _LOOSE_SPANS // 2
    packed = bytearray()
    for first, last in view.spans[:half]:
        distance = first - view.settled_end
        packed += _varint(2 * distance if distance >= 0 else -2 * distance - 1) + _varint(last - first)
        view.settled_end = last
    view.settled += bytes(packed)
    del view.spans[:half]


def _varint(value: int) -> bytes:
    """Seven bits a byte, the low ones first; the high bit says that more follow."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _spans(view: View) -> Iterator[tuple[int, int]]:
    """All spans of the view in order: first and last sequence of each."""
    end = value = shift = 0
    first: int | None = None
    for byte in view.settled:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            continue
        if first is None:
            first = end + (value >> 1 if value & 1 == 0 else -(value + 1 >> 1))
        else:
            end = first + value
            yield first, end
            first = None
        value = shift = 0
    for first, last in view.spans:
        yield first, last


def _resolve(view: View, sequence: int, step: int) -> None:
    """Place a resolution, or hold it until the earlier steps of its group are placed (V3)."""
    for group in view.groups:
        if step not in group:
            continue
        if group[0] != step:
            view.held[step] = sequence
            return
        group.pop(0)
        _append(view, sequence)
        while group and group[0] in view.held:
            _append(view, view.held.pop(group.pop(0)))
        return
    _append(view, sequence)


class _Digests:
    """Digests of the batches digested last, by the identity of the list: a worker's repeated batch is often the same object
    (docs/design/sdk04-view.md, "A batch sent again is the same object"). One that is another object is digested anew.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str], tuple[Sequence[WorkflowCommand], bytes]] = OrderedDict()

    def of(self, state: RunState, steps: Sequence[WorkflowCommand]) -> bytes:
        """`_digest`, remembered for long batches."""
        if len(steps) < _LONG_BATCH:
            return _digest(state, steps)
        key = (id(steps), state.task_queue)
        known = self._known.get(key)
        if known is not None and known[0] is steps:
            self._known.move_to_end(key)
            return known[1]
        digest = _digest(state, steps)
        self._known[key] = (steps, digest)
        if len(self._known) > _KEPT_DIGESTS:
            self._known.popitem(last=False)
        return digest


def _digest(state: RunState, steps: Sequence[WorkflowCommand]) -> bytes:
    """What makes two batches equal: kinds, names, queues, arguments, delays, and no other option (worker-protocol 6.3).

    Stored with the run: it must say the same of the same batch in every later version of this program.
    """
    same = [_identity(step, state.task_queue) for step in steps]
    return hashlib.blake2b(_encode(same), digest_size=16).digest()


def _identity(step: WorkflowCommand, queue: str | None) -> tuple[object, ...]:
    if isinstance(step, ScheduleActivity):
        return "activity", step.activity_type, _value(step.arguments), step.queue or queue
    if isinstance(step, StartChild):
        return "child", step.workflow_type, _value(step.arguments), step.queue or queue
    if isinstance(step, StartTimer):
        return "timer", step.delay_seconds
    return (step,)  # of a batch that is never recognised again


def _value(arguments: Payload | None) -> tuple[object, ...] | None:
    return None if arguments is None else (arguments.codec, arguments.blob, arguments.external_storage)
