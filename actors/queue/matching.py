"""The pure part of a task queue: ready tasks in order, waiting polls in order, who gets what.

Tasks go out by priority, then the time they became available, then id (contract worker-protocol 4.2); among the polls that may
have a task the longest waiting gets it, those of other nodes last: what is granted and completed on one node is cheaper.
Tasks of one type and build marker share a heap, polls of one profile share a line, so a match looks at as many heaps or lines
as there are kinds, not at every task or poll.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from actors.queue.poll import WorkerProfile


class QueuedTask(Struct, frozen=True):
    """A claimable task as a queue knows it; the run has the last word at the claim."""

    task_id: str
    type_name: str
    compatibility: str | None
    priority: int
    available_at: int

    @property
    def order(self) -> tuple[int, int, str]:
        """The sort key among ready tasks."""
        return self.priority, self.available_at, self.task_id


class Waiting(Protocol):
    """A parked poll, as far as matching cares."""

    @property
    def profile(self) -> WorkerProfile: ...


W = TypeVar("W", bound=Waiting)
_Kind = tuple[str, str | None]
_Order = tuple[int, int, str]


class TaskLine:
    """Ready and delayed tasks of one queue, each once."""

    __slots__ = ("_delayed", "_heaps", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[str, QueuedTask] = {}
        self._heaps: dict[_Kind, list[_Order]] = {}
        self._delayed: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self.tasks)

    def add(self, task: QueuedTask, now: int) -> None:
        """Take a task in; `now` in microseconds decides whether it is ready or delayed. Of two times the earlier counts."""
        if self.knows(task):
            return
        self.tasks[task.task_id] = task
        if task.available_at > now:
            heapq.heappush(self._delayed, (task.available_at, task.task_id))
        else:
            self._push(task)

    def knows(self, task: QueuedTask) -> bool:
        """Whether the task is here already and goes out no later than this."""
        known = self.tasks.get(task.task_id)
        return known is not None and known.available_at <= task.available_at

    def _push(self, task: QueuedTask) -> None:
        heapq.heappush(self._heaps.setdefault((task.type_name, task.compatibility), []), task.order)

    def ripen(self, now: int) -> None:
        """Move delayed tasks whose time has come."""
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            due, task_id = heapq.heappop(delayed)
            task = self.tasks.get(task_id)
            if task is not None and task.available_at == due:
                self._push(task)

    def _prune(self, kind: _Kind) -> list[_Order]:
        """The heap of a kind without leading entries of tasks that are gone or come at another time now."""
        heap = self._heaps[kind]
        while heap and ((task := self.tasks.get(heap[0][2])) is None or task.order != heap[0]):
            heapq.heappop(heap)
        if not heap:
            del self._heaps[kind]
        return heap

    def next_due(self) -> int | None:
        """When the next delayed task ripens, in microseconds."""
        return self._delayed[0][0] if self._delayed else None

    def take(self, profile: WorkerProfile) -> QueuedTask | None:
        """Remove and return the first ready task this worker may have."""
        best: tuple[_Order, _Kind] | None = None
        for kind in list(self._heaps):
            heap = self._prune(kind)
            if heap and profile.serves(*kind) and (best is None or heap[0] < best[0]):
                best = heap[0], kind
        if best is None:
            return None
        heapq.heappop(self._heaps[best[1]])
        return self.tasks.pop(best[0][2])

    def has_ready(self) -> bool:
        """Whether any task is ready now, for whomever."""
        return any(self._prune(kind) for kind in list(self._heaps))

    def discard(self, task_id: str) -> None:
        """Forget a task that is claimable no more."""
        self.tasks.pop(task_id, None)


_FAR = 1 << 60  # tickets from here on belong to polls of other nodes: behind all others
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

    def take(self, type_name: str, compatibility: str | None, near: bool = False) -> tuple[W, int] | None:
        """Remove and return the longest waiting poll that may have such a task, with its ticket. `near`: no far one."""
        best: tuple[int, _LineKey] | None = None
        for key, line in self._lines.items():
            ticket = next(iter(line))
            if (best is None or ticket < best[0]) and line[ticket].profile.serves(type_name, compatibility):
                best = ticket, key
        if best is None or (near and best[0] >= _FAR):
            return None
        ticket, key = best
        line = self._lines[key]
        waiter = line.pop(ticket)
        if not line:
            del self._lines[key]
        return waiter, ticket

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
    profile = waiter.profile
    return ticket >= _FAR, profile.build_id, profile.types
