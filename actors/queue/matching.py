"""The pure part of a task queue about polls: those that wait in order, and who gets a task (tasks in order: `candidates`).

Among the polls that may have a task the longest waiting gets it, those of other nodes last: what is granted and completed on
one node is cheaper. Polls of one profile share a line, so a match looks at as many lines as there are profiles.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from actors.queue.poll import WorkerProfile

Order = tuple[int, int, str]


class Ready(Protocol):
    """A ready task, wherever it comes from."""

    @property
    def task_id(self) -> str: ...

    @property
    def type_name(self) -> str: ...

    @property
    def compatibility(self) -> str | None: ...

    @property
    def priority(self) -> int: ...

    @property
    def available_at(self) -> int: ...

    @property
    def fairness_key(self) -> str | None: ...

    @property
    def fairness_weight(self) -> int: ...


class QueuedTask(Struct, frozen=True):
    """What a queue keeps of a ready task, thousands of them; the run has the last word at the claim."""

    task_id: str
    type_name: str
    compatibility: str | None
    priority: int
    available_at: int
    fairness_key: str | None = None
    fairness_weight: int = 1

    @staticmethod
    def of(task: Ready) -> QueuedTask:
        """The core's record, the store's row or another node's offer as a queue keeps it."""
        return QueuedTask(
            task.task_id,
            task.type_name,
            task.compatibility,
            task.priority,
            task.available_at,
            task.fairness_key,
            task.fairness_weight,
        )

    @property
    def order(self) -> Order:
        """The sort key in one class: priority, when the task became available, its id (contract worker-protocol 4.2)."""
        return self.priority, self.available_at, self.task_id

    @property
    def fairness_class(self) -> str:
        """The class that shares with others by weight (contract operations 3); empty for tasks without a key."""
        return self.fairness_key or ""


class Waiting(Protocol):
    """A parked poll, as far as matching cares."""

    @property
    def profile(self) -> WorkerProfile: ...


W = TypeVar("W", bound=Waiting)


_FAR = 1 << 60  # tickets from here on belong to peer polls: behind all others, and still in their order among themselves
_LineKey = tuple[bool, str | None, frozenset[str] | None]


class WaitLine(Generic[W]):
    """Parked polls of one queue, in the order they came, those of other nodes behind all others."""

    __slots__ = ("_lines", "_numbers")

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        """`numbers`: where tickets come from, for lines that are made anew while polls hold tickets of the old one."""
        self._lines: dict[_LineKey, OrderedDict[int, W]] = {}
        self._numbers = numbers or itertools.count(1)

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def add(self, waiter: W, far: bool = False) -> int:
        """Park a poll at the end; returns the ticket to remove it with. `far`: its client is connected to another node."""
        ticket = next(self._numbers)
        if far:
            ticket += _FAR
        self._lines.setdefault(_line_key(waiter, ticket), OrderedDict())[ticket] = waiter
        return ticket

    def put_back(self, waiter: W, ticket: int) -> None:
        """Park a poll again at its old place (its claim came to nothing), mostly the front of its line."""
        line = self._lines.setdefault(_line_key(waiter, ticket), OrderedDict())
        earlier = bool(line) and next(iter(line)) < ticket
        line[ticket] = waiter
        if not earlier:
            line.move_to_end(ticket, last=False)
        else:
            for later in [other for other in line if other > ticket]:
                line.move_to_end(later)

    def remove(self, waiter: W, ticket: int) -> None:
        """Forget a poll."""
        key = _line_key(waiter, ticket)
        line = self._lines.get(key)
        if line is not None:
            line.pop(ticket, None)
            if not line:
                del self._lines[key]

    def take(self, type_name: str, compatibility: str | None) -> tuple[W, int] | None:
        """Remove and return the longest waiting poll that may have such a task, with its ticket."""
        best: tuple[int, _LineKey] | None = None
        for key, line in self._lines.items():
            ticket = next(iter(line))
            if (best is None or ticket < best[0]) and line[ticket].profile.serves(type_name, compatibility):
                best = ticket, key
        if best is None:
            return None
        ticket, key = best
        line = self._lines[key]
        waiter = line.pop(ticket)
        if not line:
            del self._lines[key]
        return waiter, ticket

    def waits(self, profile: WorkerProfile) -> bool:
        """Whether any poll of a worker like this one is parked."""
        lines = self._lines
        return (False, *profile.shape) in lines or (True, *profile.shape) in lines

    def drain(self) -> list[W]:
        """Remove and return all."""
        waiters = [waiter for line in self._lines.values() for waiter in line.values()]
        self._lines.clear()
        return waiters

    def each(self) -> list[tuple[W, int]]:
        """All parked polls with their tickets, in the order in which they get tasks."""
        parked = [(waiter, ticket) for line in self._lines.values() for ticket, waiter in line.items()]
        return sorted(parked, key=lambda each: each[1])


def _line_key(waiter: Waiting, ticket: int) -> _LineKey:
    return ticket >= _FAR, *waiter.profile.shape
