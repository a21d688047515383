"""The rules of a schedule: (state, command, time) -> (changed state, audit events, messages, reply).

    tx = Transition(state, now, shards)     # of `unborn(...)` when nothing is stored under the id
    reply = decide(tx, command)
    # commit tx.state, tx.events, tx.messages and tx.wake_at() as one, if tx.changed; then tell reply and tx.settled

A reply `Refused` leaves everything as it was. docs/design/schedules.md tells the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from actors.run.times import SECOND
from actors.schedule import control, firing, settling, spec
from actors.schedule.commands import (
    BackfillSchedule,
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    RunClosed,
    ScheduleCommand,
    StartConfirmed,
    StartRefused,
    TriggerSchedule,
    UpdateSchedule,
    WakeUp,
)
from actors.schedule.replies import INVALID_RANGE, NOT_FOUND, Backfilled, Done, Fired, Refused, ScheduleReply
from actors.schedule.state import ACTIVE, ALLOW_ALL, BACKFILLED, BUFFER_ALL, BUFFER_ONE, ScheduleState
from actors.schedule.transition import Transition

MOST_BACKFILLED = 1000

# Clocks of nodes differ by less; what was planned later than this from now was planned by a wrong clock.
TOLERANCE = SECOND

Handler = Callable[[Transition, Any], ScheduleReply]


def unborn(namespace: str, schedule_id: str) -> ScheduleState:
    """The state of an id under which nothing is stored."""
    return ScheduleState(namespace=namespace, schedule_id=schedule_id)


def decide(tx: Transition, command: ScheduleCommand) -> ScheduleReply:
    """Decide one command inside `tx`; the reply is for its sender once `tx` is committed."""
    state = tx.state
    if not state.exists and not isinstance(command, _EVEN_WHEN_GONE):
        return Done() if isinstance(command, WakeUp) else Refused(NOT_FOUND)
    if state.status == ACTIVE and state.planned_at > tx.now + TOLERANCE:
        tx.plan()  # nothing is further away than the spec says
    return _HANDLERS[type(command)](tx, command)


def wake_up(tx: Transition, _: WakeUp) -> ScheduleReply:
    """Do what is due."""
    firing.catch_up(tx)
    return Done()


def trigger(tx: Transition, command: TriggerSchedule) -> Fired:
    """Fire by hand, after what is due."""
    firing.catch_up(tx)
    policy = command.overlap_policy or tx.state.definition.overlap_policy
    return firing.attempt(tx, policy, attribution=command.attribution)


def backfill(tx: Transition, command: BackfillSchedule) -> ScheduleReply:
    """Fire for the occurrences of a range, oldest first and without jitter (operations 1.7)."""
    if command.end <= command.start and command.first:
        return Refused(INVALID_RANGE)
    wanted = list(islice(spec.compiled(tx.state.definition.spec).between(command.start, command.end), MOST_BACKFILLED + 1))
    if len(wanted) > MOST_BACKFILLED:
        return Refused(INVALID_RANGE, {"limit": MOST_BACKFILLED})
    firing.catch_up(tx)
    policy = command.overlap_policy or tx.state.definition.overlap_policy
    if policy in (BUFFER_ONE, BUFFER_ALL):
        policy = ALLOW_ALL
    results: list[Fired] = []
    for occurrence in wanted:
        unreserved = tx.state.unreserved
        if tx.state.status == ACTIVE and unreserved is not None and unreserved <= 0:
            return Backfilled(results)
        if len(results) == command.at_most:
            return Backfilled(results, go_on_at=occurrence)
        fired = firing.attempt(tx, policy, occurrence=occurrence, outcome=BACKFILLED, attribution=command.attribution)
        results.append(_for_occurrence(fired, occurrence))
    return Backfilled(results)


def _for_occurrence(fired: Fired, occurrence: int) -> Fired:
    return Fired(fired.outcome, fired.number, fired.workflow_id, fired.run_id, fired.reason, occurrence=occurrence)


_EVEN_WHEN_GONE = (CreateSchedule, StartConfirmed, StartRefused, RunClosed)

_HANDLERS: dict[type, Handler] = {
    CreateSchedule: control.create,
    UpdateSchedule: control.update,
    PauseSchedule: control.pause,
    ResumeSchedule: control.resume,
    DeleteSchedule: control.delete,
    TriggerSchedule: trigger,
    BackfillSchedule: backfill,
    WakeUp: wake_up,
    StartConfirmed: settling.confirmed,
    StartRefused: settling.refused,
    RunClosed: settling.closed,
}
