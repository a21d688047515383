"""What a run remembers between transitions: everything it needs to decide, and nothing that grows with its history.

Payloads live in the history only; the state points at them by event sequence. Unset optional fields are left out of the
serialized form, so states written by earlier versions stay readable. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from msgspec import Struct

from actors.run import ids, opaque
from actors.run.ids import RunId, RunKey
from actors.run.values import FIRST_TASK, Permit, Resume
from actors.run.words import ActivityStatus, AttemptEnd, ClosedReason, RunStatus, StandaloneEnd, TaskStatus

# An instant no deadline reaches.
NEVER = 1 << 62


class WorkflowTask(Struct, omit_defaults=True):
    """The run's workflow task, open or (on a closed run) the last one. Statuses: contract engine-semantics 1.3."""

    task_id: str
    status: TaskStatus = "ready"
    context: Resume = FIRST_TASK  # why it was created: what its worker is told of that
    created_at: int = 0
    available_at: int = 0  # it can be claimed from then on: later than `created_at` after a failure, or a child's retry
    attempt: int = 0  # how often it was claimed
    failures: int = 0  # attempts whose worker reported that it cannot replay; they space out the next ones
    repairs: int = 0  # leases that ran out
    owner: str | None = None  # the worker that has the lease
    dialect: str = ""  # of that worker: how it is shown the history
    leased_at: int = 0
    lease_expires_at: int = 0  # 0 without a lease
    snapshot: int = 0  # how many events that worker is shown, fixed at the claim
    repeatable: bool = False  # the snapshot leaves a step of the newest batch unresolved: a 0.4 worker sends the batch again
    claimed_at_event: int = 0  # the run's last event at the claim
    view_length: int = 0  # how many events the run's view (`View`) held then
    new_receivers: bool = False  # the snapshot holds a signal or applied update that no completed normal task has seen
    update_id: str | None = None  # the update it is for, and for nothing else; None: a normal task
    signal_id: str | None = None  # the signal it applies to the open wait, if it was created for one
    last_error: dict[str, Any] | None = None  # what its worker reported last: message, type, stack_trace


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
    capped: bool = False  # its lease is under a cap: once it ran out, it cannot go on without another one


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


class ScheduledBy(Struct, frozen=True):
    """The start of a schedule that a run goes back to; continue-as-new hands it on. `schedule_key`: whom to tell its end."""

    schedule_key: str
    record_id: str
    number: int


class Attempt(Struct, omit_defaults=True):
    """An attempt of a standalone activity that has ended."""

    attempt_id: str
    number: int
    status: AttemptEnd
    owner: str | None
    started_at: int
    closed_at: int
    last_heartbeat_at: int = 0


class Standalone(Struct, omit_defaults=True):
    """On a host run: the standalone activity it is there for. The last fields are set when that has its outcome and is no
    longer among the run's activities.
    """

    activity_type: str
    activity_class: str  # a label of the caller
    execution_id: str = ""
    attempts: list[Attempt] = []  # the newest of those that have ended
    status: StandaloneEnd | None = None
    attempt_count: int = 0
    last_heartbeat_at: int = 0
    schedule_to_start_at: int | None = None
    schedule_to_close_at: int | None = None


class View(Struct, omit_defaults=True):
    """The order in which workers of the 0.4 generation are shown the run's events (`actors.dialects.sdk04`).

    Positions count from 1 in that order, sequences in history, steps as they were authored.
    """

    settled: bytes = b""  # the older spans, packed: see `actors.dialects.sdk04._settle`
    settled_end: int = 0  # the last sequence of the packed ones
    spans: list[list[int]] = []  # [first, last] sequence of consecutive events, in the order of the view
    length: int = 0  # how many events are placed
    # Events not placed yet: a sequence, negative when it is a signal's; or [sequence, step] of the resolution of a step.
    fresh: list[int | list[int]] = []
    held: dict[int, int] = {}  # step -> sequence of its resolution, which waits for an earlier step of its group (V3)
    groups: list[list[int]] = []  # per completion its blocking steps not yet shown as resolved; the last is the newest batch
    signals: list[int] = []  # sequences of signals held back (V4, V5)
    receivers: list[int] = []  # positions of signals and applied updates that no completed normal task has seen


