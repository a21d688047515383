"""What a fire does: start a run, wait in the buffer, or be skipped (contract operations 1.4, 1.5)."""

from __future__ import annotations

from actors.run import ids
from actors.run.times import SECOND
from actors.schedule import forms
from actors.schedule.messages import Origin, StartOccurrence, StopRun
from actors.schedule.replies import Fired
from actors.schedule.state import (
    ACTIVE,
    BUFFER_ALL,
    BUFFER_ONE,
    CANCEL_OTHER,
    DRAINED,
    SCHEDULED,
    SKIP,
    TERMINATE_OTHER,
    Buffered,
    ScheduleState,
    Sent,
)
from actors.schedule.transition import Transition

NOT_TRIGGERABLE = "status_not_triggerable"
EXHAUSTED = "remaining_actions_exhausted"
OVERLAP = "overlap_policy_skip"
BUFFER_FULL = "buffer_full"
BUFFER_FULL_TEXT = "Previous workflow is still running and buffer is at capacity."

# The contract sets `buffer_all` no limit; a state must have one.
MOST_BUFFERED = {BUFFER_ONE: 1, BUFFER_ALL: 10_000}
MOST_AT_ONCE = 1000  # occurrences caught up with in one transition; the rest is due at once
_STOPS = {CANCEL_OTHER: "cancel", TERMINATE_OTHER: "terminate"}


def attempt(
    tx: Transition,
    policy: str,
    *,
    occurrence: int | None = None,
    outcome: str = SCHEDULED,
    attribution: bytes | None = None,
) -> Fired:
    """Fire once under this policy (the table of operations 1.5, top to bottom)."""
    state = tx.state
    unreserved = state.unreserved
    if state.status != ACTIVE:
        return skip(tx, NOT_TRIGGERABLE, attribution)
    if unreserved is not None and unreserved <= 0:
        return skip(tx, EXHAUSTED, attribution)
    most = MOST_BUFFERED.get(policy)
    if most is not None and (state.running or state.buffer):  # never before those that wait already
        if len(state.buffer) >= most:
            skip(tx, BUFFER_FULL, attribution)
            return Fired("buffer_full", reason=BUFFER_FULL_TEXT)
        state.buffer.append(Buffered(tx.stamp, occurrence))
        tx.touch()
        return Fired("buffered", buffer_depth=len(state.buffer))
    if state.running:
        if policy == SKIP:
            return skip(tx, OVERLAP, attribution)
        if policy in _STOPS:
            _stop_latest(tx, policy)
    return send(tx, policy, occurrence=occurrence, outcome=outcome, attribution=attribution)


def skip(tx: Transition, reason: str, attribution: bytes | None = None) -> Fired:
    """Record that nothing was started."""
    state = tx.state
    state.last_skip_reason = reason
    state.last_skipped_at = tx.stamp
    state.skipped_trigger_count += 1
    tx.record(
        "ScheduleTriggerSkipped",
        {
            "reason": reason,
            "skipped_trigger_count": state.skipped_trigger_count,
            "last_skipped_at": forms.seconds_or_none(tx.stamp),
        },
        attribution,
    )
    return Fired("skipped", reason=reason)


