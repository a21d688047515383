"""The key of a schedule: an id that follows from its namespace and schedule id, and leads to its shard as any id does.

It is what the rows of a schedule, its messages and its events in the stream go by: the same over all records of the schedule
id, so that their sequence goes on (operations 1.11).
"""

from __future__ import annotations

from actors.run import ids


def schedule_key(namespace: str, schedule_id: str, shards: int) -> str:
    """The key of a schedule id. `shards`: how many there are in the cluster."""
    shard = ids.shard_of(namespace, schedule_id, shards)
    return ids.mint(0, ids.derived_run_key(shard, f"schedule\0{namespace}\0{schedule_id}"), ids.SCHEDULE)


def is_schedule(any_id: str) -> bool:
    """Whether an id of ours is the key of a schedule."""
    return any_id.startswith(_NO_TIME) and ids.kind_of(any_id) == ids.SCHEDULE


_NO_TIME = "0" * 10