class RunState(Struct, omit_defaults=True):
    """One workflow run. Static facts first, then what changes.

    The memo is not here: it never changes, and the WorkflowStarted event and the run's row have it.
    """

    namespace: str
    workflow_id: str
    run_id: RunId
    workflow_type: str
    task_queue: str
    started_at: int
    run_number: int = 1  # in the chain of the workflow id
    payload_codec: str = "avro"  # of its arguments; results and what is left to the server are stored in it
    business_key: str | None = None
    compatibility: str | None = None  # build marker: only workers of that build get its tasks, None for any
    priority: int = 5
    fairness_key: str | None = None
    fairness_weight: int = 1
    # Bytes of the memo's JSON text, 0 for none. States written before hold the memo itself; programs of then refuse a number.
    memo_bytes: int | dict[str, Any] | bytes = msgspec.field(default=0, name="memo")
    search_attributes: dict[str, Any] = {}  # as they are now: an upsert merges into them
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None
    execution_deadline_at: int | None = None  # of the chain, moves on in continue-as-new
    run_deadline_at: int | None = None
    input_event: int = 2  # sequence of its WorkflowStarted: the home of arguments and memo

    status: RunStatus = "pending"
    closed_reason: ClosedReason | None = None  # None: open
    closed_at: int | None = None
    superseded: bool = False  # another run goes on in its place
    last_progress_at: int = 0  # when a workflow task was completed, or the run closed
    recorded_at: int = 0  # the time of the last event; recorded times never go back (`setback`)
    id_clock: int = 0  # time part of the last id it minted, in milliseconds
    last_sequence: int = 0  # how many events it has
    history_bytes: int = 0  # their size
    fan_out: int = 0  # the most blocking steps one completion had
    steps: int = 0  # the number of the last authored step
    command_sequence: int = 1  # the number of the last command that reached it; the start is 1

    task: WorkflowTask | None = None  # the open one, or the last
    next_context: Resume | None = None  # something happened that the open task does not show: the next one tells of it
    begun: bool = False  # a normal task was completed
    recheck: bool = False  # an update was applied while the wait was open: the next task looks at its predicate again
    wait: Wait | None = None  # the open condition wait
    signals: list[Signal] = []  # received and not applied, in order
    updates: dict[str, Update] = {}  # accepted and not closed, in order, by update id
    receivers: list[int] = []  # sequences of signals and applied updates that no completed normal task has seen
    children: dict[str, Child] = {}  # open child calls, by call id
    origin: Origin | None = None  # on a child: whose
    scheduled: ScheduledBy | None = None  # the start of a schedule that its chain goes back to
    standalone: Standalone | None = None  # on a host run: what for
    archived: bool = False
    duplicate_starts: int = 0  # starts that met this run
    activities: dict[str, Activity] = {}  # those without an outcome, and on a closed run those that may report, by task id
    timers: dict[str, Timer] = {}  # pending ones, by timer id
    batch: bytes = b""  # digest of the newest blocking batch, by which a repeated one is recognised (`actors.dialects.sdk04`)
    view: View = msgspec.field(default_factory=View)
    permits: dict[str, list[Permit]] = {}  # those of its leases under caps, by task id; replaced, never changed

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


class _Archived(Struct):
    archived: bool = False


_archived_decoder = msgspec.msgpack.Decoder(_Archived)


def is_archived(data: bytes) -> bool:
    """Whether a stored state is of an archived run; cheaper than `decode`."""
    return _archived_decoder.decode(zlib.decompress(data) if data[0] == _ZLIB_HEADER else data).archived


def decode(data: bytes) -> RunState:
    """A state from its stored form."""
    state = _decoder.decode(zlib.decompress(data) if data[0] == _ZLIB_HEADER else data)
    if not isinstance(state.memo_bytes, int):  # as it was before
        state.memo_bytes = len(opaque.text_of(state.memo_bytes))
    return state
