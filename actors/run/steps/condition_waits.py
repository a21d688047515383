"""Condition waits: opened by the worker, which alone evaluates the predicate (contract engine-semantics 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.run import ids
from actors.run.commands.steps import FailWorkflow, OpenConditionWait, WorkflowCommand
from actors.run.next_task import wake_workflow
from actors.run.state import Wait, WorkflowTask
from actors.run.times import SECOND, iso
from actors.run.transition import Transition
from actors.run.values import Resume


def open_wait(tx: Transition, command: OpenConditionWait, step: int) -> str | None:
    """Open a wait, in place of one that is superseded; returns the task id of its timer, if it has one."""
    timeout = command.timeout_seconds
    wait = Wait(
        wait_id=tx.mint(ids.WAIT),
        step=step,
        opened_at=tx.stamp,
        key=command.condition_key,
        fingerprint=command.condition_definition_fingerprint,
        timeout_seconds=timeout,
    )
    tx.record("ConditionWaitOpened", {**_keys(wait), "timeout_seconds": timeout}, step=step)
    tx.state.wait = wait
    if timeout is None:
        return None
    wait.timeout_at = tx.now + timeout * SECOND
    if timeout <= 0:
        return None
    wait.timer_id = tx.mint(ids.TIMER)
    wait.timer_task_id = tx.mint(ids.TIMER_TASK)
    tx.record("TimerScheduled", timer_keys(wait), step=step)
    return wait.timer_task_id


def settle(tx: Transition, task: WorkflowTask, steps: Sequence[WorkflowCommand]) -> Sequence[WorkflowCommand]:
    """What the completion of a normal task says about the wait that was open in its snapshot; the steps left to apply.

    Opened again with nothing new to know: nothing. Opened again otherwise: superseded silently. Anything else: passed.
    """
    state = tx.state
    wait = state.wait
    if wait is None:
        return steps
    lone = steps[0] if len(steps) == 1 else None
    if (
        isinstance(lone, OpenConditionWait)
        and lone.condition_key == wait.key
        and lone.condition_definition_fingerprint == wait.fingerprint
    ):
        return steps if task.new_receivers else ()
    if isinstance(lone, FailWorkflow):
        return steps
    signal = next((known for known in state.signals if known.signal_id == task.signal_id), None)
    tx.record(
        "ConditionWaitSatisfied",
        {
            **_keys(wait),
            "timer_id": wait.timer_id,
            "timeout_seconds": wait.timeout_seconds,
            "workflow_signal_id": None if signal is None else signal.signal_id,
            "signal_name": None if signal is None else signal.name,
            "signal_wait_id": None if signal is None else signal.wait_id,
        },
        step=wait.step,
    )
    if wait.timer_id is not None:
        tx.record("TimerCancelled", {**timer_keys(wait), "cancelled_at": iso(tx.stamp)}, step=wait.step)
    state.wait = None
    return steps


def time_out(tx: Transition) -> None:
    """End the wait if its time is over; not while a task is open, whose worker may have seen the predicate true."""
    state = tx.state
    wait = state.wait
    if wait is None or wait.timeout_at is None or wait.due > tx.now or state.open_task is not None:
        return
    tx.not_before(wait.timeout_at)
    if wait.timer_id is not None:
        tx.record("TimerFired", {**timer_keys(wait), "fired_at": iso(tx.stamp)}, step=wait.step)
    tx.record(
        "ConditionWaitTimedOut",
        {**_keys(wait), "timer_id": wait.timer_id, "timeout_seconds": wait.timeout_seconds},
        step=wait.step,
    )
    state.wait = None
    context = Resume(
        workflow_wait_kind="condition",
        open_wait_id=wait.wait_id,
        resume_source_kind="timer",
        resume_source_id=wait.timer_id,
        timer_id=wait.timer_id,
        condition_wait_id=wait.wait_id,
        condition_key=wait.key,
        condition_definition_fingerprint=wait.fingerprint,
        workflow_sequence=wait.step,
        workflow_event_type="TimerFired",
    )
    wake_workflow(tx, context, wait.step)


def _keys(wait: Wait) -> dict[str, Any]:
    return {
        "condition_wait_id": wait.wait_id,
        "condition_key": wait.key,
        "condition_definition_fingerprint": wait.fingerprint,
    }


def timer_keys(wait: Wait) -> dict[str, Any]:
    """The keys that name the timer of a wait in its events."""
    return {
        "timer_id": wait.timer_id,
        "timer_kind": "condition_timeout",
        **_keys(wait),
        "delay_seconds": wait.timeout_seconds,
        "fire_at": None if wait.timeout_at is None else iso(wait.timeout_at),
    }
