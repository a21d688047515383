"""The pure part of a task queue about tasks: in memory is what polls can take, not what the queue holds.

Each kind of worker that polls (a build id and types) has a window: the head of what it may take in the order of contract
worker-protocol 4.2 and operations 3, as far as the store was read. A task nobody present can take stands in no window and in
nobody's way; what a window has no room for is in the store and read when its turn comes. So a poll gets the first task of a few
heaps, a task looks at the windows it fits, and memory depends on how many kinds of workers there are.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping, Sequence

import msgspec
from msgspec import Struct

from actors.queue.fairness import Shares, chosen
from actors.queue.matching import QueuedTask
from actors.queue.poll import WorkerProfile
from actors.queue.tiers import NOWHERE, Reach, Tiers, cut

_ROOM = 500  # tasks of a window; up to twice as many until it is cut
_LEAST_ROOM = 50
_ROOM_OF_ALL = 20_000
MOST_UNUSED = 256  # windows no poll waits at
Position = tuple[int, str]  # a priority and a class


class Found(Struct, frozen=True):
    """What the store holds for one kind of worker.

    `due` is known as far as `reach` (None: whole), `later` by its time and whole before `later_from` (None: whole). Where there
    are more classes than are read at a time, those behind `resume` are next.
    """

    due: Sequence[QueuedTask] = ()
    reach: Reach | None = None
    later: Sequence[QueuedTask] = ()
    later_from: int | None = None
    resume: Position | None = None


class Window:
    """What one kind of worker may take. Ready tasks are known as far as `reach`, None: all there are."""

    __slots__ = (
        "_due", "_fresh", "_gone", "_later", "_missed", "_most_fresh", "_ripening", "_shares", "later_from", "profile", "reach",
        "resume", "used_at"
    )  # fmt: skip

    def __init__(self, profile: WorkerProfile, shares: Shares) -> None:
        self.profile = profile
        self.reach: Reach | None = None if profile.types == frozenset() else NOWHERE
        self.resume: Position | None = None  # where the store is to be read on, when it has more classes than fit here
        self.later_from: int | None = None  # tasks that become available from then on are not all known
        self.used_at = 0.0
        self._shares = shares
        self._due = Tiers()
        self._later: dict[str, QueuedTask] = {}
        self._ripening: list[tuple[int, str]] = []
        # While the store is read: what was announced and what went since, of which the answer may not know.
        self._fresh: dict[str, QueuedTask] | None = None
        self._most_fresh = 0
        self._missed = False
        self._gone: set[str] = set()

    def __len__(self) -> int:
        return len(self._due) + len(self._later)

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def unsure(self) -> bool:
        """Whether only the store can tell which task is next, if any."""
        return self.reach is not None and self.first() is None

    def low(self, room: int) -> bool:
        """Whether there is more in the store and little left here."""
        return self.reach is not None and len(self._due) < room // 4

    def doubt(self) -> None:
        """What is here may not be all, or not be there any more: the store must be read before the next task goes out."""
        if self.profile.types != frozenset():
            self.reach = NOWHERE

    def knows(self, task: QueuedTask) -> bool:
        """Whether the task is here already and goes out no later than this."""
        known = self._due.get(task.task_id) or self._later.get(task.task_id)
        return known is not None and known.available_at <= task.available_at

    # -- tasks come and go ---------------------------------------------------------------------------------------------

    def add(self, task: QueuedTask, now: int, room: int) -> None:
        """Take a task in, as far as this window reaches. Of two times the earlier counts."""
        if self._fresh is not None:
            if len(self._fresh) < self._most_fresh:
                self._fresh[task.task_id] = task
            else:
                self._missed = True
            self._gone.discard(task.task_id)
        if not self.knows(task):
            self._put(task, now)
            self._cut(room)

    def _put(self, task: QueuedTask, now: int) -> None:
        task_id = task.task_id
        if task.available_at > now:
            if self.later_from is None or task.available_at < self.later_from:
                self._due.discard(task_id)
                self._later[task_id] = task
                heapq.heappush(self._ripening, (task.available_at, task_id))
        elif self.reach is None or self.reach.covers(task):
            self._later.pop(task_id, None)
            self._due.add(task)

    def _cut(self, room: int) -> None:
        """Leave to the store what there is no room for, and forget marks of tasks that are gone."""
        if len(self._due) > 2 * room and len(self._due) > 2 * min(self._due.classes, 4 * room):
            kept, self.reach = cut(self._due, room, self.reach)
            self._due = Tiers(kept)
        else:
            self._due = self._due.tidied()
        if len(self._later) > 2 * room:
            times = sorted((task.available_at, task.task_id) for task in self._later.values())
            self.later_from = times[room][0]
            self._ripening = [each for each in times[:room] if each[0] < self.later_from]
            self._later = {task_id: self._later[task_id] for _, task_id in self._ripening}
        elif len(self._ripening) > 2 * len(self._later) + 64:
            self._ripening = sorted((task.available_at, task.task_id) for task in self._later.values())

    def discard(self, task_id: str) -> None:
        """Forget a task that is claimable no more."""
        self._due.discard(task_id)
        self._later.pop(task_id, None)
        if self._fresh is not None:
            self._fresh.pop(task_id, None)
            self._gone.add(task_id)

    def first(self) -> QueuedTask | None:
        """The next task; None when there is none, or when that is unsure."""
        heads = self._due.heads()
        if not heads:
            return None
        run_out = () if self.reach is None else self.reach.run_out(heads)
        return None if run_out is None else chosen(heads, run_out, self._shares)

    # -- time passes ---------------------------------------------------------------------------------------------------

    def ripen(self, now: int) -> bool:
        """Move delayed tasks whose time has come; whether there were any, or may be in the store."""
        changed = False
        ripening, later = self._ripening, self._later
        while ripening and ripening[0][0] <= now:
            due, task_id = heapq.heappop(ripening)
            task = later.get(task_id)
            if task is not None and task.available_at == due:
                del later[task_id]
                self._put(task, now)
                changed = True
        if self.later_from is not None and self.later_from <= now:
            self.later_from = None
            self.doubt()
            changed = True
        return changed

    def next_due(self) -> int | None:
        """When the next delayed task ripens, in microseconds. It may be one that is gone."""
        first = self._ripening[0][0] if self._ripening else None
        if self.later_from is not None and (first is None or self.later_from < first):
            return self.later_from
        return first

    # -- the store -----------------------------------------------------------------------------------------------------

    def begin_load(self, room: int) -> None:
        """The store is asked now."""
        self._fresh = {}
        self._most_fresh = 2 * room
        self._missed = False
        self._gone.clear()

    def abort_load(self) -> None:
        """The store did not answer."""
        self._fresh = None
        self._gone.clear()

    def loaded(self, found: Found, skip: Container[str], put_off: Mapping[str, int], now: int) -> bool:
        """The store has answered: that is the truth, but for what came and went since it was asked.

        `skip`: tasks being claimed. `put_off`: until when runs refuse what the store holds. Returns whether it must be asked
        again, as more came meanwhile than is remembered.
        """
        fresh, self._fresh = self._fresh or {}, None
        self._due, self._later, self._ripening = Tiers(), {}, []
        self.reach, self.later_from, self.resume = found.reach, found.later_from, found.resume
        for task in [*found.due, *found.later]:
            task_id = task.task_id
            if task_id in fresh or task_id in self._gone or task_id in skip:
                continue
            again = put_off.get(task_id, 0)
            self._put(task if again <= task.available_at else msgspec.structs.replace(task, available_at=again), now)
        for task in fresh.values():
            self._put(task, now)
        self._gone.clear()
        return self._missed


_Shape = tuple[str | None, frozenset[str] | None]
_MOST_REMEMBERED = 10_000


class Candidates:
    """The windows of one queue."""

    def __init__(self, waits: Callable[[WorkerProfile], bool], room: int = _ROOM, now: Callable[[], int] = lambda: 0) -> None:
        """`waits` says whether polls of such a worker are parked: their window stays. `room`: how many tasks a window holds.

        `now` in microseconds: scores of classes shrink by it.
        """
        self.shares = Shares(now)
        self._waits = waits
        self._room = room
        self._windows: OrderedDict[_Shape, Window] = OrderedDict()  # least recently used first
        self._fitting: dict[tuple[str, str | None], list[Window]] = {}

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def held(self) -> int:
        """How many tasks are in memory, those in several windows counted in each."""
        return sum(map(len, self._windows.values()))

    @property
    def room(self) -> int:
        """How many tasks a window holds, and is to be filled with."""
        return min(self._room, max(_LEAST_ROOM, _ROOM_OF_ALL // (len(self._windows) or 1)))

    def windows(self) -> list[Window]:
        """All of them."""
        return list(self._windows.values())

    def window(self, profile: WorkerProfile, at: float) -> Window:
        """The window of a worker that polls now (`at`: any clock), made when needed."""
        shape = profile.shape
        window = self._windows.get(shape)
        if window is None:
            self._make_room()
            window = self._windows[shape] = Window(profile, self.shares)
            self._fitting.clear()
        else:
            self._windows.move_to_end(shape)
        window.used_at = at
        return window

    def _make_room(self) -> None:
        excess = len(self._windows) + 1 - MOST_UNUSED
        if excess > 0:
            unused = [shape for shape, window in self._windows.items() if not self._waits(window.profile)]
            for shape in unused[: max(len(unused) + 1 - MOST_UNUSED, 0)]:
                del self._windows[shape]

    def forget_unused(self, before: float) -> None:
        """Drop the windows no poll waits at and none came to since."""
        for shape, window in list(self._windows.items()):
            if window.used_at < before and not self._waits(window.profile):
                del self._windows[shape]
                self._fitting.clear()

    def _of(self, task: QueuedTask) -> list[Window]:
        """The windows a task fits."""
        lane = task.type_name, task.compatibility
        found = self._fitting.get(lane)
        if found is None:
            if len(self._fitting) >= _MOST_REMEMBERED:
                self._fitting.clear()
            found = self._fitting[lane] = [each for each in self._windows.values() if each.profile.serves(*lane)]
        return found

    def add(self, task: QueuedTask, now: int) -> None:
        """A task became claimable, or will: `now` in microseconds decides."""
        room = self.room
        for window in self._of(task):
            window.add(task, now, room)

    def discard(self, task: QueuedTask) -> None:
        """A task is claimable no more."""
        for window in self._of(task):
            window.discard(task.task_id)

    def take(self, window: Window) -> QueuedTask | None:
        """Remove and return the first task of a window; None when there is none, or when that is unsure."""
        task = window.first()
        if task is not None:
            self.discard(task)
        return task

    def ripen(self, now: int) -> list[Window]:
        """Move delayed tasks whose time has come; the windows where something changed."""
        return [window for window in self._windows.values() if window.ripen(now)]

    def next_due(self) -> int | None:
        """When the next delayed task ripens, in microseconds."""
        return min((due for window in self._windows.values() if (due := window.next_due()) is not None), default=None)
