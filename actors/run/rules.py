"""The numbers the engine works with, handed in from configuration (contract engine-semantics 11.1, worker-protocol 12).

None has a default here: those stand in `node/config`, with the variables.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a request may bring, as configured (`DW_MAX_*`, configuration-and-security 6.5). Sizes in bytes, 0: off.

    Cluster info shows it whole, under these names, as `limits` (control-plane 3.3).
    """

    max_payload_bytes: int  # of an HTTP body
    max_memo_bytes: int
    max_search_attributes: int  # keys; 0: none in a start, any number in upserts
    max_search_attribute_key_length: int
    max_search_attribute_value_bytes: int
    max_operation_name_length: int  # of a signal, query or update
    max_pending_activities: int
    max_pending_children: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuralLimits:
    """What a run may grow to, as configured (`DW_V2_LIMIT_*`, configuration-and-security 6.6). Sizes in bytes, 0: off.

    Cluster info shows it whole, under these names, as `structural_limits` (control-plane 3.3).
    """

    pending_activity_count: int
    pending_child_count: int
    pending_timer_count: int
    pending_signal_count: int
    pending_update_count: int
    command_batch_size: int
    payload_size_bytes: int  # of one payload
    memo_size_bytes: int
    search_attribute_size_bytes: int  # of all attributes of a run
    history_transaction_size: int  # events of one transition
    warning_threshold_percent: int  # from this part of a limit on a number is noted for the log, 0 for never


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All limits of a deployment: the core and the API read these and no copies. Where two are about the same, both hold."""

    request: RequestLimits
    structural: StructuralLimits
    history_events: int  # of one run

    @property
    def pending_activities(self) -> int:
        """Open activities of a run, 0: any number."""
        return smaller_limit(self.request.max_pending_activities, self.structural.pending_activity_count)

    @property
    def pending_children(self) -> int:
        """Open children of a run, 0: any number."""
        return smaller_limit(self.request.max_pending_children, self.structural.pending_child_count)

    @property
    def memo_bytes(self) -> int:
        """Size of a run's memo, 0: any."""
        return smaller_limit(self.request.max_memo_bytes, self.structural.memo_size_bytes)


def smaller_limit(first: int, second: int) -> int:
    """The smaller of two limits of which 0 means off."""
    return min(first, second) or max(first, second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Leases and backoffs in seconds. `budget_*`: what continue-as-new is advised from, 0 for never (engine-semantics 11.2)."""

    limits: Limits
    workflow_task_lease: int
    activity_task_lease: int
    task_retry_base: int
    task_retry_max: int
    budget_events: int
    budget_bytes: int
    budget_fan_out: int = 200  # no variable of the contract changes it
    shards: int

    def task_retry(self, failures: int) -> int:
        """Seconds until a workflow task that failed so many times is tried again (engine-semantics 4.5)."""
        return min(self.task_retry_base << min(failures - 1, 16), self.task_retry_max)


def backoff_after(backoffs: list[int], attempts: int) -> int:
    """Seconds between so many attempts and the next one; the last value repeats."""
    return backoffs[min(attempts - 1, len(backoffs) - 1)] if backoffs and attempts else 0
