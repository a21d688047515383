"""What became of a start, and what follows when a run closes (contract operations 1.6)."""

from __future__ import annotations

from actors.run.times import SECOND
from actors.schedule import control, firing, forms
from actors.schedule.commands import RunClosed, StartConfirmed, StartRefused
from actors.schedule.messages import Settled
from actors.schedule.replies import Done, ScheduleReply
from actors.schedule.state import DELETED, DRAINED, RECENT_ACTIONS, Buffered, Latest, Recent, ScheduleState, Sent
from actors.schedule.transition import Transition

# Refusals that are skips and not failures (operations 1.5).
SKIPS = frozenset({"compatibility_blocked", "schedule_deleted", "schedule_paused"})

DRAIN_AGAIN = 10 * SECOND


def confirmed(tx: Transition, command: StartConfirmed) -> ScheduleReply:
    """The run is there. Told again, it changes nothing: the number is not among those sent any more."""
    sent = _taken(tx, command.record_id, command.number)
    if sent is not None:
        _succeed(tx, command.number, sent, closed=False)
        firing.drain(tx)
    return Done()


def closed(tx: Transition, command: RunClosed) -> ScheduleReply:
    """The chain of a run has ended. Only the latest one's end matters; an end says that there was a start, too."""
    latest = tx.state.latest
    sent = _taken(tx, command.record_id, command.number)
    if sent is not None:
        _succeed(tx, command.number, sent, closed=True)
    elif command.record_id != tx.state.record_id or latest is None or latest.number != command.number or latest.closed:
        return Done()
    else:
        latest.closed = True
        tx.touch()
    firing.drain(tx)
    return Done()


def refused(tx: Transition, command: StartRefused) -> ScheduleReply:
    """There will be no run."""
    state = tx.state
    sent = _taken(tx, command.record_id, command.number)
    if sent is None:
        return Done()
    skipped = command.reason in SKIPS
    attribution = _attribution(state, sent)
    if sent.outcome == DRAINED and state.status != DELETED:
        state.buffer.insert(0, Buffered(sent.buffered_at or sent.fired_at, sent.occurrence))
        state.drain_after = tx.now + DRAIN_AGAIN
    if skipped:
        firing.skip(tx, command.reason, attribution)
    else:
        state.failures_count += 1
        _fired(state, sent)
        _remember(state, Recent("failed", sent.fired_at, reason=command.reason))
    tx.settled.append(Settled(command.number, sent.workflow_id, sent.run_id, command.reason, skipped))
    tx.touch()
    firing.drain(tx)
    return Done()


def _taken(tx: Transition, record_id: str, number: int) -> Sent | None:
    """Take a start from those unconfirmed, None when it is none of them."""
    return tx.state.sent.pop(number, None) if record_id == tx.state.record_id else None


def _succeed(tx: Transition, number: int, sent: Sent, *, closed: bool) -> None:
    state = tx.state
    state.fires_count += 1
    _fired(state, sent)
    if state.remaining_actions is not None:
        state.remaining_actions = max(state.remaining_actions - 1, 0)
    if state.latest is None or state.latest.number < number:
        state.latest = Latest(number, sent.workflow_id, sent.run_id, closed)
    _remember(state, Recent(sent.outcome, sent.fired_at, sent.workflow_id, sent.run_id, sent.occurrence))
    tx.record(
        "ScheduleTriggered",
        {
            "workflow_instance_id": sent.workflow_id,
            "workflow_run_id": sent.run_id,
            "outcome": sent.outcome,
            "effective_overlap_policy": sent.policy,
            "trigger_number": sent.trigger_number,
            "occurrence_time": forms.occurrence_or_none(sent.occurrence),
        },
        _attribution(state, sent),
        sent.workflow_id,
        sent.run_id,
    )
    if sent.stop is not None and not closed:
        firing.stop(tx, sent.workflow_id, sent.stop)
    tx.settled.append(Settled(number, sent.workflow_id, sent.run_id))
    if state.remaining_actions == 0 and state.exists:
        control.end(tx, "max_runs_exhausted")


def _fired(state: ScheduleState, sent: Sent) -> None:
    state.last_fired_at = max(state.last_fired_at or 0, sent.fired_at)


def _remember(state: ScheduleState, recent: Recent) -> None:
    state.recent = [*state.recent[1 - RECENT_ACTIONS :], recent]


def _attribution(state: ScheduleState, sent: Sent) -> bytes | None:
    """Who caused the start; forgotten when no other unconfirmed start goes back to it."""
    if not sent.context:
        return None
    if any(each.context == sent.context for each in state.sent.values()):
        return state.contexts[sent.context]
    return state.contexts.pop(sent.context)
