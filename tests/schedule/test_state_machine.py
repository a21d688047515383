"""A schedule under every interleaving of calls, times, runs and crashes.

The invariants, by number:

1. An occurrence fires at most once: no two starts of a record have the same occurrence, those of backfills excepted.
2. A start begins one run, however often it is told; no two starts share an id.
3. As long as every policy was `skip` or `buffer_*`, no two runs of the schedule are under way, starts on their way included.
4. What is buffered starts in the order in which it was buffered; the buffer holds as many as its policy allows.
5. Never more runs than `max_runs`: `remaining_actions` is what is left of them, and what is unconfirmed fits into it.
6. A paused or deleted schedule sends no start.
7. Fires by itself come later and later.
8. The same commands give the same state, events and messages; a transition that was not committed leaves nothing behind.
9. A message told again changes nothing, to the schedule or to a run.
10. Audit events are numbered without gaps, over all records; counters are what the events say.
11. After a wake-up nothing is due: no schedule keeps a node busy.
12. In the end, when all messages have arrived and all runs have closed, nothing is unconfirmed or left in a buffer.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.run.times import SECOND
from actors.schedule.commands import (
    BackfillSchedule,
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    RunClosed,
    ScheduleCommand,
    StartConfirmed,
    StartRefused,
    TriggerSchedule,
    UpdateSchedule,
    WakeUp,
)
from actors.schedule.firing import MOST_BUFFERED
from actors.schedule.messages import Message, Origin, StartOccurrence, StopRun
from actors.schedule.replies import Acted, Backfilled, Fired, Refused, ScheduleReply
from actors.schedule.state import ACTIVE, BUFFER_ONE, OVERLAP_POLICIES, Buffered, Definition
from tests.schedule.harness import ACTION, Schedule, payload, record_id, search

ORDERLY = ("skip", "buffer_one", "buffer_all")
SPECS = st.sampled_from(
    [
        {"cron_expressions": ["0 * * * *"]},
        {"cron_expressions": ["*/10 * * * *", "5 2 * * *"], "timezone": "America/New_York"},
        {"intervals": [{"every": "PT7M", "offset": "PT90S"}]},
        {"intervals": [{"every": "PT90S"}]},
        {"cron_expressions": ["0 0 30 2 *"]},
    ]
)
JITTERS = st.sampled_from([0, 0, 0, 5, 400])
WINDOWS = st.sampled_from([0, 0, 0, 60, 1800])
LIMITS = st.sampled_from([None, None, 1, 3, 8])
POLICIES = st.sampled_from(OVERLAP_POLICIES)


class Life(RuleBasedStateMachine):
    """One schedule id, the messages on their way, and the chains of runs it started."""

    policies = POLICIES
    orderly = False  # whether all policies there ever are keep runs apart

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule()
        self.records = 0
        self.log: list[tuple[int, ScheduleCommand]] = []
        self.to_runs: list[Message] = []
        self.to_schedule: list[ScheduleCommand] = []
        self.told_runs: list[Message] = []
        self.told_schedule: list[ScheduleCommand] = []
        self.open: dict[str, Origin] = {}
        self.begun: dict[str, str] = {}
        self.refused: set[str] = set()
        self.occurrences: set[tuple[str, str]] = set()
        self.returns: Buffered | None = None  # what the refusal now being told puts back
        self.again: list[int | None] = []
        self.only_buffers_one = False
        self.last_fire = 0
        self.max_runs: int | None = None
        self.changed_limit = False

    # -- the schedule --------------------------------------------------------------------------------------------------

    def tell(self, command: ScheduleCommand) -> ScheduleReply:
        schedule, before = self.schedule, self.schedule.state
        schedule.decided(command)  # 8: decided by a node that died before it committed
        reply = schedule.tell(command)
        self.log.append((schedule.now, command))
        after = schedule.state
        if ACTIVE not in (before.status, after.status) or isinstance(command, PauseSchedule | DeleteSchedule):
            assert not schedule.starts, "6"
        assert not isinstance(reply, Refused) or not schedule.changed
        for start in schedule.starts:
            self.check_start(start, before.buffer)
        self.check_buffer(before.buffer, after.buffer, command)
        self.to_runs += schedule.out
        return reply

    def check_start(self, start: StartOccurrence, waiting: list[Buffered]) -> None:
        state = self.schedule.state
        sent = state.sent[start.origin.number]
        assert (start.workflow_id, start.run_id) == (sent.workflow_id, sent.run_id)
        assert start.workflow_id not in self.begun and start.workflow_id not in self.refused, "2"
        if sent.outcome == "scheduled" and sent.policy in MOST_BUFFERED:
            assert not waiting, "4"
        if sent.occurrence is not None and sent.outcome != "backfilled":
            key = (start.origin.record_id, start.triggered["occurrence_time"])
            # What is buffered counts when it starts; it starts again only after a refusal.
            assert key not in self.occurrences or sent.occurrence in self.again, "1"
            self.occurrences.add(key)
            if sent.outcome == "scheduled":
                assert sent.occurrence > self.last_fire, "7"
                self.last_fire = sent.occurrence

    def check_buffer(self, before: list[Buffered], after: list[Buffered], command: ScheduleCommand) -> None:
        """4: taken at the front, added at the end; a drained start that was refused goes back to the front."""
        state = self.schedule.state
        if not state.exists:
            return
        if isinstance(command, StartRefused) and self.returns is not None:
            before = [self.returns, *before]
            self.again.append(self.returns.occurrence)
        drained = [start for start in self.schedule.starts if state.sent[start.origin.number].outcome == "drained"]
        assert len(drained) <= 1, "4"
        if drained:
            assert state.sent[drained[0].origin.number].occurrence == before[0].occurrence, "4"
            before = before[1:]
        assert after[: len(before)] == before, "4"
        if self.only_buffers_one:
            assert len(after) <= 2, "4"  # one, and one that came back

    @initialize(
        spec=SPECS,
        jitter=JITTERS,
        window=WINDOWS,
        max_runs=LIMITS,
        paused=st.sampled_from([False, False, True]),
        data=st.data(),
    )
    def begin(self, spec: Any, jitter: int, window: int, max_runs: int | None, paused: bool, data: Any) -> None:
        self.create(data.draw(self.policies), spec, jitter, window, max_runs, paused)

    def create(
        self, policy: str, spec: dict[str, Any], jitter: int, window: int, max_runs: int | None, paused: bool = False
    ) -> None:
        self.records += 1
        definition = Definition(spec, ACTION, policy, jitter, max_runs, catchup_window_seconds=window)
        assert self.tell(CreateSchedule(record_id(self.records), definition, paused=paused)) == Acted("created")
        self.max_runs, self.changed_limit = max_runs, False
        self.last_fire = 0
        self.again = []
        self.only_buffers_one = policy == BUFFER_ONE

    @precondition(lambda self: not self.schedule.state.exists)
    @rule(spec=SPECS, jitter=JITTERS, window=WINDOWS, max_runs=LIMITS, data=st.data())
    def create_again(self, spec: Any, jitter: int, window: int, max_runs: int | None, data: Any) -> None:
        if self.orderly and (self.open or self.to_runs):
            return  # the runs of the record before are no business of the new one
        self.create(data.draw(self.policies), spec, jitter, window, max_runs)

    @rule(
        spec=st.none() | SPECS,
        jitter=st.none() | JITTERS,
        window=st.none() | WINDOWS,
        max_runs=LIMITS,
        policy=st.sampled_from([True, False, False]),
        data=st.data(),
    )
    def update(self, spec: Any, jitter: Any, window: Any, max_runs: int | None, policy: bool, data: Any) -> None:
        before = self.schedule.state
        chosen = data.draw(self.policies) if policy else None
        self.only_buffers_one = self.only_buffers_one and not policy
        reply = self.tell(
            UpdateSchedule(
                spec=spec, jitter_seconds=jitter, max_runs=max_runs, overlap_policy=chosen, catchup_window_seconds=window
            )
        )
        if not before.exists:
            assert reply == Refused("schedule_not_found")
        elif max_runs is not None:
            self.max_runs, self.changed_limit = max_runs, True

    @rule()
    def pause(self) -> None:
        self.tell(PauseSchedule())

    @rule()
    def resume(self) -> None:
        self.tell(ResumeSchedule())

    @rule(really=st.sampled_from([True, False, False, False]))
    def delete(self, really: bool) -> None:
        if really:
            self.tell(DeleteSchedule())

    @rule(override=st.sampled_from([True, False, False]), data=st.data())
    def trigger(self, override: bool, data: Any) -> None:
        chosen = data.draw(self.policies) if override else None
        self.only_buffers_one = self.only_buffers_one and chosen is None
        reply = self.tell(TriggerSchedule(chosen, attribution=b'{"source":"test"}'))
        if isinstance(reply, Fired) and reply.outcome == "sent":
            assert reply.number in self.schedule.state.sent

    @rule(hours=st.sampled_from([1, 5, 100]), back=st.sampled_from([1, 6, 200]))
    def backfill(self, hours: int, back: int) -> None:
        start = self.schedule.now - back * 3600 * SECOND
        override = "skip" if self.orderly else None  # with a buffer it would allow all
        reply = self.tell(BackfillSchedule(start, start + hours * 3600 * SECOND, override, b'{"source":"test"}', at_most=50))
        if isinstance(reply, Backfilled):
            times = [each.occurrence for each in reply.results]
            assert times == sorted(set(times), key=lambda each: each or 0) and len(times) <= 50

    @rule(at=st.integers(0, 99))
    def crash(self, at: int) -> None:
        """8: all that was committed, decided again from the beginning, comes to the same."""
        if at >= 10:
            return
        again = Schedule()
        for now, command in self.log:
            again.now = now
            again.tell(command)
        assert again.state == self.schedule.state, "8"
        assert (again.events, again.messages) == (self.schedule.events, self.schedule.messages), "8"

    # -- time ----------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 1, 10, 60, 600, 3600, 50_000]))
    def pass_time(self, seconds: float) -> None:
        self.schedule.now += int(seconds * SECOND)

    @rule(seconds=st.sampled_from([0.5, 3, 100]))
    def clock_goes_back(self, seconds: float) -> None:
        self.schedule.now -= int(seconds * SECOND)

    @precondition(lambda self: self.schedule.wake_at is not None)
    @rule(late=st.sampled_from([0, 0, 0, 0.1, 3, 4000, 20_000]))
    def wake(self, late: float) -> None:
        self.schedule.now = max(self.schedule.now, (self.schedule.wake_at or 0) + int(late * SECOND))
        self.woken()

    @rule()
    def woken(self) -> None:
        """Also when nothing is due."""
        due = self.schedule.wake_at
        self.tell(WakeUp())
        if due is None or due > self.schedule.now:
            assert not self.schedule.starts and not self.schedule.new, "11"
        after = self.schedule.wake_at
        assert after is None or after > self.schedule.now or len(self.schedule.new) + len(self.schedule.starts) >= 100, "11"

    # -- runs ----------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.to_runs)
    @rule(at=st.integers(0, 99), refuse=st.sampled_from([None, None, None, "full", "compatibility_blocked"]))
    def to_run(self, at: int, refuse: str | None) -> None:
        message = self.to_runs.pop(at % len(self.to_runs))
        self.told_runs.append(message)
        self.apply(message, refuse)

    @precondition(lambda self: self.told_runs)
    @rule(at=st.integers(0, 99))
    def to_run_again(self, at: int) -> None:
        """9: the receiver's node died after its commit, before it said so."""
        message = self.told_runs[-1 - at % len(self.told_runs)]
        count = len(self.begun)
        if isinstance(message, StartOccurrence):
            self.apply(message, None)
        assert len(self.begun) == count, "2"

    def apply(self, message: Message, refuse: str | None) -> None:
        if isinstance(message, StopRun):
            assert message.workflow_id in self.begun, "a stop overtook its start"
            if message.how == "terminate":
                self.end(message.workflow_id)
            return
        origin = message.origin
        if message.workflow_id in self.refused or (refuse is not None and message.workflow_id not in self.begun):
            self.refused.add(message.workflow_id)
            self.to_schedule.append(StartRefused(origin.record_id, origin.number, refuse or "full"))
            return
        if message.workflow_id not in self.begun:
            self.begun[message.workflow_id] = message.run_id
            self.open[message.workflow_id] = origin
        assert self.begun[message.workflow_id] == message.run_id, "2"
        self.to_schedule.append(StartConfirmed(origin.record_id, origin.number))

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 99), goes_on=st.sampled_from([True, False, False]))
    def run_ends(self, at: int, goes_on: bool) -> None:
        if not goes_on:  # else it continues as new, and the next run has its origin
            self.end(sorted(self.open)[at % len(self.open)])

    def end(self, workflow_id: str) -> None:
        origin = self.open.pop(workflow_id, None)
        if origin is not None:
            self.to_schedule.append(RunClosed(origin.record_id, origin.number))

    @precondition(lambda self: self.to_schedule)
    @rule(at=st.integers(0, 99))
    def from_run(self, at: int) -> None:
        command = self.to_schedule.pop(at % len(self.to_schedule))
        self.told_schedule.append(command)
        self.hear(command)

    def hear(self, command: ScheduleCommand) -> None:
        state = self.schedule.state
        self.returns = None
        if isinstance(command, StartRefused) and command.record_id == state.record_id and command.number in state.sent:
            sent = state.sent[command.number]
            if sent.outcome == "drained":
                self.returns = Buffered(sent.buffered_at or 0, sent.occurrence)
        self.tell(command)

    @precondition(lambda self: self.told_schedule)
    @rule(at=st.integers(0, 99))
    def from_run_again(self, at: int) -> None:
        schedule, before = self.schedule, self.schedule.state
        self.tell(self.told_schedule[-1 - at % len(self.told_schedule)])
        # A clock that was ahead may have its plan set right by any command; nothing else may change.
        assert not schedule.out and not schedule.new and not schedule.settled, "9"
        assert schedule.state.sent == before.sent and schedule.state.latest == before.latest, "9"
        assert not schedule.changed or before.planned_at > schedule.now, "9"

    # -- always --------------------------------------------------------------------------------------------------------

    @invariant()
    def one_at_a_time(self) -> None:
        if self.orderly:
            on_their_way = sum(isinstance(each, StartOccurrence) for each in self.to_runs)
            assert len(self.open) + on_their_way <= 1, "3"

    @invariant()
    def counted(self) -> None:
        state, events = self.schedule.state, self.schedule.events
        assert [each.sequence for each in events] == list(range(1, len(events) + 1)), "10"
        assert len({each.event_id for each in events}) == len(events), "10"
        times = [each.recorded_at for each in events]
        assert times == sorted(times), "10"
        mine = [payload(each) for each in events[-60:]]
        mine = [each for each in mine if each["schedule"]["id"] == state.record_id]
        if mine and len(events) <= 60:
            assert state.fires_count == sum("trigger_number" in each for each in mine), "10"
            assert state.skipped_trigger_count == sum("skipped_trigger_count" in each for each in mine), "10"
        if state.remaining_actions is not None:
            assert state.remaining_actions >= 0 and self.max_runs is not None, "5"
            if not self.changed_limit:
                assert len(state.sent) <= state.remaining_actions, "5"
                assert state.remaining_actions == self.max_runs - state.fires_count, "5"
        assert len(state.recent) <= 10
        assert set(state.contexts) >= {each.context for each in state.sent.values() if each.context}
        assert state.sent or not state.contexts
        if not state.exists:
            assert not state.buffer and state.next_fire_at is None and self.schedule.wake_at is None, "6"

    def teardown(self) -> None:
        """12."""
        for _ in range(10_000):
            while self.to_runs:
                self.apply(self.to_runs.pop(0), None)
            for workflow_id in list(self.open):
                self.end(workflow_id)
            if not self.to_schedule:
                state = self.schedule.state
                if state.status == ACTIVE and state.buffer and not state.running and state.drain_after > self.schedule.now:
                    self.schedule.now = state.drain_after
                    self.tell(WakeUp())
                    continue
                break
            while self.to_schedule:
                self.hear(self.to_schedule.pop(0))
        state = self.schedule.state
        assert not state.sent, "12"
        assert state.status != ACTIVE or not state.buffer or state.remaining_actions == 0, "12"
        assert not state.running, "12"


class OrderlyLife(Life):
    """The same with policies alone that keep runs apart."""

    policies = st.sampled_from(ORDERLY)
    orderly = True


TestLife = pytest.mark.slow(Life.TestCase)
TestLife.settings = search(100, stateful_step_count=50)
TestOrderlyLife = pytest.mark.slow(OrderlyLife.TestCase)
TestOrderlyLife.settings = search(60, stateful_step_count=50)
