"""What a run can be told: the commands of the pure core, already validated in shape by their sender.

Times are microseconds since the Unix epoch, durations are seconds. Contract: worker-protocol 4, 5, 7; engine-semantics 3 to 9.
Bytes are JSON text that is handed on without being understood, wherever they stand (`actors.run.opaque`).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Payload(Struct, frozen=True, array_like=True):
    """An opaque value: `blob` in `codec`, or a reference to external storage in place of the blob.

    `plain`: the JSON text of the same value, where the sender left the codec to the run (worker-protocol 9.2).
    """

    codec: str
    blob: str | None = None
    external_storage: dict[str, Any] | None = None
    plain: str | None = None

    def envelope(self) -> dict[str, Any]:
        """The wire form, contract worker-protocol 9.1 and 9.4."""
        if self.external_storage is not None:
            return {"codec": self.codec, "external_storage": self.external_storage}
        return {"codec": self.codec, "blob": self.blob}


class Command(Struct, tag_field="do", frozen=True):
    """Base of everything a run can be told."""


# -- control plane -----------------------------------------------------------------------------------------------------


class StartRun(Command, frozen=True, tag="start"):
    """Create the first run of a workflow id (control-plane 5.1). `run_id` comes from `ids.new_run_id`.

    `attribution`: who caused it, for the command's snapshot in history (configuration-and-security 5); none for children.
    """

    namespace: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str | None
    arguments: Payload
    payload_codec: str = "avro"
    business_key: str | None = None
    memo: dict[str, Any] | bytes = {}
    search_attributes: dict[str, Any] = {}
    duplicate_policy: str = "fail"
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None
    priority: int = 5
    fairness_key: str | None = None
    fairness_weight: int = 1
    compatibility: str | None = None
    attribution: dict[str, Any] | None = None


class NoteDuplicateStart(Command, frozen=True, tag="note_duplicate_start"):
    """A start met this run as the instance's current one: record it and answer by the duplicate policy."""

    start: StartRun


# -- leases ------------------------------------------------------------------------------------------------------------


class WorkerIdentity(Struct, frozen=True, array_like=True):
    """Who polls. `dialect` names the client generation (`actors.dialects`), "" for plain history."""

    worker_id: str
    dialect: str = ""


class ClaimTask(Command, frozen=True, tag="claim"):
    """Lease one ready workflow or activity task to a worker (worker-protocol 4.2, 7.1)."""

    task_id: str
    worker: WorkerIdentity
    history_page_size: int = 500


class RereadClaim(Command, frozen=True, tag="reread"):
    """Answer a repeated poll with the lease it already has (worker-protocol 4.3): nothing changes."""

    task_id: str
    worker: WorkerIdentity
    attempt: int
    history_page_size: int = 500


ANY_ATTEMPT = 0


class ReleaseClaim(Command, frozen=True, tag="release"):
    """Hand a lease back whose poll nobody waits for any more; `attempt` fences it.

    `ANY_ATTEMPT`: whichever this worker has, for a claim whose outcome is unknown.
    """

    task_id: str
    worker_id: str
    attempt: int


# -- workflow tasks ----------------------------------------------------------------------------------------------------


class RetryPolicy(Struct, frozen=True, omit_defaults=True):
    """worker-protocol 5.1; `backoff_seconds[min(k-1, len-1)]` after attempt k."""

    max_attempts: int = 1
    backoff_seconds: list[int] = []
    non_retryable_error_types: list[str] = []


class Step(Struct, tag_field="type", frozen=True):
    """Base of the commands inside one workflow-task completion (worker-protocol 5.2)."""


class ScheduleActivity(Step, frozen=True, tag="schedule_activity"):
    activity_type: str
    arguments: Payload | None = None
    queue: str | None = None
    connection: str | None = None
    retry_policy: RetryPolicy | None = None
    start_to_close_timeout: int | None = None
    schedule_to_start_timeout: int | None = None
    schedule_to_close_timeout: int | None = None
    heartbeat_timeout: int | None = None
    priority: int | None = None
    fairness_key: str | None = None
    fairness_weight: int | None = None


class StartTimer(Step, frozen=True, tag="start_timer"):
    delay_seconds: int


