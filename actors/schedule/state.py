"""What a schedule remembers between transitions (contract operations 1.1).

Two parts: the `Definition`, what its clients want, replaced whole by an update and stored apart, because an action's input may
be large and a fire changes none of it; and the bookkeeping, `ScheduleState` itself. Unset optional fields are left out of the
stored form, so states written by earlier versions stay readable. Times are microseconds since the Unix epoch.

Values of type `bytes` inside JSON are JSON text handed on unread (`actors.run.opaque`).
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from msgspec import Struct

ABSENT = "absent"
ACTIVE = "active"
PAUSED = "paused"
DELETED = "deleted"

SKIP = "skip"
BUFFER_ONE = "buffer_one"
BUFFER_ALL = "buffer_all"
CANCEL_OTHER = "cancel_other"
TERMINATE_OTHER = "terminate_other"
ALLOW_ALL = "allow_all"
OVERLAP_POLICIES = (SKIP, BUFFER_ONE, BUFFER_ALL, CANCEL_OTHER, TERMINATE_OTHER, ALLOW_ALL)

# How a run came about (operations 1.6).
SCHEDULED = "scheduled"
BACKFILLED = "backfilled"
DRAINED = "drained"

RECENT_ACTIONS = 10


class Definition(Struct, frozen=True, omit_defaults=True):
    """What is to be done, and when. `spec` and `action` are as the client sent them, but for canonical names in the action."""

    spec: dict[str, Any] = {}
    action: dict[str, Any] = {}
    overlap_policy: str = SKIP
    jitter_seconds: int = 0
    max_runs: int | None = None
    memo: dict[str, Any] | bytes | None = None
    search_attributes: dict[str, Any] | bytes | None = None
    catchup_window_seconds: int = 0


class Buffered(Struct, array_like=True):
    """A fire that waits for the latest run to close; one by hand has no occurrence."""

    buffered_at: int
    occurrence: int | None = None


class Recent(Struct, omit_defaults=True):
    """One of the recent actions; a failed one has a reason and no run."""

    outcome: str
    fired_at: int
    workflow_id: str | None = None
    run_id: str | None = None
    occurrence: int | None = None
    reason: str | None = None


class Sent(Struct, omit_defaults=True):
    """A start that was sent and not yet confirmed, keyed in the state by its number.

    `policy`: the effective one. `context`: key of the attribution in `ScheduleState.contexts`, 0 for none. `stop`: `cancel` or
    `terminate`, to be sent once the run is there. `buffered_at`: of a drained one, so that it can go back into the buffer.
    """

    workflow_id: str
    run_id: str
    fired_at: int
    trigger_number: int
    outcome: str = SCHEDULED
    policy: str = SKIP
    occurrence: int | None = None
    context: int = 0
    stop: str | None = None
    buffered_at: int | None = None


class Latest(Struct, omit_defaults=True):
    """The run of the highest number that is known to have started: what overlap policies look at."""

    number: int
    workflow_id: str
    run_id: str
    closed: bool = False


class ScheduleState(Struct, omit_defaults=True):
    """One schedule. `record_id` names this record: an id that is created again after its deletion gets a new one.

    `next_occurrence` is what the spec says, `next_fire_at` that and the jitter; `planned_at`: when they were reckoned.
    `consumed`: the last occurrence of the spec that fired, or was skipped or buffered, by itself. `numbers`: starts sent.
    `drain_after`: not before then is a failed drain tried again. `last_sequence`: of the audit events, over all records.
    """

    namespace: str
    schedule_id: str
    record_id: str = ""
    status: str = ABSENT
    definition: Definition = Definition()
    note: str | None = None
    created_at: int = 0
    updated_at: int = 0
    paused_at: int | None = None
    deleted_at: int | None = None

    next_occurrence: int | None = None
    next_fire_at: int | None = None
    planned_at: int = 0
    consumed: int | None = None

    fires_count: int = 0
    failures_count: int = 0
    skipped_trigger_count: int = 0
    last_fired_at: int | None = None
    last_skip_reason: str | None = None
    last_skipped_at: int | None = None
    remaining_actions: int | None = None
    recent: list[Recent] = []

    numbers: int = 0
    sent: dict[int, Sent] = {}
    contexts: dict[int, bytes] = {}
    latest: Latest | None = None
    buffer: list[Buffered] = []
    drain_after: int = 0

    last_sequence: int = 0
    recorded_at: int = 0
    id_clock: int = 0

    @property
    def exists(self) -> bool:
        """Whether clients can see it."""
        return self.status in (ACTIVE, PAUSED)

    @property
    def running(self) -> bool:
        """Whether the latest run is under way; one that was sent and not confirmed is (operations 1.5)."""
        return bool(self.sent) or (self.latest is not None and not self.latest.closed)

    @property
    def unreserved(self) -> int | None:
        """How many more starts may be sent, None for any number: what is sent and unconfirmed takes its share."""
        return None if self.remaining_actions is None else self.remaining_actions - len(self.sent)


_encoder = msgspec.msgpack.Encoder()
_states = msgspec.msgpack.Decoder(ScheduleState)
_definitions = msgspec.msgpack.Decoder(Definition)
_NONE = Definition()

_COMPRESSED_FROM_BYTES = 4096
_ZLIB_HEADER = 0x78  # no map of MessagePack begins so


def encode(state: ScheduleState) -> bytes:
    """The stored form of the bookkeeping, without the definition."""
    return _packed(msgspec.structs.replace(state, definition=_NONE))


def encode_definition(definition: Definition) -> bytes:
    """The stored form of a definition; to be written only when a transition changed it."""
    return _packed(definition)


def decode(data: bytes, definition: bytes) -> ScheduleState:
    """A state from the two stored forms."""
    state = _states.decode(_unpacked(data))
    state.definition = _definitions.decode(_unpacked(definition))
    return state


class _Totals(Struct):
    fires_count: int = 0
    failures_count: int = 0


_totals = msgspec.msgpack.Decoder(_Totals)


def totals(data: bytes) -> tuple[int, int]:
    """Fires and failures, from the stored bookkeeping alone."""
    found = _totals.decode(_unpacked(data))
    return found.fires_count, found.failures_count


def _packed(value: Struct) -> bytes:
    data = _encoder.encode(value)
    return data if len(data) < _COMPRESSED_FROM_BYTES else zlib.compress(data, 1)


def _unpacked(data: bytes) -> bytes:
    return zlib.decompress(data) if data[0] == _ZLIB_HEADER else data
