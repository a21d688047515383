"""Runs that a schedule begins: what they record, and what they tell it (operations 1.5, 1.6)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run import ids
from actors.run.commands.control import CancelRun, TerminateRun
from actors.run.commands.messages import ScheduleNews, StartScheduledRun
from actors.run.commands.steps import FailWorkflow, WorkflowCommand
from actors.run.commands.worker import ClaimTask
from actors.run.replies import WorkflowTaskGrant
from actors.run.state import ScheduledBy
from tests.core.harness import PLAIN, RunModel, completion, finish, onward, start_command

KEY = ids.mint(0, ids.derived_run_key(7, "schedule"), ids.SCHEDULE)
TRIGGERED: dict[str, Any] = {
    "schedule_id": "nightly",
    "schedule_ulid": "01kp",
    "cron_expression": "0 3 * * *",
    "timezone": "UTC",
    "overlap_policy": "skip",
    "trigger_number": 4,
    "occurrence_time": "2026-05-01T03:00:00.000000+00:00",
}
COMMAND = StartScheduledRun(start_command(), ScheduledBy(KEY, "record", 4), TRIGGERED)


def told(run: RunModel) -> list[str]:
    """What the last command had its schedule told."""
    found: list[str] = []
    for message in run.messages:
        if isinstance(message.command, ScheduleNews):
            assert message.run_id == KEY and (message.command.record_id, message.command.number) == ("record", 4)
            found.append(message.command.what)
    return found


def claimed(run: RunModel) -> WorkflowTaskGrant:
    (task_id,) = run.rows
    return run.expect(WorkflowTaskGrant, ClaimTask(task_id, PLAIN))


def test_it_records_what_the_schedule_did_behind_its_start_and_tells_it() -> None:
    run = RunModel.scheduled(COMMAND)
    assert run.new_types == ["StartAccepted", "WorkflowStarted", "ScheduleTriggered"]
    assert run.new[2]["payload"] == TRIGGERED
    assert told(run) == ["started"]
    assert len(run.rows) == 1


def test_a_start_that_is_told_again_changes_nothing() -> None:
    run = RunModel.scheduled(COMMAND)
    run.tell(COMMAND)
    assert not run.changed and not run.messages


@pytest.mark.parametrize("step", [finish(), FailWorkflow("no")], ids=["completed", "failed"])
def test_its_own_end_is_told(step: WorkflowCommand) -> None:
    run = RunModel.scheduled(COMMAND)
    run.tell(completion(claimed(run), step))
    assert told(run) == ["closed"]


@pytest.mark.parametrize("command", [CancelRun(), TerminateRun()], ids=["cancelled", "terminated"])
def test_an_end_from_outside_is_told(command: CancelRun | TerminateRun) -> None:
    run = RunModel.scheduled(COMMAND)
    run.tell(command)
    assert told(run) == ["closed"]


def test_the_last_run_of_a_chain_tells_the_end() -> None:
    first = RunModel.scheduled(COMMAND)
    first.tell(completion(claimed(first), onward()))
    assert told(first) == []
    second = first.successor
    assert second is not None and second.state.scheduled == COMMAND.scheduled and told(second) == []
    second.tell(completion(claimed(second), finish()))
    assert told(second) == ["closed"]


def test_a_run_without_a_schedule_tells_nothing() -> None:
    run = RunModel()
    run.tell(TerminateRun())
    assert not run.messages