class StartChild(Step, frozen=True, tag="start_child_workflow"):
    workflow_type: str
    arguments: Payload | None = None
    queue: str | None = None
    connection: str | None = None
    parent_close_policy: str = "abandon"
    retry_policy: RetryPolicy | None = None
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None


class OpenConditionWait(Step, frozen=True, tag="open_condition_wait"):
    condition_key: str | None = None
    condition_definition_fingerprint: str | None = None
    timeout_seconds: int | None = None


class RecordSideEffect(Step, frozen=True, tag="record_side_effect"):
    result: Payload


class RecordVersionMarker(Step, frozen=True, tag="record_version_marker"):
    change_id: str
    version: int
    min_supported: int
    max_supported: int


class UpsertSearchAttributes(Step, frozen=True, tag="upsert_search_attributes"):
    """`attributes`: the change, normalised (worker-protocol 5.8); None deletes a key."""

    attributes: dict[str, Any]
    attribute_types: dict[str, str] = {}


class CompleteUpdate(Step, frozen=True, tag="complete_update"):
    update_id: str
    result: Payload | None = None


class FailUpdate(Step, frozen=True, tag="fail_update"):
    update_id: str
    message: str
    exception_type: str | None = None
    exception_class: str | None = None
    non_retryable: bool = False
    exception: dict[str, Any] | None = None


class ContinueAsNew(Step, frozen=True, tag="continue_as_new"):
    workflow_type: str | None = None
    arguments: Payload | None = None
    queue: str | None = None


class CompleteWorkflow(Step, frozen=True, tag="complete_workflow"):
    result: Payload | None = None


class FailWorkflow(Step, frozen=True, tag="fail_workflow"):
    message: str
    exception_type: str | None = None
    exception_class: str | None = None
    non_retryable: bool = False
    exception: dict[str, Any] | None = None


Steps = (
    ScheduleActivity
    | StartTimer
    | StartChild
    | OpenConditionWait
    | RecordSideEffect
    | RecordVersionMarker
    | UpsertSearchAttributes
    | CompleteUpdate
    | FailUpdate
    | CompleteWorkflow
    | FailWorkflow
    | ContinueAsNew
)

TERMINAL_STEPS = (CompleteWorkflow, FailWorkflow, ContinueAsNew)

# The steps of a parallel list: resolved later, one by one, shown to older workers in step order.
GROUPED_STEPS = (ScheduleActivity, StartTimer, StartChild)


class WorkflowTaskGuard(Command, frozen=True):
    """The fence every workflow-task call carries (worker-protocol 4.7)."""

    task_id: str
    lease_owner: str
    attempt: int


class CompleteWorkflowTask(WorkflowTaskGuard, frozen=True, tag="complete_workflow_task"):
    steps: list[Steps]


class FailWorkflowTask(WorkflowTaskGuard, frozen=True, tag="fail_workflow_task"):
    message: str
    exception_type: str | None = None
    stack_trace: str | None = None


class HeartbeatWorkflowTask(WorkflowTaskGuard, frozen=True, tag="heartbeat_workflow_task"):
    pass


class ReadHistoryPage(WorkflowTaskGuard, frozen=True, tag="read_history_page"):
    """`after`: position of the last event delivered; 0 from the start (worker-protocol 4.6)."""

    after: int
    page_size: int = 500


# -- activity tasks ----------------------------------------------------------------------------------------------------


class ActivityGuard(Command, frozen=True):
    """The fence every activity-task call carries (worker-protocol 7.2)."""

    task_id: str
    attempt_id: str
    lease_owner: str


class CompleteActivity(ActivityGuard, frozen=True, tag="complete_activity"):
    result: Payload | None = None


class Failure(Struct, frozen=True, omit_defaults=True):
    """worker-protocol 7.4. `details` is kept as sent: a blob with its codec, or plain JSON."""

    message: str
    type: str | None = None
    class_: str | None = None
    code: Any = None  # a text, or an integer of any size as JSON text
    stack_trace: str | None = None
    non_retryable: bool = False
    kind: str | None = None
    timeout_type: str | None = None
    details: Any = None
    details_payload_codec: str | None = None


class FailActivity(ActivityGuard, frozen=True, tag="fail_activity"):
    failure: Failure


class HeartbeatActivity(ActivityGuard, frozen=True, tag="heartbeat_activity"):
    """`progress`: any of message, current, total, unit, details (worker-protocol 7.5)."""

    progress: dict[str, Any] = {}


