"""Durable timers of a run (contract engine-semantics 6.1)."""

from __future__ import annotations

from actors.run import ids
from actors.run.commands.steps import StartTimer
from actors.run.next_task import wake_workflow
from actors.run.state import Timer
from actors.run.steps import condition_waits
from actors.run.times import SECOND, iso
from actors.run.transition import Transition
from actors.run.values import Resume


def start(tx: Transition, command: StartTimer, step: int) -> str:
    """Record the timer; returns its task id. A delay of 0 fires in the transition right after this one."""
    delay = max(command.delay_seconds, 0)
    timer = Timer(
        step=step,
        delay_seconds=delay,
        fire_at=tx.now + delay * SECOND,
        task_id=tx.mint(ids.TIMER_TASK),
        created_at=tx.stamp,
    )
    timer_id = tx.mint(ids.TIMER)
    tx.record("TimerScheduled", _keys(timer_id, timer), step=step)
    tx.state.timers[timer_id] = timer
    return timer.task_id


def fire(tx: Transition) -> None:
    """Fire every timer that is due, in the order of their times."""
    timers = tx.state.timers
    due = sorted((timer.due, timer.step, timer_id) for timer_id, timer in timers.items() if timer.due <= tx.now)
    for _, _, timer_id in due:
        timer = timers.pop(timer_id)
        tx.not_before(timer.fire_at)
        tx.record("TimerFired", {**_keys(timer_id, timer), "fired_at": iso(tx.stamp)}, step=timer.step)
        context = Resume(
            workflow_wait_kind="timer",
            open_wait_id=f"timer:{timer_id}",
            resume_source_kind="timer",
            resume_source_id=timer_id,
            timer_id=timer_id,
            workflow_sequence=timer.step,
            workflow_event_type="TimerFired",
        )
        wake_workflow(tx, context, timer.step)


def cancel_all(tx: Transition, command_id: str | None) -> None:
    """The run was cancelled, terminated or timed out: pending timers end with it, a wait's own included, in step order."""
    pending = [(timer.step, _keys(timer_id, timer)) for timer_id, timer in tx.state.timers.items()]
    wait = tx.state.wait
    if wait is not None and wait.timer_id is not None:
        pending.append((wait.step, condition_waits.timer_keys(wait)))
    for step, keys in sorted(pending, key=lambda each: each[0]):
        tx.record("TimerCancelled", {**keys, "cancelled_at": iso(tx.stamp)}, step=step, command_id=command_id)
    tx.state.timers = {}
    tx.state.wait = None


def _keys(timer_id: str, timer: Timer) -> dict[str, object]:
    return {"timer_id": timer_id, "delay_seconds": timer.delay_seconds, "fire_at": iso(timer.fire_at)}
