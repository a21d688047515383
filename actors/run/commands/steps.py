"""The workflow commands inside one workflow-task completion (worker-protocol 5.2)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from actors.run.values import Payload, RetryPolicy


class WorkflowCommandBase(Struct, tag_field="type", frozen=True):
    """Base of the commands inside one workflow-task completion (worker-protocol 5.2)."""


class ScheduleActivity(WorkflowCommandBase, frozen=True, tag="schedule_activity"):
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


class StartTimer(WorkflowCommandBase, frozen=True, tag="start_timer"):
    delay_seconds: int


class StartChild(WorkflowCommandBase, frozen=True, tag="start_child_workflow"):
    workflow_type: str
    arguments: Payload | None = None
    queue: str | None = None
    connection: str | None = None
    parent_close_policy: str = "abandon"
    retry_policy: RetryPolicy | None = None
    execution_timeout_seconds: int | None = None
    run_timeout_seconds: int | None = None


class OpenConditionWait(WorkflowCommandBase, frozen=True, tag="open_condition_wait"):
    condition_key: str | None = None
    condition_definition_fingerprint: str | None = None
    timeout_seconds: int | None = None


class RecordSideEffect(WorkflowCommandBase, frozen=True, tag="record_side_effect"):
    result: Payload


class RecordVersionMarker(WorkflowCommandBase, frozen=True, tag="record_version_marker"):
    change_id: str
    version: int
    min_supported: int
    max_supported: int


class UpsertSearchAttributes(WorkflowCommandBase, frozen=True, tag="upsert_search_attributes"):
    """`attributes`: the change, normalised (worker-protocol 5.8); None deletes a key."""

    attributes: dict[str, Any]
    attribute_types: dict[str, str] = {}


class CompleteUpdate(WorkflowCommandBase, frozen=True, tag="complete_update"):
    update_id: str
    result: Payload | None = None


class FailUpdate(WorkflowCommandBase, frozen=True, tag="fail_update"):
    update_id: str
    message: str
    exception_type: str | None = None
    exception_class: str | None = None
    non_retryable: bool = False
    exception: dict[str, Any] | None = None


class ContinueAsNew(WorkflowCommandBase, frozen=True, tag="continue_as_new"):
    workflow_type: str | None = None
    arguments: Payload | None = None
    queue: str | None = None


class CompleteWorkflow(WorkflowCommandBase, frozen=True, tag="complete_workflow"):
    result: Payload | None = None


class FailWorkflow(WorkflowCommandBase, frozen=True, tag="fail_workflow"):
    message: str
    exception_type: str | None = None
    exception_class: str | None = None
    non_retryable: bool = False
    exception: dict[str, Any] | None = None


WorkflowCommand = (
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
