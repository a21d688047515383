"""The statuses of runs in three buckets, by which lists filter and descriptions sort them (control-plane 5)."""

from __future__ import annotations

RUNNING = "running"

BUCKETS = {
    RUNNING: ("pending", "running", "waiting"),
    "completed": ("completed",),
    "failed": ("failed", "cancelled", "terminated"),
}

_BUCKET_OF = {status: bucket for bucket, statuses in BUCKETS.items() for status in statuses}


def status_bucket(status: str) -> str:
    """The key of `BUCKETS` a run's status belongs to."""
    return _BUCKET_OF.get(status, RUNNING)


def is_terminal(status: str) -> bool:
    """Whether a run of this status is closed."""
    return status_bucket(status) != RUNNING
