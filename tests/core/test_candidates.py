"""What a queue holds of its tasks against a plain list of all rows: order, delays, routing, each task once, nothing hidden.

Whatever stands in the store and however it is read, a poll gets the first task it may have (worker-protocol 3.3, 3.4, 4.2).
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.queue.candidates import MOST_UNUSED, Candidates, Found, Window
from actors.queue.matching import QueuedTask
from actors.queue.poll import WorkerProfile
from tests.core.harness import search
from tests.support.candidates import (
    read,
)

TYPES = ("order", "ship")
BUILDS = (None, "", "blue")
ROOM = 1


def task(task_id: str, type_name: str = "order", build: str | None = None, priority: int = 5, at: int = 0) -> QueuedTask:
    return QueuedTask(task_id, type_name, build, priority, at)


def worker(types: set[str] | None = None, build: str | None = None) -> WorkerProfile:
    return WorkerProfile("w", build, None if types is None else frozenset(types))


def opened(profile: WorkerProfile, rows: list[QueuedTask] | None = None, now: int = 0) -> tuple[Candidates, Window]:
    """A queue whose store holds these rows, read for one worker."""
    candidates = Candidates(lambda _: False)
    window = candidates.window(profile, 0.0)
    window.begin_load(ROOM)
    window.loaded(read(rows or [], profile, now, 100), (), {}, now)
    return candidates, window


# -- examples ----------------------------------------------------------------------------------------------------------


def test_order_is_priority_then_time_then_id() -> None:
    candidates, window = opened(worker())
    for each in (
        task("d", priority=5, at=3),
        task("c", priority=5, at=2, type_name="refund"),
        task("b", priority=5, at=2),
        task("a", priority=9, at=0),
        task("e", priority=0, at=9, type_name="ship"),
    ):
        candidates.add(each, now=10)
    assert [taken.task_id for taken in iter(lambda: candidates.take(window), None)] == ["e", "b", "c", "d", "a"]
    assert len(window) == 0 and not window.unsure


@pytest.mark.parametrize(
    ("types", "build", "marker", "fits"),
    [
        (None, None, None, True),
        (None, None, "", True),
        (None, "blue", None, True),
        (None, "blue", "blue", True),
        (None, None, "blue", False),
        (None, "green", "blue", False),
        ({"order"}, None, None, True),
        ({"refund", "order"}, None, None, True),
        ({"ship"}, None, None, False),
        (set(), None, None, False),
    ],
)
def test_routing_by_type_and_build(types: set[str] | None, build: str | None, marker: str | None, fits: bool) -> None:
    candidates, window = opened(worker(types, build))
    candidates.add(task("a", build=marker), now=0)
    assert (candidates.take(window) is not None) == fits
    assert candidates.held == 0, "what nobody here can take is not held"


def test_a_worker_of_no_type_needs_no_look_into_the_store() -> None:
    window = Candidates(lambda _: False).window(worker(set()), 0.0)
    window.doubt()
    assert not window.unsure and window.first() is None


def test_delayed_tasks_ripen_at_their_time() -> None:
    candidates, window = opened(worker(), now=10)
    candidates.add(task("late", at=20, priority=0), now=10)
    candidates.add(task("now", at=10), now=10)
    assert candidates.next_due() == 20
    assert candidates.take(window) == task("now", at=10)
    assert candidates.ripen(19) == [] and candidates.take(window) is None
    assert candidates.ripen(20) == [window] and candidates.next_due() is None
    assert candidates.take(window) == task("late", at=20, priority=0)


def test_a_task_put_off_after_it_was_forgotten_does_not_come_early() -> None:
    candidates, window = opened(worker())
    candidates.add(task("a", at=0), now=0)
    candidates.discard(task("a", at=0))
    candidates.add(task("a", at=50), now=0)
    assert candidates.take(window) is None
    candidates.ripen(50)
    assert candidates.take(window) == task("a", at=50)
    assert candidates.take(window) is None


def test_a_refused_task_waits_though_its_row_says_otherwise() -> None:
    candidates, window = opened(worker())
    window.begin_load(ROOM)
    window.loaded(Found([task("a"), task("b")]), (), {"a": 30}, 0)
    assert candidates.take(window) == task("b") and candidates.take(window) is None
    assert candidates.next_due() == 30
    candidates.ripen(30)
    assert candidates.take(window) == task("a", at=30)


def test_what_has_no_room_is_left_to_the_store() -> None:
    candidates, window = opened(worker())
    for number in range(20_000):
        candidates.add(task(f"due-{number:05}"), now=0)
        candidates.add(task(f"later-{number:05}", at=50 + number), now=0)
    assert len(window) <= 4 * candidates.room
    taken = [taken.task_id for taken in iter(lambda: candidates.take(window), None)]
    assert taken == [f"due-{number:05}" for number in range(len(taken))] and taken
    assert window.unsure, "the rest is in the store"
    window.begin_load(ROOM)
    window.loaded(Found(), (), {}, 0)
    candidates.ripen(49 + candidates.room // 2)
    assert not window.unsure


def test_windows_nobody_polls_at_are_forgotten() -> None:
    parked = {worker({"parked"}).shape}
    candidates = Candidates(lambda profile: profile.shape in parked)
    kept = candidates.window(worker({"parked"}), 0.0)
    for number in range(10 * MOST_UNUSED):
        candidates.window(worker({f"type-{number}"}), float(number))
    assert len(candidates) <= MOST_UNUSED + 1
    assert candidates.window(worker({"parked"}), 0.0) is kept
    candidates.forget_unused(before=1e9)
    assert candidates.windows() == [kept]


def test_all_windows_together_hold_little() -> None:
    candidates = Candidates(lambda _: False)
    for number in range(1000):
        window = candidates.window(worker(None, f"build-{number}"), 0.0)
        window.begin_load(ROOM)
        window.loaded(Found(), (), {}, 0)
    for number in range(2000):
        candidates.add(task(f"{number:05}"), now=0)
    assert candidates.held <= 2 * 20_000


# -- model -------------------------------------------------------------------------------------------------------------


workers = st.sampled_from([worker(), worker({"order"}), worker({"order"}, "blue"), worker(None, "blue")])
at = st.integers(0, 60)


class Queue(RuleBasedStateMachine):
    """Rows come and go, announcements are late, doubled and lost, the store is read meanwhile and answers late."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100
        self.candidates = Candidates(lambda _: False, ROOM)
        self.rows: dict[str, QueuedTask] = {}
        self.unheard: dict[str, QueuedTask] = {}
        self.claiming: dict[str, QueuedTask] = {}
        self.answer: tuple[Window, Found] | None = None
        self.read_last: WorkerProfile | None = None
        self.made = 0

    def pick(self, where: dict[str, QueuedTask], index: int) -> QueuedTask | None:
        return where[sorted(where)[index % len(where)]] if where else None

    def announce(self, new: QueuedTask) -> None:
        self.unheard.pop(new.task_id, None)
        if new.task_id not in self.claiming:
            self.candidates.add(new, self.now)

    @rule(
        type_name=st.sampled_from(TYPES),
        build=st.sampled_from(BUILDS),
        priority=st.integers(0, 3),
        delay=st.integers(-40, 40),
        heard=st.integers(0, 3),
        count=st.integers(1, 4),
    )
    def commit(self, type_name: str, build: str | None, priority: int, delay: int, heard: int, count: int) -> None:
        for _ in range(count):
            self.made += 1
            # Ids do not follow the order of arrival.
            new = QueuedTask(f"t{self.made * 7919 % 10007:05}", type_name, build, priority, self.now + delay)
            self.rows[new.task_id] = self.unheard[new.task_id] = new
            if heard:
                self.announce(new)

    @rule(index=at)
    def hear(self, index: int) -> None:
        """An announcement comes, late or once more."""
        row = self.pick(self.rows, index)
        if row is not None:
            self.announce(row)

    @rule(index=at)
    def vanish(self, index: int) -> None:
        """Another node took it, or its run ended: nobody tells."""
        row = self.pick(self.rows, index)
        if row is not None and row.task_id not in self.claiming:
            del self.rows[row.task_id]
            self.unheard.pop(row.task_id, None)

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.candidates.ripen(self.now)

    @precondition(lambda self: self.answer is None)
    @rule(profile=workers)
    def ask_store(self, profile: WorkerProfile) -> None:
        window = self.candidates.window(profile, 0.0)
        window.begin_load(ROOM)
        rows = list(self.rows.values())
        self.answer = window, read(rows, profile, self.now, ROOM + len(self.claiming))

    @precondition(lambda self: self.answer is not None)
    @rule(lost=st.integers(0, 5))
    def store_answers(self, lost: int) -> None:
        assert self.answer is not None
        (window, found), self.answer = self.answer, None
        self.read_last = window.profile
        if not lost:
            window.abort_load()
        elif window.loaded(found, self.claiming, {}, self.now):
            window.doubt()
        self.candidates.ripen(self.now)

    @rule(profile=workers)
    def doubt(self, profile: WorkerProfile) -> None:
        self.candidates.window(profile, 0.0).doubt()

    @rule(index=at)
    def evict(self, index: int) -> None:
        windows = self.candidates.windows()
        if windows and (self.answer is None or windows[index % len(windows)] is not self.answer[0]):
            for window in windows:
                window.used_at = 1.0
            windows[index % len(windows)].used_at = 0.0
            self.candidates.forget_unused(0.5)

    def due(self, profile: WorkerProfile) -> list[QueuedTask]:
        fitting = [row for row in self.rows.values() if profile.serves(row.type_name, row.compatibility)]
        waiting = [row for row in fitting if row.available_at <= self.now and row.task_id not in self.claiming]
        return sorted(waiting, key=lambda row: row.order)

    @rule(profile=workers)
    def poll(self, profile: WorkerProfile) -> None:
        window = self.candidates.window(profile, 0.0)
        reading = self.answer is not None and self.answer[0] is window
        if window.unsure and not reading:
            window.begin_load(ROOM)
            window.loaded(
                read(list(self.rows.values()), profile, self.now, ROOM + len(self.claiming)), self.claiming, {}, self.now
            )
            self.candidates.ripen(self.now)
        while (taken := self.candidates.take(window)) is not None and taken != self.rows.get(taken.task_id):
            self.candidates.discard(taken)  # the run says that it is gone
        if taken is None and window.unsure:
            return  # it waits for the store
        every = self.due(profile)
        heard = [row for row in every if row.task_id not in self.unheard]
        if taken is None:
            assert not heard, "an eligible task is hidden"
        else:
            assert taken in every and taken.task_id not in self.claiming
            assert not heard or taken.order <= heard[0].order
            self.claiming[taken.task_id] = taken

    @precondition(lambda self: self.read_last is not None)
    @rule()
    def poll_where_the_store_was_read(self) -> None:
        assert self.read_last is not None
        self.poll(self.read_last)

    @rule(index=at, outcome=st.integers(0, 3), delay=st.integers(-5, 40))
    def claimed(self, index: int, outcome: int, delay: int) -> None:
        """A claim ends: mostly with a lease; else its row is as it was, or comes back with another time."""
        row = self.pick(self.claiming, index)
        if row is None:
            return
        del self.claiming[row.task_id]
        self.candidates.discard(row)
        self.unheard.pop(row.task_id, None)
        if outcome > 1:
            del self.rows[row.task_id]
            return
        if outcome:
            row = self.rows[row.task_id] = QueuedTask(
                row.task_id, row.type_name, row.compatibility, row.priority, self.now + delay
            )
        self.announce(row)

    @invariant()
    def memory_is_bounded(self) -> None:
        for window in self.candidates.windows():
            assert len(window) <= 12 * ROOM + len(self.claiming) * 2

    def teardown(self) -> None:
        """What is left goes out once and in order, though nothing more is heard."""
        for row in list(self.claiming.values()):
            self.claiming.clear()
            self.candidates.discard(row)
        self.answer = None
        self.now += 1000
        for build in (None, "blue"):
            profile = worker(None, build)
            window = self.candidates.window(profile, 0.0)
            window.abort_load()
            window.doubt()
            while window.unsure:
                window.begin_load(ROOM)
                window.loaded(read(list(self.rows.values()), profile, self.now, ROOM), (), {}, self.now)
                while (taken := self.candidates.take(window)) is not None:
                    assert taken == self.due(profile)[0]
                    del self.rows[taken.task_id]
            assert not self.due(profile)
        assert not self.rows


Queue.TestCase.settings = search(200, stateful_step_count=80)
TestQueue = Queue.TestCase
