"""What a run can be told: the commands of the pure core, already validated in shape by their sender.

Times are microseconds since the Unix epoch, durations are seconds. Contract: worker-protocol 4, 5, 7; engine-semantics 3 to 9.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Payload(Struct, frozen=True, array_like=True):
    """An opaque value: `blob` in `codec`, or a reference to external storage in place of the blob."""

    codec: str
    blob: str | None = None
    external_storage: dict[str, Any] | None = None

    def envelope(self) -> dict[str, Any]:
        """The wire form, contract worker-protocol 9.1 and 9.4."""
        if self.external_storage is not None:
            return {"codec": self.codec, "external_storage": self.external_storage}
        return {"codec": self.codec, "blob": self.blob}


class Command(Struct, tag_field="do", frozen=True):
    """Base of everything a run can be told."""


# -- control plane -----------------------------------------------------------------------------------------------------


class StartRun(Command, frozen=True, tag="start"):
    """Create the first run of a workflow id (control-plane 5.1). `run_id` comes from `ids.new_run_id`."""

    namespace: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str | None
    arguments: Payload
    payload_codec: str = "avro"
    business_key: str | None = None
    memo: dict[str, Any] = {}
    search_attributes: dict[str, Any] = {}
    duplicate_policy: str = "fail"
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None
    priority: int = 5
    fairness_key: str | None = None
    fairness_weight: int = 1
    compatibility: str | None = None


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


class CompleteWorkflow(Step, frozen=True, tag="complete_workflow"):
    result: Payload | None = None


class FailWorkflow(Step, frozen=True, tag="fail_workflow"):
    message: str
    exception_type: str | None = None
    exception_class: str | None = None
    non_retryable: bool = False
    exception: dict[str, Any] | None = None


Steps = ScheduleActivity | StartTimer | CompleteWorkflow | FailWorkflow

TERMINAL_STEPS = (CompleteWorkflow, FailWorkflow)


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
    code: int | str | None = None
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
)
