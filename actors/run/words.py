"""The words of statuses and refusals (contract engine-semantics 1.2, 1.3, 5; worker-protocol 4.7, 7.2; control-plane 5).

Statuses are part of stored states: one that is none of these is refused when it is read. Of what other nodes answer any word is
read, as theirs may be a later version: for `Reason` and `Rejection` the type is known to the type checker alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

RunStatus = Literal["pending", "waiting", "running", "completed", "failed", "cancelled", "terminated"]

ClosedReason = Literal["completed", "failed", "cancelled", "terminated", "timed_out", "continued"]

# Of a workflow task. `never`: a host run has none and never will; programs that know no host runs refuse the word, so that
# none of them makes one.
TaskStatus = Literal["ready", "leased", "completed", "cancelled", "never"]

# Of an activity: `ready` (a task row waits), `running`, `withdrawn` (the run went on without it), `completed` (that was taken
# note of), `cancelled` (with its run).
ActivityStatus = Literal["ready", "running", "withdrawn", "completed", "cancelled"]

# Of an attempt of a standalone activity that has ended. `expired`: it timed out or was lost.
AttemptEnd = Literal["completed", "failed", "cancelled", "expired"]

# What became of a standalone activity.
StandaloneEnd = Literal["completed", "failed", "cancelled"]

UpdateState = Literal["accepted", "completed", "failed"]

StartOutcome = Literal["started_new", "returned_existing_active", "rejected_duplicate"]

TaskKind = Literal["workflow", "activity"]

# The workflow type of host runs: of runs that are there for one standalone activity. No caller may start a workflow of it.
STANDALONE_TYPE = "dw.standalone_activity"

# Why a caller is refused, in the contract's words.
ContractReason = Literal[
    "attempt_not_found",
    "historical_run_command_rejected",
    "instance_not_found",
    "invalid_commands",
    "lease_expired",
    "lease_owner_mismatch",
    "query_task_attempt_mismatch",
    "query_task_not_found",
    "query_task_not_leased",
    "query_task_queue_full",
    "query_task_queue_unavailable",
    "query_worker_incompatible",
    "query_worker_timeout",
    "query_worker_unavailable",
    "rejected_unknown_query",
    "run_cancelled",
    "run_closed",
    "run_history_pruned",
    "run_not_active",
    "run_terminated",
    "run_timed_out",
    "stale_attempt",
    "structural_limit_exceeded",
    "task_mismatch",
    "task_not_found",
    "task_not_leased",
    "update_not_found",
    "workflow_id_reserved_in_namespace",
    "workflow_task_attempt_mismatch",
    "workflow_type_mismatch",
]

# What actors tell each other and no client ever reads. `run_continued`: another run goes on in its place, ask that one.
# `too_early`: a message that overtook one before it; it stays where it is. `not_ready`: the task cannot be claimed.
# `not_leased`: nobody has that lease. `nothing_due`: no deadline has passed. `update_request_taken`: another update was
# accepted under the request id meanwhile. `permit_taken`: somebody else has the place under a cap that a claim was to take.
InternalReason = Literal[
    "run_continued", "too_early", "not_ready", "not_leased", "nothing_due", "update_request_taken", "permit_taken"
]

if TYPE_CHECKING:
    Reason = ContractReason | InternalReason
    # Why a command of the control plane had no effect.
    Rejection = Literal["run_not_active", "run_not_closed", "structural_limit_exceeded", "unknown_signal", "unknown_update"]
else:
    Reason = Rejection = str
