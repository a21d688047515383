"""Ready tasks as the store would read them for a poll."""

from __future__ import annotations

from actors.queue.candidates import Found
from actors.queue.matching import QueuedTask
from actors.queue.poll import WorkerProfile
from actors.queue.tiers import cut


def read(rows: list[QueuedTask], profile: WorkerProfile, now: int, limit: int) -> Found:
    """What the store would answer."""
    mine = [row for row in rows if profile.serves(row.type_name, row.compatibility)]
    due, reach = cut((row for row in mine if row.available_at <= now), limit)
    later = sorted((row for row in mine if row.available_at > now), key=lambda row: (row.available_at, row.task_id))
    return Found(due, reach, later[:limit], later[limit - 1].available_at if len(later) >= limit else None)
