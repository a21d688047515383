"""What a host run remembers of its standalone activity for those who ask (control-plane 10): its attempts, its end.

Other runs remember nothing of that: their histories tell it.
"""

from __future__ import annotations

from actors.run.state import Activity, Attempt, RunState
from actors.run.words import AttemptEnd, StandaloneEnd

MOST_ATTEMPTS = 50  # kept of one activity, the newest


def ended(state: RunState, activity: Activity, status: AttemptEnd, at: int) -> None:
    """The activity's attempt, if it has one, ended at `at` (microseconds)."""
    host = state.standalone
    if host is None or activity.attempt_id is None:
        return
    attempt = Attempt(
        attempt_id=activity.attempt_id,
        number=activity.attempts,
        status=status,
        owner=activity.owner,
        started_at=activity.started_at,
        closed_at=at,
        last_heartbeat_at=activity.last_heartbeat_at,
    )
    host.attempts = [*host.attempts[-MOST_ATTEMPTS + 1 :], attempt]


def settled(state: RunState, activity: Activity, status: StandaloneEnd) -> None:
    """The activity has its outcome: what is told of it from now on stays as it is."""
    host = state.standalone
    if host is None:
        return
    host.status = status
    host.attempt_count = activity.attempts
    host.last_heartbeat_at = activity.last_heartbeat_at
    host.schedule_to_start_at = activity.schedule_to_start_at
    host.schedule_to_close_at = activity.schedule_to_close_at
