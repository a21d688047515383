"""Which events tell of a failure, of what, and how it spread (engine-semantics 10.2)."""

from __future__ import annotations

# event type -> kind of the source, payload key of its id, how the failure spread
FAILURES: dict[str, tuple[str, str, str]] = {
    "WorkflowFailed": ("workflow_run", "workflow_run_id", "terminal"),
    "WorkflowTimedOut": ("workflow_run", "workflow_run_id", "timeout"),
    "WorkflowCancelled": ("workflow_run", "workflow_run_id", "cancelled"),
    "WorkflowTerminated": ("workflow_run", "workflow_run_id", "terminated"),
    "ActivityFailed": ("activity_execution", "activity_execution_id", "activity"),
    "ActivityTimedOut": ("activity_execution", "activity_execution_id", "timeout"),
    "ChildRunFailed": ("child_workflow_run", "child_workflow_run_id", "child"),
    "ChildRunCancelled": ("child_workflow_run", "child_workflow_run_id", "child"),
    "ChildRunTerminated": ("child_workflow_run", "child_workflow_run_id", "child"),
    "UpdateCompleted": ("workflow_update", "update_id", "update"),
}
