"""The seam between a run and the client generations that read its history.

The core asks its dialect what a worker is shown and whether a batch of commands is new; the answers for a client generation
with needs of its own live in `actors.dialects`. `PlainHistory` is the truth unadorned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from msgspec import Struct

from actors.run.commands.steps import WorkflowCommand
from actors.run.events.types import EventType
from actors.run.state import RunState, WorkflowTask


class Recorded(Struct, frozen=True, array_like=True):
    """An event as a dialect sees it.

    `step`: the step it resolves, 0 for none. `own`: recorded by the completion of a workflow task, out of its own commands.
    """

    sequence: int
    event_type: EventType
    step: int
    own: bool


class Snapshot(Struct, frozen=True, array_like=True):
    """What the worker that claims a workflow task is shown.

    `length`: how many events. `view_length`: how many the run's view holds, 0 without one. `repeatable`: it leaves a step of
    the current batch unresolved. `new_receivers`: it holds a signal or applied update no completed normal task has seen.
    """

    length: int
    view_length: int
    repeatable: bool
    new_receivers: bool


class Dialect(ABC):
    """What workers of each generation are shown. A method's `dialect` names the generation of the worker concerned."""

    @abstractmethod
    def recorded(self, state: RunState, event: Recorded) -> None:
        """An event was appended to history."""

    @abstractmethod
    def batch(self, state: RunState, steps: Sequence[WorkflowCommand], numbers: list[int]) -> None:
        """A completion created these blocking steps, with these step numbers."""

    @abstractmethod
    def claimed(self, state: RunState, dialect: str) -> Snapshot:
        """A worker claims the workflow task: its snapshot is fixed."""

    @abstractmethod
    def seen(self, state: RunState, task: WorkflowTask) -> None:
        """A normal task was completed: what its snapshot held, the workflow knows."""

    @abstractmethod
    def paces_signals(self, dialect: str) -> bool:
        """Whether workers are shown one signal at a time while they wait."""

    @abstractmethod
    def hidden_signals(self, state: RunState, dialect: str) -> Collection[int]:
        """Events of signals held back from workers."""

    @abstractmethod
    def for_query(self, state: RunState, history: list[bytes], dialect: str) -> tuple[bytes, int]:
        """All events as a query sees them: a serialized JSON array, and its length."""

    @abstractmethod
    def repeats(self, state: RunState, steps: Sequence[WorkflowCommand]) -> bool:
        """Whether `steps` only say again what the current batch said (engine-semantics 3.2)."""

    @abstractmethod
    def shows(self, state: RunState, dialect: str, step: int) -> bool:
        """Whether a resolution of `step`, if recorded now, would be shown to a worker at its next claim."""

    @abstractmethod
    def page(
        self, state: RunState, history: list[bytes], dialect: str, snapshot: int, after: int, size: int
    ) -> tuple[bytes, int, int | None]:
        """Events `after` + 1 to `after` + `size` of a snapshot: a serialized JSON array, its length, and where to go on.

        The third is the position to read on behind, None at the end.
        """


class PlainHistory(Dialect):
    """Shows every worker the history as it happened; every step is new."""

    def recorded(self, state: RunState, event: Recorded) -> None:
        pass

    def batch(self, state: RunState, steps: Sequence[WorkflowCommand], numbers: list[int]) -> None:
        pass

    def claimed(self, state: RunState, dialect: str) -> Snapshot:
        return Snapshot(state.last_sequence, 0, repeatable=False, new_receivers=bool(state.receivers))

    def seen(self, state: RunState, task: WorkflowTask) -> None:
        state.receivers = [event for event in state.receivers if event > task.claimed_at_event]

    def paces_signals(self, dialect: str) -> bool:
        return False

    def hidden_signals(self, state: RunState, dialect: str) -> Collection[int]:
        return ()

    def for_query(self, state: RunState, history: list[bytes], dialect: str) -> tuple[bytes, int]:
        return number(history, 1), len(history)

    def repeats(self, state: RunState, steps: Sequence[WorkflowCommand]) -> bool:
        return False

    def shows(self, state: RunState, dialect: str, step: int) -> bool:
        return True

    def page(
        self, state: RunState, history: list[bytes], dialect: str, snapshot: int, after: int, size: int
    ) -> tuple[bytes, int, int | None]:
        last = min(after + size, snapshot)
        return number(history[after:last], after + 1), max(last - after, 0), last if last < snapshot else None


def number(lines: list[bytes], first: int) -> bytes:
    """A JSON array of stored events, each given its `sequence` from `first` upward."""
    return b"[" + b",".join([b'{"sequence":%d,%b' % (at, line[1:]) for at, line in enumerate(lines, first)]) + b"]"
