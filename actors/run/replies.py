"""What a run answers. No HTTP words here: the API gives each reply its status and envelope.

Times are microseconds since the Unix epoch. Contract: worker-protocol 4 and 7, control-plane 5.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from actors.run.values import FIRST_TASK, Payload, Permit, Resume
from actors.run.words import ClosedReason, Reason, Rejection, RunStatus, StartOutcome, UpdateState


class Reply(Struct, tag_field="is", frozen=True):
    """Base of every answer."""


TOO_EARLY: Reason = "too_early"  # a message that overtook one before it: it is refused for now and stays in the mailbox


class Refused(Reply, frozen=True, tag="refused"):
    """The command was not applied and nothing changed.

    `reason` is the contract's word (`task_not_found`, `lease_expired`, `invalid_commands`, ...), `detail` its extra fields.
    """

    reason: Reason
    detail: dict[str, Any] = {}


class NotDue(Reply, frozen=True, tag="not_due"):
    """The task can be claimed only from `available_at` on."""

    available_at: int


class StandaloneStart(Struct, frozen=True, array_like=True):
    """What the answer to the start of a standalone activity says beside its run. Times in microseconds."""

    execution_id: str
    activity_type: str
    activity_class: str
    task_queue: str
    started_at: int
    schedule_to_start_at: int | None
    schedule_to_close_at: int | None


class Started(Reply, frozen=True, tag="started"):
    """`outcome`: `started_new`, `returned_existing_active` or `rejected_duplicate` (control-plane 5.1).

    Refusals come as `Refused`: `workflow_type_mismatch`, `workflow_id_reserved_in_namespace`.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    namespace: str
    status: RunStatus
    business_key: str | None
    payload_codec: str
    outcome: StartOutcome
    activity: StandaloneStart | None = None  # of a host run


class WorkflowTaskGrant(Reply, frozen=True, tag="workflow_task"):
    """A leased workflow task with the first page of its history (worker-protocol 4.4).

    `history_events` is a JSON array of `history_count` events, serialized; `next_after` is the position the next page starts
    behind, None when everything was delivered. `resume` tells why the task was created. `budget` holds
    the history budget hints (engine-semantics 11.2).
    """

    task_id: str
    workflow_id: str
    run_id: str
    workflow_task_attempt: int
    workflow_type: str
    payload_codec: str
    arguments: bytes
    run_status: RunStatus
    last_history_sequence: int
    history_events: bytes
    history_count: int
    next_after: int | None
    task_queue: str
    compatibility: str | None
    lease_owner: str
    lease_expires_at: int
    resume: Resume = FIRST_TASK
    budget: dict[str, Any] = {}


class ActivityTaskGrant(Reply, frozen=True, tag="activity_task"):
    """A leased activity attempt (worker-protocol 7.1). `arguments` is the serialized envelope, b"" when there are none.

    `deadlines` maps `schedule_to_start`, `start_to_close`, `schedule_to_close`, `heartbeat` to times in microseconds.
    """

    task_id: str
    workflow_id: str
    run_id: str
    activity_execution_id: str
    activity_attempt_id: str
    attempt_number: int
    activity_type: str
    payload_codec: str
    arguments: bytes
    retry_policy: dict[str, Any] | None
    task_queue: str
    connection: str | None
    lease_owner: str
    lease_expires_at: int
    deadlines: dict[str, int] = {}


TaskGrant = WorkflowTaskGrant | ActivityTaskGrant


class WorkflowTaskCompleted(Reply, frozen=True, tag="workflow_task_completed"):
    run_id: str
    run_status: RunStatus
    created_task_ids: list[str]


class WorkflowTaskFailed(Reply, frozen=True, tag="workflow_task_failed"):
    run_id: str


class WorkflowTaskRenewed(Reply, frozen=True, tag="workflow_task_renewed"):
    lease_expires_at: int
    run_status: RunStatus


class HistoryPage(Reply, frozen=True, tag="history_page"):
    """`events`: serialized JSON array of `count` events (worker-protocol 4.6)."""

    events: bytes
    count: int
    total: int
    next_after: int | None


class ActivityRecorded(Reply, frozen=True, tag="activity_recorded"):
    """The outcome counts; `next_task_id` is the workflow task that sees it, or the retry's activity task, or None."""

    next_task_id: str | None


class ActivityProgress(Reply, frozen=True, tag="activity_progress"):
    """Answer of an activity heartbeat (worker-protocol 7.5). `reason` is None when the activity may go on."""

    heartbeat_recorded: bool
    can_continue: bool
    cancel_requested: bool
    reason: str | None
    lease_expires_at: int | None
    last_heartbeat_at: int | None
    run_closed_reason: ClosedReason | None = None
    run_closed_at: int | None = None


class CommandAnswered(Reply, frozen=True, tag="command"):
    """What became of a command of the control plane (control-plane 5.7).

    `outcome` and `rejection` are the contract's words; an accepted command has no `rejection`. `run_open` False with a
    `rejection` of `run_not_active` lets the caller look for a newer run.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    command_id: str
    command_sequence: int
    outcome: str | None
    rejection: Rejection | None = None
    reason: str | None = None
    update_id: str | None = None


class UpdateStatus(Reply, frozen=True, tag="update_status"):
    """An update as it stands (control-plane 5.9). Times in microseconds."""

    update_id: str
    name: str
    status: UpdateState
    workflow_id: str
    run_id: str
    workflow_type: str
    command_id: str
    command_sequence: int
    accepted_at: int
    step: int | None = None
    result: Payload | None = None
    failure_id: str | None = None
    failure_message: str | None = None
    closed_at: int | None = None
    repeated: bool = False  # an earlier command made it: this one only names it by its request id


class QueryView(Reply, frozen=True, tag="query_view"):
    """A run as a query worker sees it (worker-protocol 8.1). `arguments` and `history_events` are serialized."""

    workflow_id: str
    run_id: str
    workflow_type: str
    payload_codec: str
    arguments: bytes
    run_status: RunStatus
    task_queue: str
    compatibility: str | None
    last_history_sequence: int
    history_events: bytes


class Done(Reply, frozen=True, tag="done"):
    """Nothing to tell (release, wake-up)."""


RunReply = (
    Refused
    | NotDue
    | Started
    | WorkflowTaskGrant
    | ActivityTaskGrant
    | WorkflowTaskCompleted
    | WorkflowTaskFailed
    | WorkflowTaskRenewed
    | HistoryPage
    | ActivityRecorded
    | ActivityProgress
    | CommandAnswered
    | UpdateStatus
    | QueryView
    | Done
)


_PERMIT_TAKEN: Reason = "permit_taken"


def permit_taken(permits: Iterable[Permit]) -> Refused:
    """The refusal of a claim because somebody else has these places; it may be made again under other permits."""
    return Refused(_PERMIT_TAKEN, {"places": [[permit.scope, permit.number] for permit in permits]})


def taken_permits(reply: RunReply) -> list[Permit] | None:
    """The places a claim was refused for, None when it was not refused for that."""
    if not isinstance(reply, Refused) or reply.reason != _PERMIT_TAKEN:
        return None
    return [Permit(scope, number) for scope, number in reply.detail["places"]]
