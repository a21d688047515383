"""The pure heart: (state, command, time) -> (changed state, events, task rows, reply).

`decide` changes the state inside the transition only after everything that can refuse the command has been checked; a reply
`Refused` may still come with a change the contract asks for (an expired lease is recovered, a passed deadline enforced).
"""

from __future__ import annotations

from actors.run import (
    activities,
    children,
    closing,
    completion,
    control,
    ids,
    outcomes,
    queries,
    signals,
    starting,
    tasks,
    timers,
    updates,
    waits,
)
from actors.run.commands import (
    ArchiveRun,
    CancelRun,
    ChildClosed,
    ChildRestarted,
    ClaimTask,
    CompleteActivity,
    CompleteUpdate,
    CompleteWorkflowTask,
    ContinueAsNew,
    FailActivity,
    FailWorkflowTask,
    HeartbeatActivity,
    HeartbeatWorkflowTask,
    NoteDuplicateStart,
    ParentClosed,
    ReadForQuery,
    ReadHistoryPage,
    ReadUpdate,
    ReleaseClaim,
    RepairRun,
    RereadClaim,
    RunCommand,
    SignalRun,
    StartChildRun,
    StartRun,
    TerminateRun,
    UpdateRun,
    WakeUp,
)
from actors.run.replies import Done, Refused, RunReply
from actors.run.transition import Transition

# These read the run's history; the host loads it before they are decided.
READS_HISTORY = (ClaimTask, RereadClaim, ReadHistoryPage, ReadUpdate, ReadForQuery)
_STEPS_READING_HISTORY = (ContinueAsNew, CompleteUpdate)


def needs_history(command: RunCommand) -> bool:
    """Whether deciding this command may read the run's events, which the host then loads first.

    A child with a retry policy needs them whenever it may close (`RunState.origin`).
    """
    if isinstance(command, CompleteWorkflowTask):
        return any(isinstance(step, _STEPS_READING_HISTORY) for step in command.steps)
    return isinstance(command, READS_HISTORY)


def decide(tx: Transition, command: RunCommand) -> RunReply:
    """Decide one command inside `tx`; the reply is for its sender once `tx` is committed."""
    match command:
        case ClaimTask():
            if ids.kind_of(command.task_id) == ids.ACTIVITY_TASK:
                return activities.claim(tx, command)
            return tasks.claim(tx, command)
        case CompleteWorkflowTask():
            return completion.complete(tx, command)
        case CompleteActivity():
            return outcomes.complete(tx, command)
        case StartRun():
            return starting.begin(tx, command)
        case FailActivity():
            return outcomes.fail(tx, command)
        case HeartbeatActivity():
            return activities.heartbeat(tx, command)
        case HeartbeatWorkflowTask():
            return tasks.heartbeat(tx, command)
        case ReadHistoryPage():
            return tasks.history_page(tx, command)
        case FailWorkflowTask():
            return tasks.fail(tx, command)
        case WakeUp():
            return wake_up(tx)
        case ReleaseClaim():
            if ids.kind_of(command.task_id) == ids.ACTIVITY_TASK:
                return activities.release(tx, command)
            return tasks.release(tx, command)
        case RereadClaim():
            if ids.kind_of(command.task_id) == ids.ACTIVITY_TASK:
                return activities.reread(tx, command)
            return tasks.reread(tx, command)
        case NoteDuplicateStart():
            return starting.duplicate(tx, command)
        case SignalRun():
            return signals.receive(tx, command)
        case UpdateRun():
            return updates.accept(tx, command)
        case ReadUpdate():
            return updates.read(tx, command)
        case ReadForQuery():
            return queries.view(tx, command)
        case CancelRun() | TerminateRun():
            return control.stop(tx, command)
        case RepairRun():
            return control.repair(tx, command)
        case ArchiveRun():
            return control.archive(tx, command)
        case StartChildRun():
            return starting.begin_child(tx, command)
        case ChildRestarted():
            return children.restarted(tx, command)
        case ChildClosed():
            return children.closed(tx, command)
        case ParentClosed():
            return control.parent_closed(tx, command)


def wake_up(tx: Transition) -> RunReply:
    """Enforce every deadline that has passed (engine-semantics 4.4, 5.3, 6.1, 9.3)."""
    state = tx.state
    if not state.is_open:
        return Refused("nothing_due")
    if tasks.overdue(state, tx.now):
        closing.time_out(tx)
        return Done()
    timers.fire(tx)
    waits.time_out(tx)
    outcomes.enforce(tx)
    task = state.open_task
    if task is not None and task.status == "leased" and task.lease_expires_at <= tx.now:
        tasks.recover(tx, task)
    # Refused, so that a state which is behind its row is noticed instead of being woken again and again.
    return Done() if tx.changed else Refused("nothing_due")
