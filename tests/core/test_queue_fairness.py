"""Priority and fairness of a queue (contract operations 3), against a model that keeps every lease with its time.

What must hold whenever a task goes out, of the tasks a worker may have, that are due and that the queue has heard of:

1. None has a lower priority number.
2. None of its class and tier stands before it: first available, first out, by id when at once.
3. No class of its tier has had less for its weight: leases, each worth half after 30 seconds, and tasks being claimed, divided
   by the weight of the class's first task. Of two that had the same that class goes first whose first task stands before.
4. It goes out once.
5. Without keys the order is that of time alone, and nothing is kept of what was granted.
6. Whatever is due goes out at last.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.queue.candidates import Candidates, Window
from actors.queue.fairness import HALF_LIFE, Shares, chosen, in_turn
from actors.queue.matching import QueuedTask
from actors.queue.poll import WorkerProfile
from tests.core.harness import search
from tests.support.candidates import read

ROOM = 5
CLASSES = {None: 1, "gold": 1000, "silver": 10, "bronze": 2}  # with their weights
SECOND = 1_000_000


def task(task_id: str, key: str | None = None, weight: int = 1, *, at: int = 0, priority: int = 5) -> QueuedTask:
    return QueuedTask(task_id, "order", None, priority, at, key, weight)


def filled(rows: list[QueuedTask], room: int = 500) -> tuple[Candidates, Window]:
    candidates = Candidates(lambda _: False, room)
    window = candidates.window(WorkerProfile("w"), 0.0)
    window.begin_load(room)
    window.loaded(read(rows, window.profile, 1_000_000, room), (), {}, 1_000_000)
    return candidates, window


def go_out(rows: list[QueuedTask], count: int, room: int = 500) -> list[QueuedTask]:
    """The first tasks that go out of a store with these rows."""
    candidates, window = filled(rows, room)
    left = {row.task_id: row for row in rows}
    found: list[QueuedTask] = []
    while len(found) < count:
        if window.unsure:
            window.begin_load(room)
            window.loaded(read(list(left.values()), window.profile, 1_000_000, room), (), {}, 1_000_000)
        taken = candidates.take(window)
        if taken is None:
            break
        candidates.shares.pick(taken)
        candidates.shares.settle(taken, True)
        del left[taken.task_id]
        found.append(taken)
    return found


# -- examples ----------------------------------------------------------------------------------------------------------


def test_classes_share_by_weight_and_each_goes_by_age() -> None:
    rows = [task(f"{key}{n:03}", key, weight, at=n) for key, weight in (("a", 6), ("b", 3), ("c", 1)) for n in range(300)]
    got = go_out(rows, 200)
    counted = Counter(row.fairness_key for row in got)
    assert [round(counted[key] / 20) for key in "abc"] == [6, 3, 1]
    for key in "abc":
        mine = [row.task_id for row in got if row.fairness_key == key]
        assert mine == sorted(mine)


def test_urgency_beats_fairness() -> None:
    rows = [task(f"a{n}", "a", 1, priority=2) for n in range(5)] + [task(f"b{n}", "b", 1000, priority=3) for n in range(5)]
    assert [row.fairness_key for row in go_out(rows, 10)] == ["a"] * 5 + ["b"] * 5


def test_a_class_that_comes_late_behind_thousands_has_its_share_at_once() -> None:
    rows = [task(f"a{n:05}", "a", at=n) for n in range(5000)]
    candidates, window = filled(rows)
    for number in range(400):
        taken = candidates.take(window)
        assert taken is not None
        candidates.shares.pick(taken)
        candidates.shares.settle(taken, True)
        if number == 200:
            for late in range(50):
                candidates.add(task(f"b{late}", "b", at=90_000), 1_000_000)
        assert number <= 201 or number > 250 or taken.fairness_key == "b"


@pytest.mark.parametrize("room", [7, 50, 500])
def test_weights_hold_whatever_is_read_at_a_time(room: int) -> None:
    rows = [task(f"a{n:04}", "a", 7, at=n) for n in range(800)] + [task(f"b{n:04}", "b", 3, at=5000 + n) for n in range(800)]
    counted = Counter(row.fairness_key for row in go_out(rows, 500, room))
    assert abs(counted["a"] - 350) <= 5


def test_more_classes_than_fit_in_memory_lose_nothing() -> None:
    rows = [task(f"{key}-{n}", f"k{key}", at=n) for key in range(900) for n in range(2)]
    candidates, window = filled(rows[:9], 20)
    for row in rows:
        candidates.add(row, 1_000_000)
        assert len(window) <= 8 * 20 + 1
    assert {row.task_id for row in go_out(rows, 5000, 20)} == {row.task_id for row in rows}


def test_scores_halve_and_are_forgotten() -> None:
    now = 0
    shares = Shares(lambda: now)
    first = task("x", "x")
    for _ in range(8):
        shares.pick(first)
        shares.settle(first, True)
    assert shares.value("x", 1) == 8.0 and shares.value("x", 4) == 2.0
    now += HALF_LIFE
    shares.pick(task("y", "y"))
    assert shares.value("x", 1) == pytest.approx(4.0) and shares.value("y", 1) == 1.0
    now += 200 * HALF_LIFE
    shares.granted("z")
    assert len(shares) == 1 and shares.value("x", 1) == 0.0
    for number in range(30_000):
        shares.granted(f"k{number}")
    assert len(shares) <= 10_001


def test_a_queue_without_keys_keeps_nothing() -> None:
    shares = Shares(lambda: pytest.fail("nobody needs the time"))
    for number in range(100):
        shares.pick(task(f"t{number}", None, 7))
        shares.settle(task(f"t{number}", None, 7), True)
        shares.granted("")
    assert len(shares) == 0 and shares.value("", 1) == 0.0


def test_turns_without_scores() -> None:
    rows = [
        task("a1", "a", 2, at=1),
        task("a2", "a", 2, at=2),
        task("a3", "a", 2, at=3),
        task("b1", "b", at=9),
        task("b2", "b", at=10),
    ]
    assert [(turn, row.task_id) for turn, row in in_turn(random.sample(rows, 5))] == [
        (0.0, "a1"), (0.0, "b1"), (0.5, "a2"), (1.0, "a3"), (1.0, "b2"),
    ]  # fmt: skip


# -- model -------------------------------------------------------------------------------------------------------------


class FairQueue(RuleBasedStateMachine):
    """Rows come and go, time passes, claims are under way and end; the store is read whenever the queue is unsure."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000 * SECOND
        self.candidates = Candidates(lambda _: False, ROOM, lambda: self.now)
        self.rows: dict[str, QueuedTask] = {}
        self.unheard: set[str] = set()
        self.claiming: dict[str, QueuedTask] = {}
        self.leases: list[tuple[str, int]] = []  # class and time, since a key occurred
        self.keyed = False
        self.counted: set[str] = set()  # claims under way that count: those since a key occurred
        self.gone: set[str] = set()
        self.made = 0

    def had(self, name: str, weight: int) -> float:
        """Rule 3, as it is written."""
        score = sum(0.5 ** ((self.now - at) / HALF_LIFE) for each, at in self.leases if each == name)
        return (score + sum(self.rows_class(task_id) == name for task_id in self.counted)) / weight

    def rows_class(self, task_id: str) -> str:
        return self.claiming[task_id].fairness_class

    @rule(
        key=st.sampled_from(list(CLASSES)),
        priority=st.integers(4, 5),
        delay=st.sampled_from([-5, -1, 0, 3, 40]),
        heard=st.integers(0, 3),
        count=st.integers(1, 12),
    )
    def commit(self, key: str | None, priority: int, delay: int, heard: int, count: int) -> None:
        for _ in range(count):
            self.made += 1
            new = task(f"t{self.made * 7919 % 10007:05}", key, CLASSES[key], at=self.now + delay * SECOND, priority=priority)
            self.rows[new.task_id] = new
            if heard:
                self.candidates.add(new, self.now)
            else:
                self.unheard.add(new.task_id)

    @rule(seconds=st.sampled_from([0, 1, 10, 60, 5000]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds * SECOND
        self.candidates.ripen(self.now)

    @rule(index=st.integers(0, 60))
    def vanish(self, index: int) -> None:
        """Another node took it, or its run ended: nobody tells."""
        if self.rows:
            row = self.rows[sorted(self.rows)[index % len(self.rows)]]
            if row.task_id not in self.claiming:
                del self.rows[row.task_id]

    def window(self) -> Window:
        return self.candidates.window(WorkerProfile("w"), 0.0)

    def read(self) -> None:
        window = self.window()
        window.begin_load(ROOM)
        window.loaded(
            read(list(self.rows.values()), window.profile, self.now, ROOM + len(self.claiming)), self.claiming, {}, self.now
        )
        self.candidates.ripen(self.now)

    @rule()
    def sweep(self) -> None:
        self.window().doubt()
        self.read()

    def due(self) -> list[QueuedTask]:
        waiting = [row for row in self.rows.values() if row.available_at <= self.now and row.task_id not in self.claiming]
        return sorted((row for row in waiting if row.task_id not in self.unheard), key=lambda row: row.order)

    @rule(count=st.integers(1, 8), at_once=st.booleans())
    def poll(self, count: int, at_once: bool) -> None:
        for _ in range(count):
            taken = self.take()
            if taken is not None and not at_once:
                self.end(taken, True)

    def take(self) -> QueuedTask | None:
        window = self.window()
        for _ in range(50):
            if window.unsure:
                self.read()
            taken = self.candidates.take(window)
            if taken is None or taken.task_id in self.rows:
                break
            self.candidates.discard(taken)  # the run says that it is gone
        heard = self.due()
        if taken is None:
            assert not heard or window.unsure, "a due task is hidden"
            return None
        self.unheard.discard(taken.task_id)
        self.judge(taken, heard)
        self.claiming[taken.task_id] = taken
        self.keyed = self.keyed or taken.fairness_key is not None
        if not self.keyed:
            assert len(self.candidates.shares) == 0  # 5
        else:
            self.counted.add(taken.task_id)
        self.candidates.shares.pick(taken)
        return taken

    def judge(self, taken: QueuedTask, heard: list[QueuedTask]) -> None:
        assert taken.task_id not in self.gone and taken.task_id not in self.claiming  # 4
        assert all(taken.priority <= row.priority for row in heard)  # 1
        heads: dict[str, QueuedTask] = {}
        for row in heard:
            if row.priority == taken.priority:
                heads.setdefault(row.fairness_class, row)
        first = heads.pop(taken.fairness_class, taken)
        assert taken.order <= first.order  # 2
        if not self.keyed_before(taken):
            return
        mine = self.had(taken.fairness_class, taken.fairness_weight)
        for name, row in heads.items():
            other = self.had(name, row.fairness_weight)
            assert mine < other + 1e-6, (taken, mine, row, other)  # 3
            assert mine > 0 or other > 0 or taken.order < row.order

    def keyed_before(self, taken: QueuedTask) -> bool:
        """Tasks without a key count from the first claim of one with a key on."""
        return self.keyed or taken.fairness_key is not None

    @precondition(lambda self: self.claiming)
    @rule(index=st.integers(0, 60), granted=st.integers(0, 3))
    def claim_ends(self, index: int, granted: int) -> None:
        row = self.claiming[sorted(self.claiming)[index % len(self.claiming)]]
        self.end(row, granted > 0)

    def end(self, row: QueuedTask, granted: bool) -> None:
        del self.claiming[row.task_id]
        self.counted.discard(row.task_id)
        self.candidates.discard(row)
        counted = self.keyed
        self.candidates.shares.settle(row, granted)
        if granted:
            self.rows.pop(row.task_id, None)
            self.gone.add(row.task_id)
            if counted:
                self.leases.append((row.fairness_class, self.now))
        elif row.task_id in self.rows:
            self.candidates.add(row, self.now)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.candidates.held <= 8 * ROOM + 2 * len(self.claiming) + 2 * ROOM

    def teardown(self) -> None:
        for row in list(self.claiming.values()):
            self.end(row, True)
        self.now += 1000 * SECOND
        self.candidates.ripen(self.now)
        self.window().doubt()
        self.unheard.clear()
        while self.rows:
            taken = self.take()
            assert taken is not None  # 6
            self.end(taken, True)


FairQueue.TestCase.settings = search(200, stateful_step_count=60)
TestFairQueue = FairQueue.TestCase


def test_the_choice_waits_for_the_store_when_it_is_the_turn_of_a_class_that_ran_out() -> None:
    shares = Shares(lambda: 0)
    a, b = task("a", "a"), task("b", "b")
    shares.granted("a")
    assert chosen([a], ["b"], shares) is None
    shares.granted("b")
    assert chosen([a], ["b"], shares) is None
    shares.granted("b")
    assert chosen([a], ["b"], shares) == a
    assert chosen([a, b], (), shares) == a


def test_a_weight_is_remembered_when_all_scores_were_forgotten() -> None:
    now = 0
    shares = Shares(lambda: now)
    heavy = task("a", "a", 1000)
    shares.pick(heavy)
    now += 1000 * HALF_LIFE
    shares.settle(heavy, True)
    assert shares.value("a") == pytest.approx(0.001)
