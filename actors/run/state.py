"""What a run remembers between transitions: everything it needs to decide, and nothing that grows with its history.

Payloads live in the history only; the state points at them by event sequence. Unset optional fields are left out of the
serialized form, so states written by earlier versions stay readable. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from msgspec import Struct

from actors.run import ids
from actors.run.ids import RunId, RunKey
from actors.run.words import ActivityStatus, ClosedReason, RunStatus, TaskStatus

# An instant no deadline reaches.
NEVER = 1 << 62


class WorkflowTask(Struct, omit_defaults=True):
    """The run's workflow task, open or (on a closed run) the last one. Statuses: contract engine-semantics 1.3."""

    task_id: str
    status: TaskStatus = "ready"
    context: dict[str, Any] = {}
    created_at: int = 0
    available_at: int = 0
    attempt: int = 0
    failures: int = 0
    repairs: int = 0
    owner: str | None = None
    dialect: str = ""
    leased_at: int = 0
    lease_expires_at: int = 0
    snapshot: int = 0
    repeatable: bool = False
    claimed_at_event: int = 0
    view_length: int = 0
    new_receivers: bool = False
    update_id: str | None = None
    signal_id: str | None = None
    last_error: dict[str, Any] | None = None


class Activity(Struct, omit_defaults=True):
    """An activity execution that has no outcome yet, keyed in the state by its current task id.

    `status`: `ready` (a task row waits), `running`, `withdrawn` (the run completed meanwhile), `cancelled`. After a lease ran
    out unnoticed by deadlines the status is `ready` again while `attempt_id` still names the lost attempt, whose outcome counts
    until the next claim. `deadline` is the earliest instant at which something is due. `retry_at`: when history says that it is
    tried again, if the clock went back since.
    """

    execution_id: str
    activity_type: str
    step: int
    scheduled_event: int
    queue: str
    payload_codec: str
    created_at: int
    available_at: int
    status: ActivityStatus = "ready"
    retry_at: int = 0
    deadline: int = NEVER
    attempts: int = 0
    attempt_id: str | None = None
    owner: str | None = None
    started_at: int = 0
    last_heartbeat_at: int = 0
    lease_expires_at: int = 0
    retry_policy: dict[str, Any] | None = None
    max_attempts: int = 1
    backoff_seconds: list[int] = []
    non_retryable: list[str] = []
    start_to_close: int | None = None
    schedule_to_start: int | None = None
    schedule_to_close: int | None = None
    heartbeat: int | None = None
    schedule_to_start_at: int | None = None
    start_to_close_at: int | None = None
    schedule_to_close_at: int | None = None
    heartbeat_at: int | None = None
    progress: dict[str, Any] | None = None
    connection: str | None = None
    priority: int | None = None
    fairness_key: str | None = None
    fairness_weight: int | None = None


class Timer(Struct, omit_defaults=True):
    """A pending timer, keyed in the state by its timer id. `fire_at` is what history says; `due_at`: when it fires instead."""

    step: int
    delay_seconds: int
    fire_at: int
    task_id: str
    created_at: int = 0
    due_at: int = 0

    @property
    def due(self) -> int:
        """When it fires."""
        return self.due_at or self.fire_at


class Wait(Struct, omit_defaults=True):
    """The open condition wait. `timer_id` None with `timeout_at`: a timeout of zero seconds, which has no timer.

    `timeout_at` is what history says; `due_at`: when it times out instead.
    """

    wait_id: str
    step: int
    opened_at: int
    key: str | None = None
    fingerprint: str | None = None
    timeout_seconds: int | None = None
    timeout_at: int | None = None
    timer_id: str | None = None
    timer_task_id: str | None = None
    due_at: int = 0

    @property
    def due(self) -> int:
        """When it times out, `NEVER` without a timeout."""
        return NEVER if self.timeout_at is None else self.due_at or self.timeout_at


class Signal(Struct, omit_defaults=True):
    """A signal received and not yet applied; `event` is the sequence of its SignalReceived."""

    signal_id: str
    name: str
    wait_id: str
    event: int
    command_id: str
    command_sequence: int
    to_run: bool = False


