"""The order of claims inside a priority tier: classes share by weight (contract operations 3); pure.

A class is a fairness key, or all tasks without one. Each lease adds 1 to the score of its class, which halves every 30 seconds;
next is the class with the least (score + tasks being claimed) / weight, and its oldest task. As all scores shrink alike, they
are kept unshrunk: a lease counts the more the later it is. So nothing has to be done as time passes, and where no key occurs
nothing is kept at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from actors.queue.matching import QueuedTask

HALF_LIFE = 30_000_000  # microseconds
_MOST_CLASSES = 10_000  # that are remembered; those with the least scores are forgotten first
_MOST_HALVES = 64.0  # since scores were written down anew
_NEGLIGIBLE = 2.0**-12


class Shares:
    """What the classes of one queue have had lately."""

    __slots__ = ("_factor", "_now", "_on", "_picked", "_scores", "_since", "_weights")

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` in microseconds."""
        self._now = now
        self._on = False  # whether a key ever occurred
        self._since = 0
        self._factor = 1.0  # what a lease of `_since` counts now
        self._scores: dict[str, float] = {}  # in leases as of `_since`
        self._picked: dict[str, int] = {}
        self._weights: dict[str, int] = {}  # of the task picked last

    def __len__(self) -> int:
        return len(self._scores)

    def pick(self, task: QueuedTask) -> None:
        """A task is being claimed."""
        if self._on or task.fairness_key is not None:
            self._tick()
            name = task.fairness_class
            self._picked[name] = self._picked.get(name, 0) + 1
            self._weights[name] = task.fairness_weight

    def settle(self, task: QueuedTask, granted: bool) -> None:
        """A claim has ended, with a lease or without."""
        if not self._on:
            return
        name = task.fairness_class
        left = self._picked.get(name, 0) - 1
        if left > 0:
            self._picked[name] = left
        else:
            self._picked.pop(name, None)
        if granted:
            self.granted(name)

    def granted(self, name: str) -> None:
        """A lease of a class was granted, picked or not."""
        if self._on or name:
            self._tick()
            self._scores[name] = self._scores.get(name, 0.0) + 1.0 / self._factor

    def value(self, name: str, weight: int | None = None) -> float:
        """What a class has had for its weight; the least goes first. Without `weight` that of its last task counts."""
        if weight is None:
            weight = self._weights.get(name, 1)
        return (self._scores.get(name, 0.0) * self._factor + self._picked.get(name, 0)) / (weight or 1)

    def refresh(self) -> None:
        """Scores are asked for as of now."""
        if self._on:
            self._tick()

    def _tick(self) -> None:
        now = self._now()
        if not self._on:
            self._on, self._since = True, now
        halves = (now - self._since) / HALF_LIFE
        if abs(halves) <= _MOST_HALVES and len(self._scores) <= _MOST_CLASSES:
            self._factor = 0.5**halves
        else:
            self._rewrite(now, 0.5 ** min(max(halves, 0.0), 1000.0))

    def _rewrite(self, now: int, shrunk: float) -> None:
        """Write scores down as of now, without what is too little to matter. `shrunk`: what a lease of `_since` counts now."""
        scores = {name: score * shrunk for name, score in self._scores.items() if score * shrunk > _NEGLIGIBLE}
        if len(scores) > _MOST_CLASSES // 2:
            kept = sorted(scores, key=scores.__getitem__, reverse=True)[: _MOST_CLASSES // 2]
            scores = {name: scores[name] for name in kept}
        self._scores = scores
        if len(self._weights) > _MOST_CLASSES:
            self._weights = {name: weight for name, weight in self._weights.items() if name in scores or name in self._picked}
        self._since, self._factor = now, 1.0


def chosen(heads: Sequence[QueuedTask], run_out: Collection[str], shares: Shares) -> QueuedTask | None:
    """The task that goes out next.

    `heads`: the first task of each class of one tier. `run_out`: classes of which there may be more in the store; None when it
    is the turn of one of those.
    """
    if len(heads) == 1 and not run_out:
        return heads[0]
    shares.refresh()
    best, least = heads[0], shares.value(heads[0].fairness_class, heads[0].fairness_weight)
    for task in heads[1:]:
        value = shares.value(task.fairness_key or "", task.fairness_weight)
        if value < least or (value == least and task.order < best.order):
            best, least = task, value
    if any(shares.value(name) <= least for name in run_out):
        return None
    return best


def in_turn(tasks: Iterable[QueuedTask]) -> list[tuple[float, QueuedTask]]:
    """Tasks as they would go out if no class had had anything lately, each with its turn: 0 for the first of a class.

    The store reads them in the same order (store/ready_tasks.sql), so that each class has its share of what is read.
    """
    found: list[tuple[float, QueuedTask]] = []
    classes: dict[tuple[int, str], list[int]] = {}
    for task in sorted(tasks, key=lambda task: task.order):
        place = classes.setdefault((task.priority, task.fairness_class), [0, max(task.fairness_weight, 1)])
        found.append((place[0] / place[1], task))
        place[0] += 1
    found.sort(key=lambda each: (each[1].priority, each[0], each[1].order))
    return found