# -- commands from outside ---------------------------------------------------------------------------------------------


class External(Command, frozen=True):
    """A command of the control plane to an existing run (control-plane 5.7 to 5.12).

    `to_run`: addressed to this run and not to the instance. `request_id` makes updates idempotent. `attribution`: who
    caused it, for the command's snapshot in history (configuration-and-security 5).
    """

    request_id: str | None = None
    to_run: bool = False
    attribution: dict[str, Any] | None = None


class SignalRun(External, frozen=True, tag="signal"):
    name: str = ""
    arguments: Payload | None = None


class UpdateRun(External, frozen=True, tag="update"):
    name: str = ""
    arguments: Payload | None = None


class CancelRun(External, frozen=True, tag="cancel"):
    reason: str | None = None


class TerminateRun(External, frozen=True, tag="terminate"):
    reason: str | None = None


class RepairRun(External, frozen=True, tag="repair"):
    pass


class ArchiveRun(External, frozen=True, tag="archive"):
    reason: str | None = None


# What the control plane may command a run to do, an update excepted: that has an answer of its own.
Commanded = SignalRun | CancelRun | TerminateRun | RepairRun | ArchiveRun


class ReadUpdate(Command, frozen=True, tag="read_update"):
    """The present state of an update this run accepted."""

    update_id: str


class ReadForQuery(Command, frozen=True, tag="read_for_query"):
    """The run as a query of a worker of `dialect` must see it: every accepted signal included (engine-semantics 7.4, V6)."""

    dialect: str = ""


# -- messages between runs ---------------------------------------------------------------------------------------------


class ChildOrigin(Struct, frozen=True):
    """Where a child came from and what its parent wants to know (engine-semantics 8.1)."""

    workflow_id: str
    run_id: str
    step: int
    child_call_id: str
    workflow_link_id: str


class StartChildRun(Command, frozen=True, tag="start_child"):
    """Parent to child: begin. `start.run_id` was chosen by the parent."""

    start: StartRun
    origin: ChildOrigin
    retry_policy: RetryPolicy | None = None
    retry_snapshot: dict[str, Any] | None = None
    timeout_snapshot: dict[str, Any] | None = None


class ChildRestarted(Command, frozen=True, tag="child_restarted"):
    """Child to parent: another run of the same call began (continued as new, or retried after a failure)."""

    child_call_id: str
    run_id: str
    run_number: int
    workflow_type: str
    workflow_link_id: str
    execution_deadline_at: int | None
    run_deadline_at: int | None
    retry_attempt: int | None = None
    retry_of_run_id: str | None = None
    retry_backoff_seconds: int | None = None
    retry_policy: dict[str, Any] | None = None
    timeout_policy: dict[str, Any] | None = None
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None


class ChildClosed(Command, frozen=True, tag="child_closed"):
    """Child to parent: the last run of the call is closed. `failure` holds the exception keys of its ending."""

    child_call_id: str
    run_id: str
    run_number: int
    workflow_type: str
    status: str
    closed_reason: str
    closed_at: int
    result: Payload | None = None
    payload_codec: str = "avro"
    failure: dict[str, Any] = {}


class ParentClosed(Command, frozen=True, tag="parent_closed"):
    """Parent to child: its close policy applies. `policy` is `terminate` or `request_cancel`."""

    policy: str
    reason: str


Mailed = StartChildRun | ChildRestarted | ChildClosed | ParentClosed


# -- time --------------------------------------------------------------------------------------------------------------


class WakeUp(Command, frozen=True, tag="wake_up"):
    """A deadline of the run may have passed: enforce every one that has."""


RunCommand = (
    StartRun
    | NoteDuplicateStart
    | ClaimTask
    | RereadClaim
    | ReleaseClaim
    | CompleteWorkflowTask
    | FailWorkflowTask
    | HeartbeatWorkflowTask
    | ReadHistoryPage
    | CompleteActivity
    | FailActivity
    | HeartbeatActivity
    | WakeUp
    | SignalRun
    | UpdateRun
    | CancelRun
    | TerminateRun
    | RepairRun
    | ArchiveRun
    | ReadUpdate
    | ReadForQuery
    | StartChildRun
    | ChildRestarted
    | ChildClosed
    | ParentClosed
)
