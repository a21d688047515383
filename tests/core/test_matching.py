"""Parked polls against a plain list of them: routing and who comes first (worker-protocol 3.3, 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.queue.matching import WaitLine
from actors.queue.poll import WorkerProfile
from tests.core.harness import search

TYPES = ("order", "refund", "ship")
BUILDS = (None, "blue", "green")


@dataclass
class Poller:
    """A parked poll with nothing but a profile; `far`: of another node."""

    profile: WorkerProfile
    far: bool = False


def worker(types: set[str] | None = None, build: str | None = None) -> WorkerProfile:
    return WorkerProfile("w", build, None if types is None else frozenset(types))


# -- examples ----------------------------------------------------------------------------------------------------------


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
    waits: WaitLine[Poller] = WaitLine()
    waits.add(Poller(worker(build=build)))
    assert (waits.take("order", marker) is not None) == fits


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


SOME = [WorkerProfile("x", build, types) for build in BUILDS for types in (None, frozenset({"ship"}), frozenset[str]())]


class Queue(RuleBasedStateMachine):
    """Polls come and go; a list sorted by hand says which one gets a task."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: WaitLine[Poller] = WaitLine()
        self.parked: dict[int, Poller] = {}
        self.taken: dict[int, Poller] = {}

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

    @rule(type_name=st.sampled_from(TYPES), build=st.sampled_from(BUILDS))
    def find(self, type_name: str, build: str | None) -> None:
        waiting = sorted(self.parked.items(), key=lambda each: (each[1].far, each[0]))
        fitting = [ticket for ticket, each in waiting if each.profile.serves(type_name, build)]
        found = self.waits.take(type_name, build)
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
        assert len(self.waits) == len(self.parked)
        assert [ticket for _, ticket in self.waits.each()] == sorted(self.parked)
        for profile in SOME:
            assert self.waits.waits(profile) == any(each.profile.shape == profile.shape for each in self.parked.values())

    def teardown(self) -> None:
        """All that wait can be sent on."""
        assert len(self.waits.drain()) == len(self.parked) and len(self.waits) == 0


Queue.TestCase.settings = search(120, stateful_step_count=60)
TestQueue = Queue.TestCase
