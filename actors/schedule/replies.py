"""What a schedule answers; the API gives each reply its status and envelope (contract control-plane 11).

Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

NOT_FOUND = "schedule_not_found"
ALREADY_EXISTS = "schedule_already_exists"
INVALID = "validation_failed"  # detail: `errors`, texts by field
INVALID_RANGE = "invalid_time_range"


class Reply(Struct, tag_field="is", frozen=True):
    """Base of every answer."""


class Refused(Reply, frozen=True, tag="refused"):
    """The command was not applied and nothing changed. `reason` is one of the above, `detail` its extra fields."""

    reason: str
    detail: dict[str, Any] = {}


class Acted(Reply, frozen=True, tag="acted"):
    """`outcome`: `created`, `updated`, `paused`, `resumed` or `deleted`."""

    outcome: str


class Fired(Reply, frozen=True, tag="fired"):
    """What became of one fire (operations 1.5). `outcome`: `sent`, `buffered`, `buffer_full` or `skipped`.

    `sent` is not yet `triggered`: a later transition settles `number` (`Transition.settled`), and only then is there an answer
    for a client. `occurrence`: of a backfill, the instant it was for.
    """

    outcome: str
    number: int = 0
    workflow_id: str | None = None
    run_id: str | None = None
    reason: str | None = None
    buffer_depth: int | None = None
    occurrence: int | None = None


class Backfilled(Reply, frozen=True, tag="backfilled"):
    """One result per occurrence, oldest first. `go_on_at`: the `start` of the command that does the rest, None when done."""

    results: list[Fired]
    go_on_at: int | None = None


class Done(Reply, frozen=True, tag="done"):
    """Nothing to tell."""


ScheduleReply = Refused | Acted | Fired | Backfilled | Done
