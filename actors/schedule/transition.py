"""One transition of a schedule in the making: the state it changes, the audit events it records, the messages it sends.

It may take several commands, decided one after the other, and is committed as a whole. Nothing here reads a clock or draws a
random number: `now` is handed in, ids and jitter follow from the state. `stamp` is what is recorded as the time of what
happens: recorded times never go back, the clock may.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from msgspec import Struct

from actors.run import ids, opaque
from actors.run.times import SECOND
from actors.schedule import forms, spec
from actors.schedule.messages import Message, Settled
from actors.schedule.state import ACTIVE, DELETED, ScheduleState


class AuditEvent(Struct, frozen=True):
    """One row of the audit history (operations 1.11), and one event of the event stream: `sequence` has no gaps and goes on
    over all records of a schedule id. `payload` is JSON text, `recorded_at` in microseconds.
    """

    sequence: int
    event_id: str
    event_type: str
    payload: bytes
    recorded_at: int
    workflow_instance_id: str | None = None
    workflow_run_id: str | None = None


class Transition:
    """Collects what one or more decisions change.

    To be committed: `state` (its definition when `definition_changed`), `events`, `messages`; `wake_at()` goes beside it. To be
    told after the commit: `settled`. `shards`: how many there are, for the ids of the runs to start.
    """

    __slots__ = ("changed", "definition_changed", "events", "messages", "now", "settled", "shards", "stamp", "state")

    def __init__(self, state: ScheduleState, now: int, shards: int) -> None:
        self.state = state
        self.now = now
        self.shards = shards
        self.stamp = max(now, state.recorded_at)
        self.events: list[AuditEvent] = []
        self.messages: list[Message] = []
        self.settled: list[Settled] = []
        self.changed = False
        self.definition_changed = False

    def touch(self) -> None:
        """The state has changed."""
        self.changed = True
        self.state.updated_at = self.stamp

    def mint(self, kind: str) -> str:
        """A new id of this schedule's record."""
        state = self.state
        state.id_clock = milliseconds = max(self.now // 1000, state.id_clock + 1)
        return ids.mint(milliseconds, ids.key_in(state.record_id), kind)

    def record(
        self,
        event_type: str,
        payload: dict[str, Any],
        attribution: bytes | None = None,
        workflow_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Append one audit event; keys of `payload` that are None are left out."""
        state = self.state
        self.touch()
        state.recorded_at = self.stamp
        state.last_sequence += 1
        whole = {key: value for key, value in payload.items() if value is not None}
        whole["schedule"] = forms.snapshot(state)
        if attribution is not None:
            whole["command_context"] = attribution
        self.events.append(
            AuditEvent(
                sequence=state.last_sequence,
                event_id=self.mint(ids.EVENT),
                event_type=event_type,
                payload=orjson.dumps(whole, opaque.embed),
                recorded_at=self.stamp,
                workflow_instance_id=workflow_id,
                workflow_run_id=run_id,
            )
        )

    # -- the next fire -------------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Reckon the next fire from now on (operations 1.3), never again one that was."""
        state = self.state
        after = self.now if state.consumed is None else max(self.now, state.consumed)
        self.plan_at(self._evaluated().next_after(after))

    def plan_at(self, occurrence: int | None, *, not_before: int = 0) -> None:
        """The next occurrence of the spec is this one; it fires at `not_before` at the earliest."""
        state = self.state
        state.planned_at = self.now
        if state.status == DELETED or (state.remaining_actions is not None and state.remaining_actions <= 0):
            occurrence = None
        state.next_occurrence = occurrence
        state.next_fire_at = None if occurrence is None else max(occurrence + self._jitter(occurrence), not_before)
        self.touch()

    def occurrence_after(self, at: int) -> int | None:
        """The first occurrence of the spec after `at`."""
        return self._evaluated().next_after(at)

    def _evaluated(self) -> spec.Spec:
        return spec.compiled(self.state.definition.spec)

    def _jitter(self, occurrence: int) -> int:
        """Between 0 and `jitter_seconds`, in microseconds: as good as random, and for one occurrence always the same."""
        most = self.state.definition.jitter_seconds
        if not most:
            return 0
        digest = hashlib.blake2b(f"{self.state.record_id}:{occurrence}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % (most + 1) * SECOND

    def wake_at(self) -> int | None:
        """When the schedule must be looked at next (architecture, rule 6), None for never by itself."""
        return earliest_deadline(self.state)


def earliest_deadline(state: ScheduleState) -> int | None:
    """The next fire, or the next try of a drain that failed. While all remaining actions are sent the next fire waits."""
    if state.status != ACTIVE:
        return None
    unreserved = state.unreserved
    due = None if unreserved is not None and unreserved <= 0 and state.sent else state.next_fire_at
    if state.buffer and not state.running and (unreserved is None or unreserved > 0):
        due = state.drain_after if due is None else min(due, state.drain_after)
    return due
