"""The events a run records and the keys of their payloads: the source of docs/events.md, which `make docs` makes.

Tests of the core refuse an event or a key that does not stand here (`tests/core/conftest.py`), and `tests/docs/test_events.py`
one that no example records. Rules and order: contract engine-semantics 2.4, 2.5.
"""

from __future__ import annotations

from typing import NamedTuple

from actors.run.events.types import EventType


class Event(NamedTuple):
    """One event type: when it is recorded, and the keys its payload may have."""

    name: EventType
    when: str
    keys: tuple[str, ...]


def _event(name: EventType, when: str, keys: str) -> Event:
    return Event(name, when, tuple(keys.split()))


GROUPS: dict[str, list[Event]] = {
    "Start and end of a run": [
        _event(
            "StartAccepted",
            "a start created this run, or was answered with it (`use-existing`)",
            "business_key command memo outcome search_attributes workflow_class workflow_command_id workflow_instance_id "
            "workflow_run_id workflow_type",
        ),
        _event(
            "StartRejected",
            "a start was refused because this run has the workflow id",
            "business_key command memo outcome rejection_reason search_attributes workflow_class workflow_command_id "
            "workflow_instance_id workflow_run_id workflow_type",
        ),
        _event(
            "WorkflowStarted",
            "the first event of what the run itself does: every run, also children, continued runs and retries of children",
            "arguments business_key child_call_id continued_from_run_id execution_deadline_at execution_timeout_seconds "
            "memo parent_sequence parent_workflow_instance_id parent_workflow_run_id payload_codec retry_attempt "
            "retry_of_child_workflow_run_id retry_policy run_deadline_at run_timeout_seconds search_attributes task_queue "
            "timeout_policy timestamp workflow_class workflow_command_id workflow_id workflow_instance_id "
            "workflow_link_id workflow_run_id workflow_type",
        ),
        _event(
            "ScheduleTriggered",
            "a schedule started this run: right behind its WorkflowStarted",
            "cron_expression occurrence_time overlap_policy schedule_id schedule_ulid timezone trigger_number",
        ),
        _event(
            "WorkflowCompleted",
            "the workflow returned",
            "output payload_codec",
        ),
        _event(
            "WorkflowFailed",
            "the workflow failed, timed out or broke a limit",
            "exception exception_class exception_type failure_category failure_id message non_retryable source_id source_kind",
        ),
        _event(
            "WorkflowTimedOut",
            "a run or execution deadline passed",
            "exception_class execution_deadline_at failure_category failure_id message run_deadline_at timeout_kind",
        ),
        _event(
            "WorkflowContinuedAsNew",
            "the run ended and its successor goes on",
            "closed_reason continued_to_run_id continued_to_run_number sequence workflow_link_id",
        ),
        _event(
            "CancelRequested",
            "a cancel was accepted",
            "command command_type reason workflow_command_id workflow_instance_id workflow_run_id",
        ),
        _event(
            "WorkflowCancelled",
            "right behind it",
            "closed_reason exception_class failure_category failure_id message reason workflow_command_id "
            "workflow_instance_id workflow_run_id",
        ),
        _event(
            "TerminateRequested",
            "a terminate was accepted",
            "command command_type reason workflow_command_id workflow_instance_id workflow_run_id",
        ),
        _event(
            "WorkflowTerminated",
            "right behind it",
            "closed_reason exception_class failure_category failure_id message reason workflow_command_id "
            "workflow_instance_id workflow_run_id",
        ),
        _event(
            "ParentClosePolicyApplied",
            "the run closed and an open child was dealt with",
            "child_instance_id child_run_id policy reason",
        ),
        _event(
            "RepairRequested",
            "a repair was accepted, or an expired lease was recovered",
            "command command_type liveness_state outcome task_id task_type wait_kind workflow_command_id "
            "workflow_instance_id workflow_run_id",
        ),
        _event(
            "ArchiveRequested",
            "an archive of the closed run was accepted",
            "command command_type outcome reason workflow_command_id workflow_instance_id workflow_run_id",
        ),
        _event(
            "WorkflowArchived",
            "the first of them",
            "archive_command_id reason workflow_command_id workflow_instance_id workflow_run_id",
        ),
    ],
    "Activities": [
        _event(
            "ActivityScheduled",
            "a worker asked for an activity",
            "activity activity_class activity_execution_id activity_type sequence",
        ),
        _event(
            "ActivityStarted",
            "a worker took an attempt",
            "activity_attempt_id activity_class activity_execution_id activity_type attempt_number sequence",
        ),
        _event(
            "ActivityHeartbeatRecorded",
            "a heartbeat of an attempt",
            "activity_attempt_id activity_class activity_execution_id activity_type attempt_number heartbeat_at "
            "lease_expires_at progress sequence",
        ),
        _event(
            "ActivityRetryScheduled",
            "an attempt failed or timed out and another one follows",
            "activity_attempt_id activity_class activity_execution_id activity_type code exception exception_class "
            "exception_type max_attempts message retry_after_attempt retry_after_attempt_id retry_available_at "
            "retry_backoff_seconds retry_of_task_id retry_policy retry_reason retry_task_id sequence timeout_kind",
        ),
        _event(
            "ActivityCompleted",
            "the result",
            "activity_attempt_id activity_class activity_execution_id activity_type attempt_number payload_codec result "
            "sequence",
        ),
        _event(
            "ActivityFailed",
            "the final failure",
            "activity activity_attempt_id activity_class activity_execution_id activity_type attempt_number code "
            "exception exception_class exception_type failure_category failure_id message non_retryable sequence "
            "structural_limit_configured structural_limit_kind structural_limit_value",
        ),
        _event(
            "ActivityTimedOut",
            "a deadline passed and no attempt is left",
            "activity activity_attempt_id activity_class activity_execution_id activity_type attempt_number "
            "close_deadline_at code exception exception_class failure_category failure_id heartbeat_deadline_at message "
            "non_retryable schedule_deadline_at schedule_to_close_deadline_at sequence timeout_kind",
        ),
        _event(
            "ActivityCancelled",
            "the run ended first",
            "activity_attempt_id activity_class activity_execution_id activity_type attempt_number cancelled_at sequence "
            "workflow_command_id",
        ),
    ],
    "Timers and waits": [
        _event(
            "TimerScheduled",
            "a timer was started, or a wait with a timeout opened",
            "condition_definition_fingerprint condition_key condition_wait_id delay_seconds fire_at sequence timer_id "
            "timer_kind",
        ),
        _event(
            "TimerFired",
            "its time came",
            "condition_definition_fingerprint condition_key condition_wait_id delay_seconds fire_at fired_at sequence "
            "timer_id timer_kind",
        ),
        _event(
            "TimerCancelled",
            "it is not needed any more",
            "cancelled_at condition_definition_fingerprint condition_key condition_wait_id delay_seconds fire_at sequence "
            "timer_id timer_kind",
        ),
        _event(
            "ConditionWaitOpened",
            "the workflow waits for a condition",
            "condition_definition_fingerprint condition_key condition_wait_id sequence timeout_seconds",
        ),
        _event(
            "ConditionWaitSatisfied",
            "the workflow went past the wait",
            "condition_definition_fingerprint condition_key condition_wait_id sequence signal_name signal_wait_id "
            "timeout_seconds timer_id workflow_signal_id",
        ),
        _event(
            "ConditionWaitTimedOut",
            "the wait's time was over",
            "condition_definition_fingerprint condition_key condition_wait_id sequence timeout_seconds timer_id",
        ),
    ],
    "Signals and updates": [
        _event(
            "SignalReceived",
            "a signal was accepted",
            "arguments command payload_codec signal_id signal_name signal_wait_id workflow_command_id "
            "workflow_instance_id workflow_run_id",
        ),
        _event(
            "UpdateAccepted",
            "an update was accepted",
            "arguments command command_sequence ordering_state payload_codec queued_behind_command_id "
            "queued_behind_command_sequence queued_behind_command_type update_id update_name workflow_command_id "
            "workflow_instance_id workflow_run_id",
        ),
        _event(
            "UpdateRejected",
            "an update was refused by the open run",
            "arguments command payload_codec rejection_reason update_id update_name validation_errors workflow_command_id "
            "workflow_instance_id workflow_run_id",
        ),
        _event(
            "UpdateApplied",
            "the workflow's handler ran",
            "arguments payload_codec sequence update_id update_name workflow_command_id workflow_instance_id workflow_run_id",
        ),
        _event(
            "UpdateCompleted",
            "the update's result or failure",
            "code exception exception_class exception_type failure_category failure_id message non_retryable "
            "payload_codec result sequence terminal_reason update_id update_name workflow_command_id workflow_instance_id "
            "workflow_run_id",
        ),
    ],
    "Children and immediate steps": [
        _event(
            "ChildWorkflowScheduled",
            "a worker asked for a child",
            "child_call_id child_run_number child_workflow_class child_workflow_instance_id child_workflow_run_id "
            "child_workflow_type parent_close_policy retry_policy sequence timeout_policy workflow_link_id",
        ),
        _event(
            "ChildRunStarted",
            "a run of the child: its first, each retry, each continuation",
            "child_call_id child_run_number child_status child_workflow_class child_workflow_instance_id "
            "child_workflow_run_id child_workflow_type execution_deadline_at execution_timeout_seconds "
            "parent_close_policy retry_attempt retry_backoff_seconds retry_of_child_workflow_run_id retry_policy "
            "run_deadline_at run_timeout_seconds sequence timeout_policy workflow_link_id",
        ),
        _event(
            "ChildRunCompleted",
            "the child's last run completed",
            "child_call_id child_run_number child_status child_workflow_class child_workflow_instance_id "
            "child_workflow_run_id child_workflow_type closed_at closed_reason output payload_codec result sequence "
            "workflow_link_id",
        ),
        _event(
            "ChildRunFailed",
            "the child failed or timed out, no retry is left",
            "child_call_id child_run_number child_status child_workflow_class child_workflow_instance_id "
            "child_workflow_run_id child_workflow_type closed_at closed_reason code exception exception_class "
            "exception_type failure_category failure_id message non_retryable sequence workflow_link_id",
        ),
        _event(
            "ChildRunCancelled",
            "the child was cancelled",
            "child_call_id child_run_number child_status child_workflow_class child_workflow_instance_id "
            "child_workflow_run_id child_workflow_type closed_at closed_reason exception_class failure_category "
            "failure_id message sequence workflow_link_id",
        ),
        _event(
            "ChildRunTerminated",
            "the child was terminated",
            "child_call_id child_run_number child_status child_workflow_class child_workflow_instance_id "
            "child_workflow_run_id child_workflow_type closed_at closed_reason exception_class failure_category "
            "failure_id message sequence workflow_link_id",
        ),
        _event(
            "SideEffectRecorded",
            "the value of a side effect",
            "payload_codec result sequence",
        ),
        _event(
            "VersionMarkerRecorded",
            "which version of a change this run goes by",
            "change_id max_supported min_supported sequence version",
        ),
        _event(
            "SearchAttributesUpserted",
            "search attributes were changed",
            "attributes merged sequence",
        ),
    ],
}

KEYS_OF: dict[str, frozenset[str]] = {event.name: frozenset(event.keys) for events in GROUPS.values() for event in events}
