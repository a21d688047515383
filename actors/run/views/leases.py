"""The leases of a run, as they are noted beside it for the views of task queues (contract operations 2.1); pure.

The state of the run is the truth; the note says which version of it it belongs to. One of many leases says only that: who wants
to know reads the state.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from actors.run.state import RunState
from actors.run.words import TaskKind

MOST_NOTED = 12  # leases of one run; more would move the note out of its row
SEE_STATE = b"\x00"


class Lease(Struct, frozen=True, array_like=True):
    """A task some worker has. `attempt_id`: of an activity. Times in microseconds."""

    task_id: str
    kind: TaskKind
    queue: str
    owner: str
    expires_at: int
    attempt: int
    attempt_id: str | None = None


class Noted(Struct, frozen=True, array_like=True):
    """What is noted of a version of a run."""

    version: int
    leases: list[Lease]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Noted] = msgspec.msgpack.Decoder(Noted)


def leases_of(state: RunState) -> list[Lease]:
    """The leases of a run, expired ones included."""
    found: list[Lease] = []
    task = state.open_task
    if task is not None and task.status == "leased":
        found.append(Lease(task.task_id, "workflow", state.task_queue, task.owner or "", task.lease_expires_at, task.attempt))
    for task_id, activity in state.activities.items():
        if activity.status == "running":
            found.append(
                Lease(
                    task_id,
                    "activity",
                    activity.queue,
                    activity.owner or "",
                    activity.lease_expires_at,
                    activity.attempts,
                    activity.attempt_id,
                )
            )
    return found


def note_of(state: RunState, version: int) -> bytes | None:
    """What is noted of this version of a run, None when it has granted no lease."""
    if state.closed_at is not None:
        return None
    running = 0
    for activity in state.activities.values():
        if activity.status == "running":
            running += 1
            if running > MOST_NOTED:
                return SEE_STATE
    task = state.open_task
    if not running and (task is None or task.status != "leased"):
        return None
    return _encoder.encode(Noted(version, leases_of(state)))


def noted(note: bytes, version: int) -> list[Lease]:
    """The leases of a run from its note; none when the note belongs to another version: an older program wrote since."""
    found = _decoder.decode(note)
    return found.leases if found.version == version else []
