"""The pure queue against a plain list of everything: order, delays, routing, each task once (worker-protocol 3.3, 3.4, 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.queue.matching import QueuedTask, TaskLine, WaitLine
from actors.queue.poll import WorkerProfile
from tests.core.harness import search

TYPES = ("order", "refund", "ship")
BUILDS = (None, "blue", "green")


def task(task_id: str, type_name: str = "order", build: str | None = None, priority: int = 5, at: int = 0) -> QueuedTask:
    return QueuedTask(task_id, type_name, build, priority, at)


@dataclass
class Poller:
    """A parked poll with nothing but a profile; `far`: of another node."""

    profile: WorkerProfile
    far: bool = False


def worker(types: set[str] | None = None, build: str | None = None) -> WorkerProfile:
    return WorkerProfile("w", build, None if types is None else frozenset(types))


# -- examples ----------------------------------------------------------------------------------------------------------


def test_order_is_priority_then_time_then_id() -> None:
    line = TaskLine()
    for each in (
        task("d", priority=5, at=3),
        task("c", priority=5, at=2, type_name="refund"),
        task("b", priority=5, at=2),
        task("a", priority=9, at=0),
        task("e", priority=0, at=9, type_name="ship"),
    ):
        line.add(each, now=10)
    assert [taken.task_id for taken in iter(lambda: line.take(worker()), None)] == ["e", "b", "c", "d", "a"]
    assert len(line) == 0 and not line.has_ready()


@pytest.mark.parametrize(
    ("marker", "build", "fits"),
    [
        (None, None, True),
        ("", None, True),
        (None, "blue", True),
        ("blue", "blue", True),
        ("blue", None, False),
        ("blue", "green", False),
    ],
)
def test_build_routing(marker: str | None, build: str | None, fits: bool) -> None:
    line = TaskLine()
    line.add(task("a", build=marker), now=0)
    assert (line.take(worker(build=build)) is not None) == fits
    waits: WaitLine[Poller] = WaitLine()
    waits.add(Poller(worker(build=build)))
    assert (waits.take("order", marker) is not None) == fits


@pytest.mark.parametrize(
    ("types", "fits"), [(None, True), ({"order"}, True), ({"refund", "order"}, True), ({"ship"}, False), (set(), False)]
)
def test_type_routing(types: set[str] | None, fits: bool) -> None:
    line = TaskLine()
    line.add(task("a"), now=0)
    assert (line.take(worker(types)) is not None) == fits
    assert len(line) == (0 if fits else 1)


def test_delayed_tasks_ripen_at_their_time() -> None:
    line = TaskLine()
    line.add(task("late", at=20, priority=0), now=10)
    line.add(task("now", at=10), now=10)
    assert line.next_due() == 20
    assert line.take(worker()) == task("now", at=10)
    line.ripen(19)
    assert line.take(worker()) is None and not line.has_ready()
    line.ripen(20)
    assert line.has_ready() and line.next_due() is None
    assert line.take(worker()) == task("late", at=20, priority=0)


def test_a_task_put_off_after_it_was_forgotten_does_not_come_early() -> None:
    line = TaskLine()
    line.add(task("a", at=0), now=0)
    line.discard("a")
    line.add(task("a", at=50), now=0)
    assert line.take(worker()) is None
    line.ripen(50)
    assert line.take(worker()) == task("a", at=50)
    assert line.take(worker()) is None


def test_a_forgotten_task_is_not_ready() -> None:
    line = TaskLine()
    line.add(task("a"), now=0)
    line.discard("a")
    assert not line.has_ready()


def test_put_back_polls_keep_their_place() -> None:
    waits: WaitLine[Poller] = WaitLine()
    pollers = [Poller(worker()) for _ in range(4)]
    tickets = {waits.add(poller): poller for poller in pollers}
    first, second = waits.take("order", None), waits.take("order", None)
    assert first is not None and second is not None
    waits.put_back(*first)
    waits.put_back(*second)
    order = [found[1] for found in iter(lambda: waits.take("order", None), None)]
    assert order == sorted(tickets)


# -- model -------------------------------------------------------------------------------------------------------------


profiles = st.builds(
    WorkerProfile,
    st.just("w"),
    st.sampled_from(BUILDS),
    st.none() | st.frozensets(st.sampled_from(TYPES), max_size=2),
)


class Queue(RuleBasedStateMachine):
    """Tasks and polls come and go; a list sorted by hand says what must be handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100
        self.line = TaskLine()
        self.waits: WaitLine[Poller] = WaitLine()
        self.tasks: dict[str, QueuedTask] = {}
        self.parked: dict[int, Poller] = {}
        self.taken: dict[int, Poller] = {}
        self.made = 0
        self.delivered: list[str] = []

    def ready(self) -> list[QueuedTask]:
        return sorted((each for each in self.tasks.values() if each.available_at <= self.now), key=lambda each: each.order)

    @rule(
        type_name=st.sampled_from(TYPES), build=st.sampled_from(BUILDS), priority=st.integers(0, 9), delay=st.integers(-40, 40)
    )
    def add(self, type_name: str, build: str | None, priority: int, delay: int) -> None:
        self.made += 1
        # Ids do not follow the order of arrival.
        new = QueuedTask(f"t{self.made * 7919 % 10007:05}", type_name, build, priority, self.now + delay)
        self.tasks[new.task_id] = new
        self.line.add(new, self.now)

    @rule(at=st.integers(0, 50))
    def add_again(self, at: int) -> None:
        """The same task announced twice."""
        if self.tasks:
            self.line.add(sorted(self.tasks.values(), key=lambda each: each.task_id)[at % len(self.tasks)], self.now)

    @rule(at=st.integers(0, 50), delay=st.integers(-20, 40))
    def come_back(self, at: int, delay: int) -> None:
        """A task that was handed out is ready again: its lease was lost, or it failed and waits."""
        if self.delivered:
            task_id = self.delivered.pop(at % len(self.delivered))
            again = QueuedTask(task_id, TYPES[0], None, 5, self.now + delay)
            self.tasks[task_id] = again
            self.line.add(again, self.now)

    @rule(at=st.integers(0, 50), keep=st.booleans(), delay=st.integers(-20, 40))
    def discard(self, at: int, keep: bool, delay: int) -> None:
        """A task is claimable no more; some come back later with another time."""
        if not self.tasks:
            return
        old = sorted(self.tasks.values(), key=lambda each: each.task_id)[at % len(self.tasks)]
        self.line.discard(old.task_id)
        del self.tasks[old.task_id]
        if keep:
            new = QueuedTask(old.task_id, old.type_name, old.compatibility, old.priority, self.now + delay)
            self.tasks[new.task_id] = new
            self.line.add(new, self.now)

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.line.ripen(self.now)

    @rule(profile=profiles)
    def take(self, profile: WorkerProfile) -> None:
        fitting = [each for each in self.ready() if profile.serves(each.type_name, each.compatibility)]
        taken = self.line.take(profile)
        assert taken == (fitting[0] if fitting else None)
        if taken is not None:
            del self.tasks[taken.task_id]
            assert taken.task_id not in self.delivered
            self.delivered.append(taken.task_id)

    @rule(profile=profiles, far=st.booleans())
    def park(self, profile: WorkerProfile, far: bool) -> None:
        poller = Poller(profile, far)
        ticket = self.waits.add(poller, far)
        assert ticket not in self.parked and ticket not in self.taken
        self.parked[ticket] = poller

    @rule(at=st.integers(0, 50))
    def leave(self, at: int) -> None:
        everyone = {**self.parked, **self.taken}
        if everyone:
            ticket = sorted(everyone)[at % len(everyone)]
            self.waits.remove(everyone[ticket], ticket)
            self.parked.pop(ticket, None)

    @rule(type_name=st.sampled_from(TYPES), build=st.sampled_from(BUILDS), near=st.booleans())
    def find(self, type_name: str, build: str | None, near: bool) -> None:
        waiting = sorted(self.parked.items(), key=lambda each: (each[1].far, each[0]))
        fitting = [ticket for ticket, each in waiting if each.profile.serves(type_name, build) and not (near and each.far)]
        found = self.waits.take(type_name, build, near)
        if not fitting:
            assert found is None
            return
        assert found is not None and found[1] == fitting[0] and found[0] is self.parked[fitting[0]]
        self.taken[found[1]] = self.parked.pop(found[1])

    @rule(at=st.integers(0, 50))
    def put_back(self, at: int) -> None:
        if self.taken:
            ticket = sorted(self.taken)[at % len(self.taken)]
            self.parked[ticket] = self.taken.pop(ticket)
            self.waits.put_back(self.parked[ticket], ticket)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.line) == len(self.tasks)
        assert self.line.has_ready() == bool(self.ready())
        due = self.line.next_due()
        waiting = [each.available_at for each in self.tasks.values() if each.available_at > self.now]
        # It may wake once too often for a task that is gone, never too late.
        assert not waiting or (due is not None and due <= min(waiting))
        assert len(self.waits) == len(self.parked)
        assert [ticket for _, ticket in self.waits.each()] == sorted(self.parked)

    def teardown(self) -> None:
        """What is left goes out once and in order, whoever comes."""
        self.pass_time(1000)
        for build in ("blue", "green"):
            while (taken := self.line.take(WorkerProfile("w", build))) is not None:
                assert self.tasks.pop(taken.task_id) == taken
        assert not self.tasks and len(self.line) == 0
        assert len(self.waits.drain()) == len(self.parked) and len(self.waits) == 0


Queue.TestCase.settings = search(120, stateful_step_count=60)
TestQueue = Queue.TestCase
