"""Two hosts of one schedule, as two nodes may be for a while: one of them commits, the other reloads; outcomes nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.clock import Clock
from actors.errors import Unavailable
from actors.hosting.repeats import new_key
from actors.hosting.schedule_host import ScheduleHost
from actors.publishing.schedule_publisher import SchedulePublisher
from actors.run import ids
from actors.schedule.commands import (
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    RunClosed,
    StartConfirmed,
    StartRefused,
    TriggerSchedule,
    WakeUp,
)
from actors.schedule.keys import schedule_key
from actors.schedule.messages import ScheduleMessage
from actors.schedule.replies import Acted, Done, Fired, Refused
from actors.schedule.state import Definition, ScheduleState, decode
from bus.subjects import Subjects
from store import run_messages, schedules
from store.commit.group import ScheduleCommit
from store.commit.schedule_writes import ScheduleWrite
from store.connections.pool import Database
from store.errors import StoreUnavailable
from tests.schedule.live import ACTION, EVERY_SECOND, NEVER
from tests.support.defaults import SHARDS
from tests.support.services import TestServices

KEY = schedule_key("default", "s", SHARDS)
NAMES = ("default", "s")


class Forgetful(ScheduleCommit):
    """Commits, and with `silent` does not tell."""

    silent = False

    def commit(self, write: ScheduleWrite) -> asyncio.Future[bool]:
        future = super().commit(write)
        if not self.silent:
            return future
        lost: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: lost.set_exception(StoreUnavailable("no answer")))
        return lost


class Pair:
    """Two hosts, `one` and `other`, that both take themselves for the owner. `told`: the messages they announced."""

    def __init__(self, dsn: str) -> None:
        self.db = Database(dsn)
        self.commits = Forgetful(dsn)
        self.told: list[ScheduleMessage] = []
        self.one, self.other = self._host(), self._host()

    def _host(self) -> ScheduleHost:
        publisher = SchedulePublisher(self.db, Subjects("pair"), lambda _: True)
        host = ScheduleHost(self.db, self.commits, publisher, SHARDS, Clock())
        host.owns = lambda _: True
        host.announce = self.told.extend
        return host

    def key(self) -> str:
        return new_key(ids.shard_of_id(KEY), self.one.now())

    async def create(self, **definition: Any) -> None:
        record = ids.mint(self.one.now() // 1000, ids.new_run_key(3), ids.SCHEDULE)
        command = CreateSchedule(record, Definition(**{"spec": NEVER, "action": ACTION, **definition}))
        assert await self.one.ask(KEY, command, NAMES) == Acted("created")

    async def state(self) -> ScheduleState:
        (stored,) = await schedules.load(self.db, [KEY])
        return decode(stored.state, stored.definition)


@pytest.fixture
async def pair(services: TestServices) -> AsyncIterator[Pair]:
    made = Pair(services.deployment().dsn)
    await made.db.start()
    await made.commits.start()
    yield made
    made.one.stop()
    made.other.stop()
    await made.commits.stop()
    await made.db.stop()


async def test_both_change_it_and_no_change_is_lost(pair: Pair) -> None:
    await pair.create(overlap_policy="allow_all")
    hosts = (pair.one, pair.other)
    replies = await asyncio.gather(*(hosts[turn % 2].ask(KEY, TriggerSchedule(), key=pair.key()) for turn in range(40)))
    numbers = sorted(reply.number for reply in replies if isinstance(reply, Fired))
    assert numbers == list(range(1, 41))
    assert len(await run_messages.pending(pair.db, range(SHARDS), 100)) == len(pair.told) == 40
    events = await schedules.events(pair.db, KEY, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_what_is_out_of_date_neither_answers_nor_refuses(pair: Pair) -> None:
    await pair.create()
    assert await pair.other.ask(KEY, DeleteSchedule(), NAMES) == Acted("deleted")
    assert await pair.one.ask(KEY, ResumeSchedule(), NAMES) == Refused("schedule_not_found")
    assert await pair.one.ask(KEY, PauseSchedule(), NAMES) == Refused("schedule_not_found")


async def test_due_on_both_it_fires_once(pair: Pair) -> None:
    await pair.create(spec=EVERY_SECOND, overlap_policy="allow_all")
    await pair.other.ask(KEY, WakeUp())
    await asyncio.sleep(3)
    state = await pair.state()
    assert state.numbers >= 2
    occurrences = [sent.occurrence for sent in state.sent.values()]
    assert len(set(occurrences)) == len(occurrences) == state.numbers == len(pair.told)


async def test_a_message_is_applied_once_whoever_gets_it(pair: Pair) -> None:
    await pair.create(overlap_policy="buffer_all")
    await pair.one.ask(KEY, TriggerSchedule())
    await pair.one.ask(KEY, TriggerSchedule())
    record = (await pair.state()).record_id
    (message,) = pair.told
    for host in (pair.one, pair.other, pair.one):
        assert await host.ask(KEY, StartConfirmed(record, 1), None, message.message_id) == Done()
    state = await pair.state()
    assert state.fires_count == 1 and not state.sent
    assert await run_messages.pending(pair.db, range(SHARDS), 100) == []
    for host in (pair.other, pair.one):
        await host.ask(KEY, RunClosed(record, 1))
    assert (await pair.state()).numbers == 2


async def test_a_start_that_was_begun_can_not_be_refused_as_well(pair: Pair) -> None:
    await pair.create()
    await pair.one.ask(KEY, TriggerSchedule())
    (message,) = pair.told
    await run_messages.discard(pair.db, [message.message_id])  # as the commit of the run does
    record = (await pair.state()).record_id
    assert await pair.one.ask(KEY, StartRefused(record, 1, "no"), None, message.message_id) == Done()
    assert 1 in (await pair.state()).sent


async def test_an_outcome_that_nobody_knows_is_read_again(pair: Pair) -> None:
    await pair.create(overlap_policy="allow_all")
    key = pair.key()
    pair.commits.silent = True
    with pytest.raises(Unavailable):
        await pair.one.ask(KEY, TriggerSchedule(), NAMES, key=key)
    pair.commits.silent = False
    again = await asyncio.gather(*(host.ask(KEY, TriggerSchedule(), NAMES, key=key) for host in (pair.one, pair.other)))
    assert [reply.number for reply in again if isinstance(reply, Fired)] == [1, 1]
    assert (await pair.state()).numbers == 1


async def test_what_rests_is_let_go_and_comes_back(pair: Pair) -> None:
    await pair.create()
    await pair.one.release(range(SHARDS), drain=True)
    assert await pair.one.ask(KEY, PauseSchedule()) == Acted("paused")
    assert await pair.one.ask(schedule_key("default", "t", SHARDS), WakeUp()) == Refused("schedule_not_found")
