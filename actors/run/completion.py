"""The completion of a workflow task: one batch of commands, all or nothing (contract engine-semantics 3)."""

from __future__ import annotations

from actors.run import activities, closing, limits, tasks, timers
from actors.run.causes import follow_up
from actors.run.commands import (
    TERMINAL_STEPS,
    CompleteWorkflow,
    CompleteWorkflowTask,
    FailWorkflow,
    ScheduleActivity,
    StartTimer,
    Steps,
)
from actors.run.replies import Refused, RunReply, WorkflowTaskCompleted
from actors.run.transition import Transition

BLOCKING_STEPS = (ScheduleActivity, StartTimer)


def complete(tx: Transition, command: CompleteWorkflowTask) -> RunReply:
    """Apply one batch of commands, all or nothing (engine-semantics 3)."""
    task, refused = tasks.guard(tx, command)
    if task is None:
        assert refused is not None
        return refused
    state = tx.state
    steps = command.steps
    terminal = [step for step in steps if isinstance(step, TERMINAL_STEPS)]
    if len(terminal) > 1:
        return Refused("invalid_commands", {"error": "A batch may hold one terminal command."})
    if tasks.overdue(state, tx.now):
        closing.time_out(tx)
        return Refused("run_timed_out")
    blocking = [step for step in steps if isinstance(step, BLOCKING_STEPS)]
    repeated = not terminal and len(blocking) == len(steps) and tx.shown.repeats(state, blocking)
    if not repeated:
        exceeded = limits.exceeded(state, steps, tx.rules)
        if exceeded is not None:
            return Refused("structural_limit_exceeded", exceeded)

    first_created = len(tx.created)
    tx.task_id = task.task_id
    if not repeated:
        apply(tx, steps)
    task.status = "completed"
    task.lease_expires_at = 0
    state.last_progress_at = tx.now
    tx.changed = True
    for end in terminal:
        finish(tx, end)
    tx.task_id = None
    if state.is_open:
        state.status = "waiting"
        following = follow_up(tx)
        if following is not None:
            tx.created.append(following)
    return WorkflowTaskCompleted(state.run_id, state.status, tx.created[first_created:])


def apply(tx: Transition, steps: list[Steps]) -> None:
    """The non-terminal commands of a batch, in list order."""
    blocking: list[Steps] = []
    numbers: list[int] = []
    for step in steps:
        if isinstance(step, TERMINAL_STEPS):
            continue
        number = tx.next_step()
        if isinstance(step, ScheduleActivity):
            tx.created.append(activities.schedule(tx, step, number))
        elif isinstance(step, StartTimer):
            tx.created.append(timers.start(tx, step, number))
        blocking.append(step)
        numbers.append(number)
    if numbers:
        tx.shown.batch(tx.state, blocking, numbers)
        tx.state.fan_out = max(tx.state.fan_out, len(numbers))


def finish(tx: Transition, end: Steps) -> None:
    """The terminal command of a batch."""
    if isinstance(end, CompleteWorkflow):
        closing.complete(tx, end)
    elif isinstance(end, FailWorkflow):
        closing.fail(tx, end)
