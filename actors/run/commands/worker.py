"""What workers and polls tell a run: leases, workflow tasks, activity tasks (worker-protocol 4, 7)."""

from __future__ import annotations

from typing import Any

from actors.run.commands.base import Command, R_co
from actors.run.commands.steps import WorkflowCommand
from actors.run.replies import (
    ActivityProgress,
    ActivityRecorded,
    Done,
    HistoryPage,
    NotDue,
    TaskGrant,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
    WorkflowTaskRenewed,
)
from actors.run.values import Failure, Payload, Permit, WorkerIdentity


class ClaimTask(Command[TaskGrant | NotDue], frozen=True, tag="claim", omit_defaults=True):
    """Lease one ready workflow or activity task to a worker (worker-protocol 4.2, 7.1).

    `permits`: what the lease takes of the caps of its queue (operations 2.4).
    """

    task_id: str
    worker: WorkerIdentity
    history_page_size: int = 500
    permits: tuple[Permit, ...] = ()


class RereadClaim(Command[TaskGrant], frozen=True, tag="reread"):
    """Answer a repeated poll with the lease it already has (worker-protocol 4.3): nothing changes."""

    task_id: str
    worker: WorkerIdentity
    attempt: int
    history_page_size: int = 500


ANY_ATTEMPT = 0


class ReleaseClaim(Command[Done], frozen=True, tag="release"):
    """Hand a lease back whose poll nobody waits for any more; `attempt` fences it.

    `ANY_ATTEMPT`: whichever this worker has, for a claim whose outcome is unknown.
    """

    task_id: str
    worker_id: str
    attempt: int


class WorkflowTaskGuard(Command[R_co], frozen=True):
    """The fence every workflow-task call carries (worker-protocol 4.7)."""

    task_id: str
    lease_owner: str
    attempt: int


class CompleteWorkflowTask(WorkflowTaskGuard[WorkflowTaskCompleted], frozen=True, tag="complete_workflow_task"):
    steps: list[WorkflowCommand]


class FailWorkflowTask(WorkflowTaskGuard[WorkflowTaskFailed], frozen=True, tag="fail_workflow_task"):
    message: str
    exception_type: str | None = None
    stack_trace: str | None = None


class HeartbeatWorkflowTask(WorkflowTaskGuard[WorkflowTaskRenewed], frozen=True, tag="heartbeat_workflow_task"):
    pass


class CheckLease(WorkflowTaskGuard[Done], frozen=True, tag="check_lease"):
    """Whether the caller has the lease, and nothing else: what is wrong with its call is told to the owner alone."""


class ReadHistoryPage(WorkflowTaskGuard[HistoryPage], frozen=True, tag="read_history_page"):
    """`after`: position of the last event delivered; 0 from the start (worker-protocol 4.6)."""

    after: int
    page_size: int = 500


class ActivityGuard(Command[R_co], frozen=True):
    """The fence every activity-task call carries (worker-protocol 7.2)."""

    task_id: str
    attempt_id: str
    lease_owner: str


class CompleteActivity(ActivityGuard[ActivityRecorded], frozen=True, tag="complete_activity"):
    result: Payload | None = None


class FailActivity(ActivityGuard[ActivityRecorded], frozen=True, tag="fail_activity"):
    failure: Failure


class HeartbeatActivity(ActivityGuard[ActivityProgress], frozen=True, tag="heartbeat_activity"):
    """`progress`: any of message, current, total, unit, details (worker-protocol 7.5)."""

    progress: dict[str, Any] = {}
