"""The completion of a workflow task: one batch of commands, all or nothing (contract engine-semantics 3)."""

from __future__ import annotations

from actors.run import limits
from actors.run.activity import scheduling
from actors.run.commands.steps import (
    GROUPED_STEPS,
    TERMINAL_STEPS,
    CompleteUpdate,
    CompleteWorkflow,
    ContinueAsNew,
    FailUpdate,
    FailWorkflow,
    OpenConditionWait,
    RecordSideEffect,
    RecordVersionMarker,
    ScheduleActivity,
    StartChild,
    StartTimer,
    UpsertSearchAttributes,
    WorkflowCommand,
)
from actors.run.commands.worker import CompleteWorkflowTask
from actors.run.inbox import signals, updates
from actors.run.lifecycle import closing
from actors.run.next_task import next_workflow_task
from actors.run.payloads import all_in_codec
from actors.run.replies import Refused, WorkflowTaskCompleted
from actors.run.steps import children, condition_waits, markers, timers
from actors.run.transition import Transition
from actors.run.workflow_task import lease


def complete(tx: Transition, command: CompleteWorkflowTask) -> WorkflowTaskCompleted | Refused:
    """Apply one batch of commands, all or nothing (engine-semantics 3)."""
    task = lease.guard(tx, command)
    if isinstance(task, Refused):
        return task
    state = tx.state
    steps = all_in_codec(command.steps, state.payload_codec)
    terminal = [step for step in steps if isinstance(step, TERMINAL_STEPS)]
    if len(terminal) > 1:
        return _invalid(tx, "A batch may hold one terminal command.")
    fault = updates.fault(tx, task, steps)
    if fault is not None:
        return _invalid(tx, fault)
    if lease.overdue(state, tx.now):
        closing.time_out(tx)
        return Refused("run_timed_out", {"run_id": state.run_id, "run_status": state.status})
    normal = task.update_id is None
    repeated = (
        normal and not terminal and all(isinstance(step, GROUPED_STEPS) for step in steps) and tx.dialect.repeats(state, steps)
    )
    if not repeated:
        exceeded = limits.exceeded(tx, steps)
        if exceeded is not None:
            return Refused("structural_limit_exceeded", exceeded)

    first_created = len(tx.created)
    tx.task_id = task.task_id
    waited = state.wait is not None
    if repeated:
        steps = []
    elif normal:
        steps = list(condition_waits.settle(tx, task, steps))
    apply(tx, steps)
    task.status = "completed"
    task.lease_expires_at = 0
    state.last_progress_at = tx.stamp
    tx.changed = True
    if normal:
        state.begun = True
        signals.apply_seen(tx, task, waited)
        tx.dialect.seen(state, task)
    for end in terminal:
        finish(tx, end)
    tx.task_id = None
    if state.is_open:
        state.status = "waiting"
        following = next_workflow_task(tx)
        if following is not None:
            tx.created.append(following)
    return WorkflowTaskCompleted(state.run_id, state.status, tx.created[first_created:])


def _invalid(tx: Transition, error: str) -> Refused:
    state = tx.state
    return Refused("invalid_commands", {"run_id": state.run_id, "run_status": state.status, "error": error})


def apply(tx: Transition, steps: list[WorkflowCommand]) -> None:
    """The non-terminal commands of a batch, in list order."""
    group: list[WorkflowCommand] = []
    numbers: list[int] = []
    for step in steps:
        if isinstance(step, TERMINAL_STEPS):
            continue
        if isinstance(step, CompleteUpdate):
            updates.complete(tx, step)
        elif isinstance(step, FailUpdate):
            updates.fail(tx, step)
        else:
            number = tx.next_step()
            apply_step(tx, step, number)
            if isinstance(step, GROUPED_STEPS):
                group.append(step)
                numbers.append(number)
    if numbers:
        tx.dialect.batch(tx.state, group, numbers)
        tx.state.fan_out = max(tx.state.fan_out, len(numbers))


def apply_step(tx: Transition, step: WorkflowCommand, number: int) -> None:
    """One step under its number; the task ids it creates go to the answer."""
    match step:
        case ScheduleActivity():
            tx.created.append(scheduling.schedule(tx, step, number))
        case StartTimer():
            tx.created.append(timers.start(tx, step, number))
        case StartChild():
            tx.created.append(children.start(tx, step, number))
        case OpenConditionWait():
            timer_task = condition_waits.open_wait(tx, step, number)
            if timer_task is not None:
                tx.created.append(timer_task)
        case RecordSideEffect():
            markers.side_effect(tx, step, number)
        case RecordVersionMarker():
            markers.version_marker(tx, step, number)
        case UpsertSearchAttributes():
            markers.search_attributes(tx, step, number)


def finish(tx: Transition, end: WorkflowCommand) -> None:
    """The terminal command of a batch."""
    match end:
        case CompleteWorkflow():
            closing.complete(tx, end)
        case FailWorkflow():
            closing.fail(tx, end)
        case ContinueAsNew():
            tx.created.append(closing.continue_as_new(tx, end))
