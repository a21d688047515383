"""Repair: the one command of the control plane that touches tasks (contract engine-semantics 9.4)."""

from __future__ import annotations

from actors.run import requests
from actors.run.commands.control import RepairRun
from actors.run.next_task import next_workflow_task
from actors.run.replies import CommandAnswered
from actors.run.transition import Transition
from actors.run.views.waiting import waiting
from actors.run.workflow_task import lease


def repair(tx: Transition, command: RepairRun) -> CommandAnswered:
    """Get a stuck run going again; never touches a valid lease or a result."""
    state = tx.state
    if not state.is_open:
        return requests.not_active(tx)
    numbered = requests.number(tx)
    found = waiting(state, tx.now)
    task = state.open_task
    dispatched = tx.set_right
    if task is None:
        dispatched = next_workflow_task(tx) is not None or dispatched
    elif task.status == "leased":
        if task.lease_expires_at <= tx.now:
            lease.make_ready(tx, task)
            task.repairs += 1
            dispatched = True
    elif task.available_at > tx.now:
        task.available_at = tx.now
        tx.withdraw(task.task_id)
        tx.offer_workflow_task()
        dispatched = True
    outcome = "repair_dispatched" if dispatched else "repair_not_needed"
    open_task = state.open_task
    tx.record(
        "RepairRequested",
        {
            **requests.command_keys(tx, numbered[0]),
            "command_type": "repair",
            "outcome": outcome,
            "liveness_state": found.liveness,
            "wait_kind": found.kind,
            "task_id": None if open_task is None else open_task.task_id,
            "task_type": None if open_task is None else "workflow",
            "command": requests.snapshot(tx, numbered, command, outcome, applied=True),
        },
        command_id=numbered[0],
    )
    return requests.accepted(tx, numbered, outcome)
