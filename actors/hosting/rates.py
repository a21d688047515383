"""Tasks added and dispatched in the last minute, per queue, as this node saw them (contract operations 2.1).

In memory and gone with the node: every node counts what it commits, and whoever is asked adds up those alive.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from actors.queue.poll import ACTIVITY, WORKFLOW, QueueName
from actors.run.commands.base import Command
from actors.run.commands.worker import ClaimTask
from actors.run.replies import ActivityTaskGrant, RunReply, TaskGrant, WorkflowTaskGrant
from actors.run.transition import Transition

_SECONDS = 60
_MOST_QUEUES = 20_000

Counts = tuple[int, int]  # added, dispatched


class _Minute:
    """Counts by second, at most those of the last minute."""

    __slots__ = ("_added", "_dispatched", "_seconds")

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # second, added, dispatched
        self._added = 0
        self._dispatched = 0

    def count(self, second: int, added: int, dispatched: int) -> None:
        seconds = self._seconds
        if not seconds or seconds[-1][0] != second:
            self.expire(second)
            seconds.append([second, 0, 0])
        last = seconds[-1]
        last[1] += added
        last[2] += dispatched
        self._added += added
        self._dispatched += dispatched

    def expire(self, second: int) -> Counts:
        """What is left of the last minute."""
        seconds = self._seconds
        while seconds and not second - _SECONDS < seconds[0][0] <= second:  # also when the clock went back
            _, added, dispatched = seconds.popleft()
            self._added -= added
            self._dispatched -= dispatched
        return self._added, self._dispatched


class Rates:
    """The counters of one node, of those queues that had anything lately."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` in microseconds."""
        self._now = now
        self._queues: OrderedDict[QueueName, _Minute] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queues)

    def count(self, name: QueueName, *, added: int = 0, dispatched: int = 0) -> None:
        """So many tasks came or went just now."""
        minute = self._queues.get(name)
        if minute is None:
            if len(self._queues) >= _MOST_QUEUES:
                self._queues.popitem(last=False)
            minute = self._queues[name] = _Minute()
        else:
            self._queues.move_to_end(name)
        minute.count(self._now() // 1_000_000, added, dispatched)

    def committed(
        self,
        tx: Transition,
        eager: Iterable[tuple[object, TaskGrant]],
        commands: Sequence[Command[Any]],
        replies: Sequence[RunReply],
    ) -> None:
        """A commit made tasks ready, granted some of them at once (`eager`), and answered these commands."""
        namespace = tx.state.namespace
        for task in tx.ready.values():
            if not _again(tx, task.kind, task.task_id):
                self.count(QueueName(namespace, task.queue, task.kind), added=1)
        for _, grant in eager:
            self._granted(
                namespace, grant, added=int(not isinstance(grant, WorkflowTaskGrant) or grant.workflow_task_attempt <= 1)
            )
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(command, ClaimTask) and isinstance(reply, WorkflowTaskGrant | ActivityTaskGrant):
                self._granted(namespace, reply)

    def _granted(self, namespace: str, grant: TaskGrant, added: int = 0) -> None:
        kind = WORKFLOW if isinstance(grant, WorkflowTaskGrant) else ACTIVITY
        self.count(QueueName(namespace, grant.task_queue, kind), added=added, dispatched=1)

    def of(self, namespace: str, queues: Iterable[str]) -> list[tuple[str, str, int, int]]:
        """Queue, kind, added and dispatched of the last minute, where there were any."""
        second = self._now() // 1_000_000
        found: list[tuple[str, str, int, int]] = []
        for queue in queues:
            for kind in ("workflow", "activity"):
                minute = self._queues.get(QueueName(namespace, queue, kind))
                if minute is not None:
                    added, dispatched = minute.expire(second)
                    if added or dispatched:
                        found.append((queue, kind, added, dispatched))
        return found

    def total(self, namespace: str) -> Counts:
        """Added and dispatched in the last minute, over all queues of a namespace."""
        second = self._now() // 1_000_000
        found = [minute.expire(second) for name, minute in self._queues.items() if name.namespace == namespace]
        return sum(added for added, _ in found), sum(dispatched for _, dispatched in found)


def _again(tx: Transition, kind: str, task_id: str) -> bool:
    """Whether a task was there before: its lease ran out, or its worker gave it back."""
    if kind == "workflow":
        task = tx.state.open_task
        return task is not None and task.attempt > 0
    activity = tx.state.activities.get(task_id)
    return activity is not None and activity.attempt_id is not None
