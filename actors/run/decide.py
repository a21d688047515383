"""The pure heart: (state, command, time) -> (changed state, events, task rows, reply).

`decide` changes the state inside the transition only after everything that can refuse the command has been checked; a reply
`Refused` may still come with a change the contract asks for (an expired lease is recovered, a passed deadline enforced).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from actors.run import ids, repair, setback
from actors.run.activity import outcomes, scheduling
from actors.run.commands import WakeUp
from actors.run.commands.base import Command
from actors.run.commands.control import (
    ArchiveRun,
    CancelRun,
    NoteDuplicateStart,
    ReadForQuery,
    ReadUpdate,
    RepairRun,
    SignalRun,
    StartRun,
    TerminateRun,
    UpdateRun,
)
from actors.run.commands.messages import ChildClosed, ChildRestarted, ParentClosed, StartChildRun, StartScheduledRun
from actors.run.commands.steps import CompleteUpdate, ContinueAsNew, StartChild
from actors.run.commands.worker import (
    CheckLease,
    ClaimTask,
    CompleteActivity,
    CompleteWorkflowTask,
    FailActivity,
    FailWorkflowTask,
    HeartbeatActivity,
    HeartbeatWorkflowTask,
    ReadHistoryPage,
    ReleaseClaim,
    RereadClaim,
)
from actors.run.inbox import signals, updates
from actors.run.lifecycle import closing, starting, stopping
from actors.run.replies import Done, Refused
from actors.run.state import RunState
from actors.run.steps import children, condition_waits, timers
from actors.run.transition import Transition
from actors.run.workflow_task import completion, lease, query_view

Handler = Callable[[Transition, Any], Any]  # what each answers, its command says: tests/core/test_replies.py
R = TypeVar("R")

# These read the run's history; the host loads it before they are decided.
READS_HISTORY = (ClaimTask, RereadClaim, ReadHistoryPage, ReadUpdate, ReadForQuery)
_STEPS_READING_HISTORY = (ContinueAsNew, CompleteUpdate)
_WITH_A_MEMO = (*_STEPS_READING_HISTORY, StartChild)  # which inherits it


def needs_history(command: Command[Any], state: RunState) -> bool:
    """Whether deciding this command may read the run's events, which the host then loads first."""
    if state.origin is not None:
        return True  # a child that may be tried again needs its input when it closes
    if isinstance(command, CompleteWorkflowTask):
        reading = _STEPS_READING_HISTORY if not state.memo_bytes else _WITH_A_MEMO
        return any(isinstance(step, reading) for step in command.steps)
    return isinstance(command, READS_HISTORY)


def reads_what_stays(command: Command[Any]) -> bool:
    """Whether the answer to this command, when it changes nothing, is as good from a state that is out of date: recorded events
    stay as they are. All other answers must come from the run as it is stored.
    """
    return isinstance(command, ReadHistoryPage)


def decide(tx: Transition, command: Command[R]) -> R | Refused:
    """Decide one command inside `tx`; the reply is for its sender once `tx` is committed."""
    if tx.state.recorded_at > tx.now + setback.TOLERANCE:
        setback.follow(tx)
    reply: R | Refused = HANDLERS[type(command)](tx, command)
    if tx.state.recorded_at > tx.now + setback.TOLERANCE:
        setback.follow(tx)  # perhaps only now: the command recorded what history had promised for later
    return reply


def _by_kind(on_activity: Handler, on_workflow: Handler) -> Handler:
    def handle(tx: Transition, command: Any) -> Any:
        return (on_activity if ids.kind_of(command.task_id) == ids.ACTIVITY_TASK else on_workflow)(tx, command)

    return handle


def wake_up(tx: Transition, _: WakeUp) -> Done | Refused:
    """Enforce every deadline that has passed (engine-semantics 4.4, 5.3, 6.1, 9.3)."""
    state = tx.state
    if not state.is_open:
        return Refused("nothing_due")
    if lease.overdue(state, tx.now):
        closing.time_out(tx)
        return Done()
    timers.fire(tx)
    condition_waits.time_out(tx)
    outcomes.enforce(tx)
    task = state.open_task
    if task is not None and task.status == "leased" and task.lease_expires_at <= tx.now:
        lease.recover(tx, task)
    # Refused, so that a state which is behind its row is noticed instead of being woken again and again.
    return Done() if tx.changed else Refused("nothing_due")


HANDLERS: dict[type, Handler] = {
    StartRun: starting.begin,
    NoteDuplicateStart: starting.duplicate,
    ClaimTask: _by_kind(scheduling.claim, lease.claim),
    RereadClaim: _by_kind(scheduling.reread, lease.reread),
    ReleaseClaim: _by_kind(scheduling.release, lease.release),
    CompleteWorkflowTask: completion.complete,
    FailWorkflowTask: lease.fail,
    HeartbeatWorkflowTask: lease.heartbeat,
    CheckLease: lease.check,
    ReadHistoryPage: lease.history_page,
    CompleteActivity: outcomes.complete,
    FailActivity: outcomes.fail,
    HeartbeatActivity: scheduling.heartbeat,
    WakeUp: wake_up,
    SignalRun: signals.receive,
    UpdateRun: updates.accept,
    ReadUpdate: updates.read,
    ReadForQuery: query_view.view,
    CancelRun: stopping.stop,
    TerminateRun: stopping.stop,
    RepairRun: repair.repair,
    ArchiveRun: stopping.archive,
    StartChildRun: starting.begin_child,
    StartScheduledRun: starting.begin_scheduled,
    ChildRestarted: children.restarted,
    ChildClosed: children.closed,
    ParentClosed: stopping.parent_closed,
}
