"""The numbers the engine works with, handed in from configuration (contract engine-semantics 11.1, worker-protocol 12)."""

from __future__ import annotations

from msgspec import Struct


class Rules(Struct, frozen=True):
    """Leases and backoffs in seconds, sizes in bytes; a limit of 0 is switched off.

    `warning_percent`: from this part of a limit on a number is noted for the log, 0 for never.
    """

    workflow_task_lease: int = 60
    activity_task_lease: int = 300
    task_retry_base: int = 3
    task_retry_max: int = 60
    max_pending_activities: int = 2000
    max_pending_timers: int = 2000
    max_pending_children: int = 1000
    max_pending_signals: int = 5000
    max_pending_updates: int = 500
    max_memo_bytes: int = 262_144
    max_search_attribute_bytes: int = 40_960
    max_batch_commands: int = 1000
    max_payload_bytes: int = 2_097_152
    max_transaction_events: int = 5000
    max_history_events: int = 50_000
    warning_percent: int = 80
    budget_events: int = 10_000
    budget_bytes: int = 5_242_880
    budget_fan_out: int = 200
    shards: int = 64

    def task_retry(self, failures: int) -> int:
        """Seconds until a workflow task that failed so many times is tried again (engine-semantics 4.5)."""
        return min(self.task_retry_base << min(failures - 1, 16), self.task_retry_max)


DEFAULT_RULES = Rules()


def backoff_after(backoffs: list[int], attempts: int) -> int:
    """Seconds between so many attempts and the next one; the last value repeats."""
    return backoffs[min(attempts - 1, len(backoffs) - 1)] if backoffs and attempts else 0
