"""The seam between a run and the client generations that read its history.

The core asks its presentation what a worker is shown and whether a batch of steps is new; the answers for a client generation
with needs of its own live in `actors.dialects`. `Chronological` is the truth unadorned.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec import Struct

from actors.run.commands.steps import Steps
from actors.run.state import RunState, WorkflowTask


class Recorded(Struct, frozen=True, array_like=True):
    """An event as a presentation sees it.

    `step`: the step it resolves, 0 for none. `own`: recorded by the completion of a workflow task, out of its own commands.
    """

    sequence: int
    event_type: str
    step: int
    own: bool


class Chronological:
    """Shows every worker the history as it happened; every step is new."""

    def recorded(self, state: RunState, event: Recorded) -> None:
        """An event was appended to history."""

    def batch(self, state: RunState, steps: Sequence[Steps], numbers: list[int]) -> None:
        """A completion created these blocking steps, with these step numbers."""

    def claimed(self, state: RunState, dialect: str) -> int:
        """A worker of `dialect` claims the workflow task: how many events its snapshot holds."""
        return state.last_sequence

    def view_length(self, state: RunState) -> int:
        """How many events the run's view holds, 0 without one."""
        return 0

    def new_receivers(self, state: RunState, dialect: str) -> bool:
        """Whether the snapshot just fixed holds a signal or applied update no completed normal task has seen."""
        return bool(state.receivers)

    def seen(self, state: RunState, task: WorkflowTask) -> None:
        """A normal task was completed: what its snapshot held, the workflow knows."""
        state.receivers = [event for event in state.receivers if event > task.claimed_at_event]

    def paces_signals(self, dialect: str) -> bool:
        """Whether workers of `dialect` are shown one signal at a time while they wait."""
        return False

    def hidden_signals(self, state: RunState, dialect: str) -> Collection[int]:
        """Events of signals held back from workers of `dialect`."""
        return ()

    def for_query(self, state: RunState, history: list[bytes], dialect: str) -> tuple[bytes, int]:
        """All events as a query of `dialect` sees them: a serialized JSON array, and its length."""
        return number(history, 1), len(history)

    def repeatable(self, state: RunState) -> bool:
        """Whether the snapshot just fixed leaves a step of the current batch unresolved."""
        return False

    def repeats(self, state: RunState, steps: Sequence[Steps]) -> bool:
        """Whether `steps` only say again what the current batch said (engine-semantics 3.2)."""
        return False

    def shows(self, state: RunState, dialect: str, step: int) -> bool:
        """Whether a resolution of `step`, if recorded now, would be shown to a worker of `dialect` at its next claim."""
        return True

    def page(
        self, state: RunState, history: list[bytes], dialect: str, snapshot: int, after: int, size: int
    ) -> tuple[bytes, int, int | None]:
        """Events `after` + 1 to `after` + `size` of a snapshot: a serialized JSON array, its length, and where to go on.

        The third is the position to read on behind, None at the end.
        """
        last = min(after + size, snapshot)
        return number(history[after:last], after + 1), max(last - after, 0), last if last < snapshot else None


def number(lines: list[bytes], first: int) -> bytes:
    """A JSON array of stored events, each given its `sequence` from `first` upward."""
    return b"[" + b",".join([b'{"sequence":%d,%b' % (at, line[1:]) for at, line in enumerate(lines, first)]) + b"]"
