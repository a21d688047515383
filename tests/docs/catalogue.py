"""The events a run records and the keys of their payloads, with what they mean: the source of docs/events.md.

`tests/docs/test_events.py` holds it against what the core records. Rules and order: contract engine-semantics 2.4, 2.5.
"""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One event type: when it is recorded, and the keys its payload may have."""

    name: str
    when: str
    keys: tuple[str, ...]


def _event(name: str, when: str, keys: str) -> Event:
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

# Times are ISO 8601 in UTC with microseconds.
KEYS = {
    "activity": "a copy of the activity: its arguments, queue, retry policy and timeouts, or what is left of it",
    "activity_attempt_id": "id of the attempt",
    "activity_class": "the same as `activity_type`",
    "activity_execution_id": "id of the activity, all attempts",
    "activity_type": "type name",
    "archive_command_id": "id of the archive command",
    "arguments": "payload envelope (`codec`, `blob`) of the arguments",
    "attempt_number": "number of the attempt, 1 the first",
    "attributes": "the change, keys sorted, null removes",
    "business_key": "the caller's second name of the run",
    "cancelled_at": "time",
    "change_id": "name of the change in the workflow's code",
    "child_call_id": "id of the parent's call, over all runs of the child",
    "child_instance_id": "workflow id of the child",
    "child_run_id": "id of the child's run",
    "child_run_number": "number of the child's run, 1 the first",
    "child_status": "status of the child's run",
    "child_workflow_class": "the same as `child_workflow_type`",
    "child_workflow_instance_id": "workflow id of the child",
    "child_workflow_run_id": "id of the child's run",
    "child_workflow_type": "type name",
    "close_deadline_at": "time: end of the attempt's start_to_close",
    "closed_at": "time",
    "closed_reason": "why the run is closed",
    "code": "the failure's code as the worker gave it",
    "command": "snapshot of the caller's command: who, with what credential, by which request",
    "command_sequence": "number of the command in the run",
    "command_type": "which command",
    "condition_definition_fingerprint": "fingerprint of the predicate's code",
    "condition_key": "name of the condition",
    "condition_wait_id": "id of the wait",
    "continued_from_run_id": "id of the run this one goes on from",
    "continued_to_run_id": "id of the successor",
    "continued_to_run_number": "its number",
    "delay_seconds": "int",
    "exception": "the exception as the worker described it",
    "exception_class": "class name of the exception",
    "exception_type": "type name of the failure",
    "execution_deadline_at": "time: end of the whole chain of runs",
    "execution_timeout_seconds": "int",
    "failure_category": "`activity`, `application`, `cancelled`, `structural_limit`, `terminated`, `timeout` ...",
    "failure_id": "id of the failure",
    "fire_at": "time",
    "fired_at": "time",
    "heartbeat_at": "time",
    "heartbeat_deadline_at": "time",
    "lease_expires_at": "time",
    "liveness_state": "`repair_needed` and the like",
    "max_attempts": "int",
    "max_supported": "highest version the code knows",
    "memo": "the memo, plain JSON",
    "merged": "all search attributes after the change",
    "message": "text of the failure",
    "min_supported": "lowest version the code knows",
    "non_retryable": "bool",
    "ordering_state": "`ready`, or `queued` behind another command",
    "outcome": "what came of the command",
    "output": "the result as its blob, or as an envelope when its codec is not that of the run",
    "parent_close_policy": "what happens to the child when the parent closes",
    "parent_sequence": "step of the parent that started this run",
    "parent_workflow_instance_id": "workflow id of the parent",
    "parent_workflow_run_id": "id of the parent's run",
    "payload_codec": "codec of the payloads in this event",
    "policy": "the parent close policy that was applied",
    "progress": "details of the heartbeat",
    "queued_behind_command_id": "the command before it",
    "queued_behind_command_sequence": "its number",
    "queued_behind_command_type": "its type",
    "reason": "text",
    "rejection_reason": "why, one word",
    "result": "the result as its blob, or as an envelope when its codec is not that of the run",
    "retry_after_attempt": "number of the attempt that ended",
    "retry_after_attempt_id": "id of the attempt that ended",
    "retry_attempt": "number of the child's attempt",
    "retry_available_at": "time of the next attempt",
    "retry_backoff_seconds": "int",
    "retry_of_child_workflow_run_id": "the run this one repeats",
    "retry_of_task_id": "task of the attempt that ended",
    "retry_policy": "the retry policy",
    "retry_reason": "`failure` or `timeout`",
    "retry_task_id": "task of the next attempt",
    "run_deadline_at": "time: end of this run",
    "run_timeout_seconds": "int",
    "schedule_deadline_at": "time: end of schedule_to_start",
    "schedule_to_close_deadline_at": "time",
    "search_attributes": "search attributes, plain JSON",
    "sequence": "number of the workflow's step this belongs to (not the event's own)",
    "signal_id": "id of the signal",
    "signal_name": "name",
    "signal_wait_id": "id of the wait the signal meets",
    "source_id": "id of what failed",
    "source_kind": "what failed",
    "structural_limit_configured": "the limit",
    "structural_limit_kind": "which limit",
    "structural_limit_value": "the value that broke it",
    "task_id": "the task that was made ready",
    "task_queue": "queue of the run",
    "task_type": "kind of the task",
    "terminal_reason": "how the run closed before the update was done",
    "timeout_kind": "which timeout",
    "timeout_policy": "execution and run timeout of the child",
    "timeout_seconds": "int",
    "timer_id": "id of the timer",
    "timer_kind": "`condition_timeout` for the timeout of a wait",
    "timestamp": "time of the start",
    "update_id": "id of the update",
    "update_name": "name",
    "validation_errors": "field errors",
    "version": "the version chosen",
    "wait_kind": "what the run waits for",
    "workflow_class": "the same as `workflow_type`",
    "workflow_command_id": "id of the command that caused it",
    "workflow_id": "workflow id",
    "workflow_instance_id": "workflow id",
    "workflow_link_id": "id of the link between parent and child, or run and successor",
    "workflow_run_id": "id of the run",
    "workflow_signal_id": "id of the signal that woke the wait",
    "workflow_type": "type name",
}