def send(
    tx: Transition,
    policy: str,
    *,
    occurrence: int | None,
    outcome: str,
    attribution: bytes | None = None,
    buffered_at: int | None = None,
) -> Fired:
    """Send a start. Until it is confirmed it counts as running and takes its share of the remaining actions; what is told of a
    fire is recorded when it is (`settling`), because only then is it known that there is a run.
    """
    state = tx.state
    action = state.definition.action
    state.numbers = number = state.numbers + 1
    workflow_id, run_id = run_ids(state, number, tx.now // 1000, tx.shards)
    trigger_number = state.fires_count + len(state.sent) + 1
    state.sent[number] = Sent(
        workflow_id=workflow_id,
        run_id=run_id,
        fired_at=tx.stamp,
        trigger_number=trigger_number,
        outcome=outcome,
        policy=policy,
        occurrence=occurrence,
        context=_context(state, number, attribution),
        buffered_at=buffered_at,
    )
    tx.messages.append(
        StartOccurrence(
            namespace=state.namespace,
            workflow_id=workflow_id,
            run_id=run_id,
            origin=Origin(state.schedule_id, state.record_id, number),
            workflow_type=action["workflow_type"],
            duplicate_policy="use-existing" if policy == SKIP else "fail",
            triggered=forms.started_by(state, policy, trigger_number, occurrence),
            task_queue=action.get("task_queue"),
            input=action.get("input"),
            execution_timeout_seconds=action.get("execution_timeout_seconds"),
            run_timeout_seconds=action.get("run_timeout_seconds"),
            memo=state.definition.memo,
            search_attributes=state.definition.search_attributes,
        )
    )
    tx.touch()
    return Fired("sent", number=number, workflow_id=workflow_id, run_id=run_id)


def run_ids(state: ScheduleState, number: int, milliseconds: int, shards: int) -> tuple[str, ids.RunId]:
    """The workflow id and the run id of a start: like those of any start without an id, but the start has them for good."""
    seed = f"{state.record_id}:{number}"
    workflow_id = ids.mint(milliseconds, ids.derived_run_key(0, f"{seed}:workflow"), ids.RUN)
    key = ids.derived_run_key(ids.shard_of(state.namespace, workflow_id, shards), seed)
    return workflow_id, ids.new_run_id(milliseconds, key)


def _context(state: ScheduleState, number: int, attribution: bytes | None) -> int:
    """Keep the attribution until the start is confirmed; starts of one command share it."""
    if attribution is None:
        return 0
    if state.contexts:
        newest = max(state.contexts)
        if state.contexts[newest] == attribution:
            return newest
    state.contexts[number] = attribution
    return number


def _stop_latest(tx: Transition, policy: str) -> None:
    """Ask the latest run to stop; one whose start is not confirmed yet is asked when it is, so that the two cannot overtake."""
    state = tx.state
    if state.sent:
        newest = state.sent[max(state.sent)]
        if newest.stop != "terminate":
            newest.stop = _STOPS[policy]
        tx.touch()
    elif state.latest is not None:
        stop(tx, state.latest.workflow_id, _STOPS[policy])


def stop(tx: Transition, workflow_id: str, how: str) -> None:
    """Send a request to cancel or terminate."""
    reason = f"Schedule overlap: {how}_other policy applied."
    tx.messages.append(StopRun(tx.state.namespace, workflow_id, how, reason))
    tx.touch()


# -- what happens by itself ------------------------------------------------------------------------------------------------


def catch_up(tx: Transition) -> None:
    """Do what is due; what waits is older than what is due now."""
    drain(tx)
    fire_due(tx)


def fire_due(tx: Transition) -> None:
    """Fire what is due: once, however late it is; with a catch-up window every occurrence in it, in order."""
    state = tx.state
    if state.status != ACTIVE:
        return
    if state.definition.catchup_window_seconds:
        _leave_behind(tx)
    for _ in range(MOST_AT_ONCE):
        due, occurrence, unreserved = state.next_fire_at, state.next_occurrence, state.unreserved
        if due is None or due > tx.now:
            return
        if unreserved is not None and unreserved <= 0 and state.sent:
            return  # all that remain are on their way: once confirmed they end the schedule, refused they make room
        attempt(tx, state.definition.overlap_policy, occurrence=due)
        state.consumed = occurrence
        window = state.definition.catchup_window_seconds
        if window and occurrence is not None:
            after = max(occurrence, tx.now - window * SECOND - 1)
            tx.plan_at(tx.occurrence_after(after), not_before=due + SECOND)
        else:
            tx.plan()


def _leave_behind(tx: Transition) -> None:
    """Go on with the first occurrence inside the catch-up window, if there is one by now; else with the one that is planned."""
    state = tx.state
    edge = tx.now - state.definition.catchup_window_seconds * SECOND
    if state.next_occurrence is None or state.next_occurrence >= edge:
        return
    inside = tx.occurrence_after(edge - 1)
    if inside is not None and inside <= tx.now:
        tx.plan_at(inside)


def drain(tx: Transition) -> None:
    """Start the oldest fire of the buffer when nothing runs any more (operations 1.4)."""
    state = tx.state
    if state.status != ACTIVE or not state.buffer or state.running or state.drain_after > tx.now:
        return
    unreserved = state.unreserved
    if unreserved is not None and unreserved <= 0:
        return
    oldest = state.buffer.pop(0)
    send(
        tx,
        state.definition.overlap_policy,
        occurrence=oldest.occurrence,
        outcome=DRAINED,
        buffered_at=oldest.buffered_at,
    )
