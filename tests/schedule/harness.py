"""A schedule without a server: the pure rules, driven command by command.

Every command is decided twice from the same stored state, which must give the same bytes: the rules are a function of (state,
command, time). Between commands the state exists only in its stored form.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
from hypothesis import HealthCheck, settings

from actors.run import ids
from actors.run.times import SECOND
from actors.schedule.commands import (
    CreateSchedule,
    ResumeSchedule,
    RunClosed,
    ScheduleCommand,
    StartConfirmed,
    StartRefused,
    TriggerSchedule,
    UpdateSchedule,
    WakeUp,
)
from actors.schedule.decide import decide, unborn
from actors.schedule.messages import Message, Settled, StartOccurrence, StopRun
from actors.schedule.replies import Acted, Fired, ScheduleReply
from actors.schedule.state import Definition, ScheduleState, decode, encode, encode_definition
from actors.schedule.transition import AuditEvent, Transition, earliest_deadline
from tests.support.defaults import SHARDS

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

# More examples than the default: DW_TEST_SCALE=20 for a long search.
SCALE = int(os.environ.get("DW_TEST_SCALE", "1"))

HOURLY = {"cron_expressions": ["0 * * * *"], "timezone": "UTC"}
ACTION = {"workflow_type": "parcels.audit", "task_queue": "parcels", "input": [1]}


def search(examples: int, **more: Any) -> settings:
    """Hypothesis settings of this folder: the same examples on every machine, no time limits of its own."""
    return settings(
        max_examples=examples * SCALE,
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


def at(text: str) -> int:
    """`2026-05-01 09:30` as a time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def text_of(time: int | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def record_id(number: int = 0) -> str:
    return ids.mint(1_777_000_000_000 + number, ids.derived_run_key(3, f"record {number}"), ids.SCHEDULE)


class Schedule:
    """One schedule id and its clock. `events` and `messages` are all there were, `new` and `out` those of the last command."""

    def __init__(self, start: str = "2026-05-01 09:30") -> None:
        self.now = at(start)
        self._stored = self._store(unborn("default", "nightly"))
        self.events: list[AuditEvent] = []
        self.messages: list[Message] = []
        self.new: list[AuditEvent] = []
        self.out: list[Message] = []
        self.settled: list[Settled] = []
        self.changed = False

    @staticmethod
    def _store(state: ScheduleState) -> tuple[bytes, bytes]:
        return encode(state), encode_definition(state.definition)

    @property
    def state(self) -> ScheduleState:
        return decode(*self._stored)

    def decided(self, command: ScheduleCommand) -> tuple[Transition, ScheduleReply]:
        """Decide without committing."""
        tx = Transition(self.state, self.now, SHARDS)
        return tx, decide(tx, command)

    def tell(self, command: ScheduleCommand) -> ScheduleReply:
        tx, reply = self.decided(command)
        again, same = self.decided(command)
        stored = self._store(tx.state)
        assert stored == self._store(again.state) and reply == same
        assert tx.events == again.events and tx.messages == again.messages and tx.settled == again.settled
        self.changed = tx.changed
        if not tx.changed:
            assert stored == self._stored and not tx.events and not tx.messages and not tx.settled
        assert stored[1] == self._stored[1] or tx.definition_changed
        self._stored = stored
        self.new, self.out, self.settled = tx.events, tx.messages, tx.settled
        self.events += tx.events
        self.messages += tx.messages
        assert tx.wake_at() == self.wake_at
        return reply

    @property
    def wake_at(self) -> int | None:
        return earliest_deadline(self.state)

    @property
    def new_types(self) -> list[str]:
        return [each.event_type for each in self.new]

    @property
    def types(self) -> list[str]:
        return [each.event_type for each in self.events]

    @property
    def starts(self) -> list[StartOccurrence]:
        """Those of the last command."""
        return [each for each in self.out if isinstance(each, StartOccurrence)]

    @property
    def stops(self) -> list[StopRun]:
        return [each for each in self.out if isinstance(each, StopRun)]

    # -- short for commands --------------------------------------------------------------------------------------------

    def create(self, *, paused: bool = False, note: str | None = None, record: int = 0, **definition: Any) -> ScheduleReply:
        whole = Definition(**{"spec": HOURLY, "action": ACTION, **definition})
        return self.tell(CreateSchedule(record_id(record), whole, paused=paused, note=note))

    def wake(self, when: str | None = None) -> None:
        """Be woken, at this time or when it is due."""
        self.now = at(when) if when is not None else self.wake_at or self.now
        self.tell(WakeUp())

    def fire(self, policy: str | None = None) -> Fired:
        reply = self.tell(TriggerSchedule(policy))
        assert isinstance(reply, Fired)
        return reply

    def update(self, **changes: Any) -> ScheduleReply:
        return self.tell(UpdateSchedule(**changes))

    def resume(self) -> None:
        assert self.tell(ResumeSchedule()) == Acted("resumed")

    def confirm(self, number: int | None = None) -> None:
        """The start with this number, or every one that is unconfirmed, is confirmed."""
        state = self.state
        for each in sorted(state.sent) if number is None else [number]:
            self.tell(StartConfirmed(state.record_id, each))

    def refuse(self, number: int, reason: str = "no") -> None:
        self.tell(StartRefused(self.state.record_id, number, reason))

    def close(self, number: int) -> None:
        self.tell(RunClosed(self.state.record_id, number))


def payload(event: AuditEvent) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(event.payload)
    return found


def as_json(value: Any) -> Any:
    """A message as it goes over a wire."""
    return msgspec.json.decode(msgspec.json.encode(value))
