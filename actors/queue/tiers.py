"""Due tasks by priority tier and class, and how far they are known (contract operations 3); pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from actors.queue.fairness import in_turn
from actors.queue.matching import Order, QueuedTask

_LEAST = -(1 << 62)
_MOST = 1 << 62
_MOST_HEADS = 4  # times the room of a window, for first tasks of classes


class Reach(Struct, frozen=True):
    """Up to where tasks are known, where not all are.

    All of the tiers before `priority`, none of those behind. In that tier, of the class c those up to `bounds[c]`; of classes
    not named there all if `others`, else none. `partly`: there are more classes than are known at a time, and others have their
    turn later.
    """

    priority: int
    bounds: Mapping[str, Order] = {}
    others: bool = False
    partly: bool = False

    def covers(self, task: QueuedTask) -> bool:
        """Whether all tasks of its class up to this one are known."""
        if task.priority != self.priority:
            return task.priority < self.priority
        bound = self.bounds.get(task.fairness_class)
        return self.others if bound is None else task.order <= bound

    def run_out(self, heads: list[QueuedTask]) -> list[str] | None:
        """Classes of the tier of `heads` that have none among them, and may have more tasks than are known.

        None when the tier is not known so well that one could choose.
        """
        if heads[0].priority < self.priority:
            return []
        if heads[0].priority > self.priority or not (self.others or self.partly):
            return None
        there = {task.fairness_class for task in heads}
        return [name for name, bound in self.bounds.items() if name not in there and bound[1] < _MOST]


NOWHERE = Reach(_LEAST)


def cut(tasks: Iterable[QueuedTask], room: int, reach: Reach | None = None) -> tuple[list[QueuedTask], Reach | None]:
    """Of these tasks, known as far as `reach`, those that have room, and how far they are known then."""
    turns = in_turn(tasks)
    heads = next((n for n, (turn, _) in enumerate(turns) if turn > 0), len(turns))  # of the first tier, as others follow
    room = max(room, min(heads, _MOST_HEADS * room))
    if len(turns) <= room:
        return [task for _, task in turns], reach
    kept = [task for _, task in turns[:room]]
    turn, last = turns[room - 1]
    tier = last.priority
    bounds: dict[str, Order] = {}
    for task in kept:
        if task.priority == tier:
            bounds[task.fairness_class] = max(bounds.get(task.fairness_class, task.order), task.order)
    all_heads = turn > 0 or (tier == kept[0].priority and heads <= room)
    others, partly = all_heads, not all_heads and tier == kept[0].priority
    if reach is not None and reach.priority == tier:
        others, partly = others and reach.others, partly or reach.partly
        for name, bound in reach.bounds.items():
            if name in bounds:
                bounds[name] = min(bounds[name], bound)
            elif all_heads:
                bounds[name] = bound
    return kept, Reach(tier, bounds, others, partly)


class Tiers:
    """Due tasks, and which is the first of each class."""

    __slots__ = ("_changed", "_heads", "_heaps", "_marks", "_tasks", "_top")

    def __init__(self, tasks: Iterable[QueuedTask] = ()) -> None:
        self._tasks: dict[str, QueuedTask] = {}
        self._heaps: dict[int, dict[str, list[Order]]] = {}
        self._marks = 0
        # The first tasks of the tier that was asked for last, but for classes that have changed since.
        self._top: int | None = None
        self._heads: dict[str, QueuedTask] = {}
        self._changed: set[str] = set()
        for task in tasks:
            self.add(task)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[QueuedTask]:
        return iter(self._tasks.values())

    def get(self, task_id: str) -> QueuedTask | None:
        """The task of that id."""
        return self._tasks.get(task_id)

    def add(self, task: QueuedTask) -> None:
        """Take a task in, instead of one of the same id."""
        name, priority = task.fairness_key or "", task.priority
        if task.task_id in self._tasks:
            self.discard(task.task_id)
        self._tasks[task.task_id] = task
        classes = self._heaps.get(priority)
        if classes is None:
            classes = self._heaps[priority] = {}
        heap = classes.get(name)
        if heap is None:
            heap = classes[name] = []
        heapq.heappush(heap, task.order)
        self._marks += 1
        if priority == self._top:
            self._changed.add(name)

    def discard(self, task_id: str) -> None:
        """Forget a task."""
        task = self._tasks.pop(task_id, None)
        if task is not None and task.priority == self._top:
            self._changed.add(task.fairness_key or "")

    @property
    def classes(self) -> int:
        """How many classes the most urgent tier has, or had a moment ago."""
        return len(self._heaps[min(self._heaps)]) if self._heaps else 0

    def tidied(self) -> Tiers:
        """These tasks without too many marks of tasks that are gone."""
        return self if self._marks <= 2 * len(self._tasks) + 64 else Tiers(self)

    def heads(self) -> list[QueuedTask]:
        """The first task of each class of the most urgent tier that has any."""
        while self._heaps:
            priority = min(self._heaps)
            classes = self._heaps[priority]
            if priority != self._top:
                self._top, self._heads = priority, {}
                self._changed = set(classes)
            for name in self._changed:
                task = self._head(classes, name)
                if task is None:
                    self._heads.pop(name, None)
                else:
                    self._heads[name] = task
            self._changed.clear()
            if self._heads:
                return list(self._heads.values())
            del self._heaps[priority]
            self._top = None
        return []

    def _head(self, classes: dict[str, list[Order]], name: str) -> QueuedTask | None:
        heap, tasks = classes.get(name), self._tasks
        while heap:
            first = heap[0]
            task = tasks.get(first[2])
            if task is not None and task.order == first and (task.fairness_key or "") == name:
                return task
            heapq.heappop(heap)  # the mark of a task that is gone or comes at another time now
            self._marks -= 1
        classes.pop(name, None)
        return None
