"""What one transition batch of one run writes: plain rows, no decisions.

The fields of the rows are the columns of their tables (`store.columns`): statements and arguments are made of them.

Times are microseconds since the Unix epoch. `bytes` columns hold serialized data the store never looks into.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from store.columns import Int4, Int8


@dataclass(slots=True)
class ReadyTaskRow:
    """A row of `ready_tasks`: a task any eligible worker may claim from `available_at` on."""

    task_id: str
    shard: Int4  # shard of (namespace, queue, kind), where its QueueActor lives
    namespace: str
    queue: str
    kind: str  # "workflow" or "activity"
    type_name: str  # workflow or activity type, for routing
    compatibility: str | None
    priority: Int4
    fairness_key: str | None
    fairness_weight: Int4
    available_at: Int8


@dataclass(slots=True)
class MessageRow:
    """A run message: a row of the table `mailbox` (its older name, which stays), deleted by the commit that applies it."""

    message_id: str
    shard: Int4  # shard of the receiver
    namespace: str
    workflow_id: str
    run_id: str | None
    body: bytes


@dataclass(slots=True)
class UpdateRequest:
    """A row of `update_requests`: which update a caller's request id stands for, per workflow id."""

    workflow_id: str
    request_id: str
    update_id: str


@dataclass(slots=True)
class AppliedCommand:
    """A row of `applied_commands`: the command with this key must not have been applied before.

    `answer` None: this commit does not apply it either, and writes no row.
    """

    key: str
    answer: bytes | None


@dataclass(slots=True)
class PermitRow:
    """A row of `admission_permits`: the place `number` in `scope`, which nobody may have."""

    scope: str
    number: Int4
    run_id: str
    task_id: str
    taken_at: Int8


@dataclass(slots=True)
class RunRow:
    """The mutable columns of a run, always written whole."""

    status: str
    closed_reason: str | None
    closed_at: Int8 | None
    last_progress_at: Int8
    wake_at: Int8 | None
    last_sequence: Int8
    published_sequence: Int8
    state: bytes
    search_attributes: bytes | None = None  # serialized JSON object; None leaves the stored one


@dataclass(slots=True)
class RunIdentity:
    """The columns written once, when a run is created."""

    run_key: str  # the 15 characters of its ids that name the run (actors.run.ids)
    shard: Int4
    namespace: str
    workflow_id: str
    run_number: Int4
    workflow_type: str
    task_queue: str | None
    business_key: str | None
    compatibility: str | None
    started_at: Int8
    memo: bytes  # serialized JSON object
    search_attributes: bytes


@dataclass(slots=True)
class WriteSet:
    """Everything one run changes in one commit: stored whole, or not at all.

    `expected_version` 0 creates the run (then `identity` is set); otherwise the row's version must equal it. The new version is
    `expected_version + 1`. `new_instance` also inserts the workflow id, which must be free in all namespaces. `successor` is a
    run created by this one in the same transition (continue-as-new); it becomes the current run of the workflow id.
    """

    run_id: str
    expected_version: int
    row: RunRow
    identity: RunIdentity | None = None
    new_instance: bool = False
    first_sequence: int = 0  # of the history batch; 0: no events
    history: bytes = b""  # one serialized event per line, "\n" between
    ready: list[ReadyTaskRow] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)  # task ids whose ready row goes
    sent: list[MessageRow] = field(default_factory=list)
    received: list[str] = field(default_factory=list)  # ids of messages applied by this commit
    requests: list[UpdateRequest] = field(default_factory=list)
    applied: list[AppliedCommand] = field(default_factory=list)
    permits: list[PermitRow] = field(default_factory=list)  # taken by leases of this commit
    freed: list[tuple[str, int]] = field(default_factory=list)  # scopes and numbers that leases of this run had until now
    successor: WriteSet | None = None
    leases: bytes | None = None  # the note of the leases it has granted, None when there are none

    @property
    def attributes_text(self) -> str | None:
        """The search attributes to store, as the driver takes them; None leaves the stored ones."""
        attributes = self.row.search_attributes
        if attributes is None and self.identity is not None and not self.expected_version:
            attributes = self.identity.search_attributes
        return None if attributes is None else attributes.decode()
