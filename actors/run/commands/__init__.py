"""What a run can be told: the commands of the pure core, already validated in shape by their sender.

Times are microseconds since the Unix epoch, durations are seconds. Contract: worker-protocol 4, 5, 7; engine-semantics 3 to 9.
Bytes are JSON text that is handed on without being understood, wherever they stand (`actors.run.opaque`).
"""

from __future__ import annotations

from actors.run.commands.base import Command
from actors.run.commands.control import (
    ArchiveRun,
    CancelRun,
    NoteDuplicateStart,
    ReadForQuery,
    ReadUpdate,
    RepairRun,
    SignalRun,
    StartRun,
    TerminateRun,
    UpdateRun,
)
from actors.run.commands.messages import ChildClosed, ChildRestarted, ParentClosed, StartChildRun, StartScheduledRun
from actors.run.commands.worker import (
    CheckLease,
    ClaimTask,
    CompleteActivity,
    CompleteWorkflowTask,
    FailActivity,
    FailWorkflowTask,
    HeartbeatActivity,
    HeartbeatWorkflowTask,
    ReadHistoryPage,
    ReleaseClaim,
    RereadClaim,
)
from actors.run.replies import Done


class WakeUp(Command[Done], frozen=True, tag="wake_up"):
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
    | CheckLease
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
    | StartScheduledRun
    | ChildRestarted
    | ChildClosed
    | ParentClosed
)
