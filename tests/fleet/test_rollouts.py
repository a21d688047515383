"""What a node knows of build ids: how long it counts, who is asked, which polls are moved (operations 4.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from actors.clock import Clock
from actors.cluster.protocol import AskReread
from actors.cluster.router import Router
from actors.errors import Unavailable
from actors.queue.parked_poll import ParkedPoll, PollState
from actors.queue.poll import WORKFLOW, Poll, WorkerProfile
from actors.rollout_commands import RolloutCommands
from actors.run.replies import Done
from actors.workers.rollouts import KNOWN_SECONDS, Rollouts
from store import rollouts
from store.cluster import nodes
from store.connections.pool import Database
from store.errors import StoreUnavailable
from store.rollouts import Rollout
from tests.support.services import TestServices


class Hands:
    """A monotonic clock that the test moves, in seconds."""

    def __init__(self) -> None:
        self.at = 1.0

    def ticks(self) -> int:
        return int(self.at * 1_000_000_000)


class Others:
    """The way to the other nodes: what each answers to being asked."""

    node_id = "own"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask_node(self, node_id: str, question: Any, _seconds: float) -> Any:
        assert question == AskReread()
        self.asked.append(node_id)
        answer = self.answers[node_id]
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def db(services: TestServices) -> AsyncIterator[Database]:
    database = Database(services.database())
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def known(db: Database, hands: Hands) -> Rollouts:
    return Rollouts(db, Clock(ticks=hands.ticks))


async def store(db: Database, *rows: Rollout) -> None:
    await rollouts.change(db, "default", "q", lambda _: rows)


def row(build_id: str, **fields: Any) -> Rollout:
    return Rollout("default", "q", build_id, **fields)


# -- how long it counts ------------------------------------------------------------------------------------------------


async def test_nothing_is_certain_before_the_first_read(known: Rollouts) -> None:
    with pytest.raises(Unavailable):
        known.selected("default", "q")
    await known.confirm()
    assert known.selected("default", "q") is None


async def test_what_is_known_counts_from_the_begin_of_its_read(known: Rollouts, hands: Hands) -> None:
    await known.confirm()
    hands.at += KNOWN_SECONDS - 0.01
    assert known.selected("default", "q") is None
    hands.at += 0.02
    with pytest.raises(Unavailable):
        known.selected("default", "q")
    await known.confirm()
    assert known.known


async def test_a_read_without_a_lease_does_not_count(known: Rollouts, db: Database) -> None:
    """The others do not wait for such a node. What it read it goes by all the same."""
    known.lease_left = lambda: -1.0
    await store(db, row("v1", drained_at=1))
    with pytest.raises(Unavailable):
        await known.confirm()
    assert known.drains(("default", "q", "v1"))


async def test_what_is_known_ends_with_the_lease_it_was_read_under(known: Rollouts, hands: Hands) -> None:
    known.lease_left = lambda: 0.5
    await known.confirm()
    hands.at += 0.4
    assert known.selected("default", "q") is None
    hands.at += 0.2
    with pytest.raises(Unavailable):
        known.selected("default", "q")


async def test_without_the_database_nothing_is_confirmed(known: Rollouts, db: Database) -> None:
    await db.stop()
    with pytest.raises(Unavailable):
        await known.confirm()
    with pytest.raises(StoreUnavailable):
        await known.reread()
    await db.start()
    await known.confirm()


async def test_it_follows_every_change(known: Rollouts, db: Database) -> None:
    await store(db, row("v1", selected=True, promoted_at=1), row("", drained_at=1))
    await known.reread()
    assert known.selected("default", "q") == "v1"
    assert known.drains(("default", "q", ""))
    assert not known.drains(("default", "other", "")) and not known.drains(("lab", "q", ""))
    await store(db, row("v1", drained_at=2), row("", selected=True))
    await known.reread()
    assert known.selected("default", "q") == ""
    assert known.drains(("default", "q", "v1")) and not known.drains(("default", "q", ""))
    await store(db, row(""), row("v1"))
    await known.reread()
    assert known.selected("default", "q") is None and not known.drains(("default", "q", "v1"))


async def test_removed_records_are_forgotten(known: Rollouts, db: Database) -> None:
    await store(db, row("v1", selected=True, drained_at=1))
    await known.reread()
    await db.execute("DELETE FROM rollouts")
    await known.reread()
    assert known.selected("default", "q") is None and not known.drains(("default", "q", "v1"))


async def test_a_reread_knows_what_was_committed_before_it_was_asked_for(known: Rollouts, db: Database) -> None:
    """Also when another read is under way, which may have seen less; those that wait share one."""
    reads = 0
    slow, go_on = asyncio.Event(), asyncio.Event()
    read = rollouts.since

    async def since(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        found = await read(*arguments)
        if reads == 1:
            slow.set()
            await go_on.wait()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "since", since)
        first = asyncio.create_task(known.reread())
        await slow.wait()
        await store(db, row("v1", drained_at=1))
        later = [asyncio.create_task(known.reread()) for _ in range(5)]
        later[0].cancel()
        await asyncio.sleep(0)
        go_on.set()
        await first
        await asyncio.gather(*later[1:])
    assert reads == 2
    assert known.drains(("default", "q", "v1"))


async def test_it_reads_by_itself(db: Database) -> None:
    known = Rollouts(db, Clock())
    await known.start()
    try:
        await store(db, row("v1", drained_at=1))
        async with asyncio.timeout(30):
            while not known.drains(("default", "q", "v1")):
                await asyncio.sleep(0.05)
    finally:
        await known.stop()


# -- polls that wait ---------------------------------------------------------------------------------------------------


async def test_polls_of_a_cohort_are_abandoned_when_it_changes(known: Rollouts, db: Database) -> None:
    """And of no other; what one of them got meanwhile is handed back."""
    handed_back: list[Any] = []

    def poll(build_id: str) -> ParkedPoll:
        parked = ParkedPoll(Poll("default", "q", WORKFLOW, WorkerProfile("w", build_id or None), 1.0), handed_back.append)
        known.hold(("default", "q", build_id), parked)
        return parked

    old, granted, gone, other, none = poll("v1"), poll("v1"), poll("v1"), poll("v2"), poll("")
    lease = cast(Any, object())
    granted.resolve(lease)
    known.let_go(("default", "q", "v1"), gone)
    await store(db, row("v1", drained_at=1))
    await known.reread()
    assert (old.state, granted.state, handed_back) == (PollState.ABANDONED, PollState.ABANDONED, [lease])
    assert {gone.state, other.state, none.state} == {PollState.WAITING}
    drained = poll("v1")
    await store(db, row("v1", drained_at=1, promoted_at=5))
    await known.reread()
    assert not drained.ended, "it drains as before"
    await store(db, row("v1"))
    await known.reread()
    assert drained.ended


# -- a change and the other nodes --------------------------------------------------------------------------------------


async def commands(db: Database, known: Rollouts, others: Others, *names: str) -> RolloutCommands:
    for name in ("own", *names):
        await nodes.beat(db, name, name, "http://there", 60)
    return RolloutCommands(db, known, cast(Router, others), Clock())


async def test_a_change_is_answered_when_every_node_knows_it(known: Rollouts, db: Database) -> None:
    others = Others(a=Done(), b=[None, Unavailable("away"), Done()])
    changes = await commands(db, known, others, "a", "b")
    after = await changes.change("drain", "default", "q", "v1")
    assert (await rollouts.of_queue(db, "default", "q")) == [after] and after.drained_at is not None
    assert known.drains(("default", "q", "v1")), "this node itself"
    assert sorted(others.asked) == ["a", "b", "b", "b"]


async def test_a_node_that_does_not_answer_is_waited_for_no_longer_than_it_matters(
    known: Rollouts, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    changes = await commands(db, known, Others(mute=Unavailable("no answer"), a=Done()), "a", "mute")
    before = asyncio.get_running_loop().time()
    await changes.change("promote", "default", "q", "v1")
    assert KNOWN_SECONDS <= asyncio.get_running_loop().time() - before < KNOWN_SECONDS + 5
    assert [record.__dict__["peer"] for record in caplog.records if record.__dict__.get("action") == "rollout.unconfirmed"] == [
        "mute"
    ]


async def test_nodes_without_a_lease_are_not_asked(known: Rollouts, db: Database) -> None:
    await nodes.beat(db, "gone", "i", "http://there", -1)
    others = Others(lives=Done())
    await (await commands(db, known, others, "lives")).change("promote", "default", "q", "v1")
    assert others.asked == ["lives"]