class Update(Struct, omit_defaults=True):
    """An update accepted and not yet closed, keyed in the state by its id; `event` is the sequence of its UpdateAccepted."""

    name: str
    event: int
    command_id: str
    command_sequence: int
    accepted_at: int
    request_id: str | None = None
    to_run: bool = False


class Child(Struct, omit_defaults=True):
    """An open child call, keyed in the state by its call id; `run_id` is the newest run known of it."""

    step: int
    workflow_id: str
    run_id: RunId
    workflow_type: str
    link_id: str
    run_number: int = 1
    policy: str = "abandon"
    started_at: int = 0


class Origin(Struct, omit_defaults=True):
    """On a child: its parent, and the retry policy of the call (`attempt` counts its runs, continued ones excepted)."""

    workflow_id: str
    run_id: RunId
    step: int
    call_id: str
    link_id: str
    attempt: int = 1
    max_attempts: int = 1
    backoff_seconds: list[int] = []
    non_retryable: list[str] = []
    retry_snapshot: dict[str, Any] | None = None
    timeout_snapshot: dict[str, Any] | None = None


class View(Struct, omit_defaults=True):
    """The order in which workers of the 0.4 generation are shown the run's events (`actors.dialects.sdk04`)."""

    settled: bytes = b""
    settled_end: int = 0
    spans: list[list[int]] = []
    length: int = 0
    fresh: list[int | list[int]] = []
    held: dict[int, int] = {}
    groups: list[list[int]] = []
    signals: list[int] = []
    receivers: list[int] = []


class RunState(Struct, omit_defaults=True):
    """One workflow run. Static facts first, then what changes."""

    namespace: str
    workflow_id: str
    run_id: RunId
    workflow_type: str
    task_queue: str
    started_at: int
    run_number: int = 1
    payload_codec: str = "avro"
    business_key: str | None = None
    compatibility: str | None = None
    priority: int = 5
    fairness_key: str | None = None
    fairness_weight: int = 1
    memo: dict[str, Any] | bytes = {}  # see `opaque`
    search_attributes: dict[str, Any] = {}
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None
    execution_deadline_at: int | None = None
    run_deadline_at: int | None = None
    input_event: int = 2

    status: RunStatus = "pending"
    closed_reason: ClosedReason | None = None
    closed_at: int | None = None
    superseded: bool = False  # another run goes on in its place
    last_progress_at: int = 0
    recorded_at: int = 0
    id_clock: int = 0
    last_sequence: int = 0
    history_bytes: int = 0
    fan_out: int = 0
    steps: int = 0
    command_sequence: int = 1

    task: WorkflowTask | None = None
    next_context: dict[str, Any] | None = None
    begun: bool = False
    recheck: bool = False
    wait: Wait | None = None
    signals: list[Signal] = []
    updates: dict[str, Update] = {}
    receivers: list[int] = []
    children: dict[str, Child] = {}
    origin: Origin | None = None
    archived: bool = False
    duplicate_starts: int = 0
    failures: list[dict[str, Any]] = []
    activities: dict[str, Activity] = {}
    timers: dict[str, Timer] = {}
    batch: bytes = b""
    view: View = msgspec.field(default_factory=View)

    @property
    def run_key(self) -> RunKey:
        """The part all ids of this run share."""
        return ids.key_in(self.run_id)

    @property
    def is_open(self) -> bool:
        """Whether the run can still change by itself or by its workers."""
        return self.closed_reason is None

    @property
    def open_task(self) -> WorkflowTask | None:
        """The ready or leased workflow task, if there is one."""
        task = self.task
        return task if task is not None and task.status in ("ready", "leased") else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RunState)


# A state with hundreds of open steps shrinks to a tenth (its ids are alike) and is written with every transition.
_COMPRESSED_FROM_BYTES = 4096
_ZLIB_HEADER = 0x78  # no map of MessagePack begins so


def encode(state: RunState) -> bytes:
    """The stored form of a state: MessagePack, compressed when it is long."""
    data = _encoder.encode(state)
    return data if len(data) < _COMPRESSED_FROM_BYTES else zlib.compress(data, 1)


def decode(data: bytes) -> RunState:
    """A state from its stored form."""
    return _decoder.decode(zlib.decompress(data) if data[0] == _ZLIB_HEADER else data)
