"""The types of events that a run records (contract engine-semantics 2.4, 2.5); `catalogue` says when, and with which keys."""

from __future__ import annotations

from typing import Literal

EventType = Literal[
    "StartAccepted",
    "StartRejected",
    "WorkflowStarted",
    "ScheduleTriggered",
    "WorkflowCompleted",
    "WorkflowFailed",
    "WorkflowTimedOut",
    "WorkflowContinuedAsNew",
    "CancelRequested",
    "WorkflowCancelled",
    "TerminateRequested",
    "WorkflowTerminated",
    "ParentClosePolicyApplied",
    "RepairRequested",
    "ArchiveRequested",
    "WorkflowArchived",
    "ActivityScheduled",
    "ActivityStarted",
    "ActivityHeartbeatRecorded",
    "ActivityRetryScheduled",
    "ActivityCompleted",
    "ActivityFailed",
    "ActivityTimedOut",
    "ActivityCancelled",
    "TimerScheduled",
    "TimerFired",
    "TimerCancelled",
    "ConditionWaitOpened",
    "ConditionWaitSatisfied",
    "ConditionWaitTimedOut",
    "SignalReceived",
    "UpdateAccepted",
    "UpdateRejected",
    "UpdateApplied",
    "UpdateCompleted",
    "ChildWorkflowScheduled",
    "ChildRunStarted",
    "ChildRunCompleted",
    "ChildRunFailed",
    "ChildRunCancelled",
    "ChildRunTerminated",
    "SideEffectRecorded",
    "VersionMarkerRecorded",
    "SearchAttributesUpserted",
]

# Those that resolve a step, by what they mean to a worker's view of history.
RESOLUTIONS: frozenset[EventType] = frozenset(
    {
        "ActivityCompleted",
        "ActivityFailed",
        "ActivityTimedOut",
        "ActivityCancelled",
        "TimerFired",
        "ChildRunCompleted",
        "ChildRunFailed",
        "ChildRunCancelled",
        "ChildRunTerminated",
    }
)
