"""Cancel, terminate, repair and archive, and what workers hear of them (engine-semantics 2.5, 9.1, 9.2, 9.4, 9.5)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run.commands import WakeUp
from actors.run.commands.control import ArchiveRun, CancelRun, RepairRun, TerminateRun
from actors.run.commands.steps import FailWorkflow, StartTimer, WorkflowCommand
from actors.run.commands.worker import CheckLease, ClaimTask, FailWorkflowTask, HeartbeatActivity, HeartbeatWorkflowTask
from actors.run.replies import ActivityProgress, CommandAnswered, Refused
from tests.core.family import CMD, SECOND, WAIT_TIMER, Family, keys, refused, rejected, types
from tests.core.harness import (
    PLAIN,
    PYTHON,
    START,
    RunModel,
    activity,
    child,
    completion,
    failure_of,
    finish,
    page_of,
    result_of,
    shown_events,
    wait,
)

STOPS: dict[str, Any] = {"cancelled": CancelRun, "terminated": TerminateRun}
VERBS = {"cancelled": "cancel", "terminated": "terminate"}
FIRST = {"cancelled": "CancelRequested", "terminated": "TerminateRequested"}
LAST = {"cancelled": "WorkflowCancelled", "terminated": "WorkflowTerminated"}
ENDED = CMD | {"failure_id", "failure_category", "closed_reason", "exception_class", "message"}
NAMED = {"activity_execution_id", "activity_class", "activity_type", "sequence"}
ATTEMPT = {"activity_attempt_id", "attempt_number"}


# -- cancel and terminate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", STOPS)
@pytest.mark.parametrize("reason", ["changed my mind", None])
def test_the_two_events_of_a_stop(word: str, reason: str | None) -> None:
    run = RunModel()
    answer = run.expect(CommandAnswered, STOPS[word](reason=reason))
    assert (answer.outcome, answer.rejection, answer.reason, answer.command_sequence) == (word, None, reason, 2)
    requested, ended = run.new
    assert run.new_types == [FIRST[word], LAST[word]]
    extra = set() if reason is None else {"reason"}
    assert keys(requested) == CMD | {"command_type"} | extra and keys(ended) == ENDED | extra
    assert requested["payload"]["command_type"] == VERBS[word]
    payload = ended["payload"]
    assert payload["failure_category"] == payload["closed_reason"] == word
    assert payload["message"] == (f"Workflow {word}." if reason is None else f"Workflow {word}: {reason}")
    assert payload["exception_class"].endswith(f"Workflow{word.capitalize()}Exception") and payload.get("reason") == reason
    for event in run.new:
        assert event["workflow_command_id"] == event["payload"]["workflow_command_id"] == answer.command_id
    state = run.state
    assert (state.status, state.closed_reason, state.closed_at) == (word, word, run.now)
    assert run.rows == {} and run.wake_at is None


@pytest.mark.parametrize("word", STOPS)
def test_everything_unfinished_ends_in_its_place(word: str) -> None:
    family = Family(RunModel(run_timeout_seconds=900))
    run = family.root
    steps: list[WorkflowCommand] = [
        StartTimer(50),
        activity("b"),
        child(parent_close_policy="terminate"),
        wait(timeout=60),
        StartTimer(40),
        activity("a"),
    ]
    run.batch(*steps, worker=PLAIN)
    family.deliver(run)
    running = run.claim_activity()
    update = run.update()
    run.claim()
    answer = run.expect(CommandAnswered, STOPS[word]())
    assert run.new_types == [
        FIRST[word],
        "ActivityCancelled",
        "ActivityCancelled",
        "TimerCancelled",
        "TimerCancelled",
        "TimerCancelled",
        LAST[word],
        "UpdateCompleted",
        "ParentClosePolicyApplied",
    ]
    assert [event["payload"].get("sequence") for event in run.new] == [None, 2, 6, 1, 4, 5, None, None, None]
    begun, waiting = run.new[1:3]
    assert keys(begun) == NAMED | ATTEMPT | {"workflow_command_id", "cancelled_at"}
    assert begun["payload"]["activity_attempt_id"] == running.activity_attempt_id
    assert keys(waiting) == NAMED | {"workflow_command_id", "cancelled_at"}
    assert keys(run.new[3]) == {"timer_id", "sequence", "delay_seconds", "fire_at", "cancelled_at"}
    assert keys(run.new[4]) == WAIT_TIMER | {"cancelled_at"}
    assert all(event["workflow_command_id"] == answer.command_id for event in run.new[:7])
    assert run.new[7]["payload"]["update_id"] == update.update_id and run.new[7]["payload"]["terminal_reason"] == word
    assert run.rows == {} and run.wake_at is None and run.wake() == Refused("nothing_due")
    assert run.state.timers == {} and run.state.wait is None and run.state.task is not None


def test_a_deadline_cancels_without_a_command() -> None:
    run = RunModel(run_timeout_seconds=30)
    run.batch(activity(), StartTimer(60))
    run.pass_time(30)
    run.wake()
    assert keys(run.new[0]) == NAMED | {"cancelled_at"} and run.new[0]["workflow_command_id"] is None


@pytest.mark.parametrize("word", STOPS)
def test_workers_of_a_stopped_run_hear_of_it(word: str) -> None:
    run = RunModel()
    run.batch(activity(), StartTimer(0))
    attempt = run.claim_activity()
    run.wake()
    grant = run.claim()
    run.tell(STOPS[word]())
    fence = (grant.task_id, grant.lease_owner, grant.workflow_task_attempt)
    for call in (
        completion(grant, finish()),
        FailWorkflowTask(*fence, message="no"),
        HeartbeatWorkflowTask(*fence),
        CheckLease(*fence),
        page_of(grant, 0),
    ):
        detail = refused(run, call, "run_closed")
        assert (detail["stop_reason"], detail["cancel_requested"], detail["can_continue"]) == (f"run_{word}", True, False)
        assert (detail["run_status"], detail["run_closed_reason"], detail["task_status"]) == (word, word, "cancelled")
        assert detail["lease_owner"] == grant.lease_owner and detail["run_closed_at"] == "2026-04-20T09:15:00.250000Z"
    for outcome in (result_of(attempt), failure_of(attempt)):
        detail = refused(run, outcome, f"run_{word}")
        assert (detail["cancel_requested"], detail["can_continue"], detail["run_status"]) == (True, False, word)
        assert detail["activity_status"] == detail["attempt_status"] == detail["task_status"] == "cancelled"
    beat = run.expect(
        ActivityProgress, HeartbeatActivity(attempt.task_id, attempt.activity_attempt_id, attempt.lease_owner, {"current": 1})
    )
    assert (beat.reason, beat.cancel_requested, beat.can_continue, beat.heartbeat_recorded) == (
        f"run_{word}",
        True,
        False,
        False,
    )
    assert not run.changed


def test_tasks_of_a_stopped_run_are_not_granted() -> None:
    run = RunModel()
    run.batch(activity(), StartTimer(0))
    run.wake()
    tasks = list(run.rows)
    run.tell(CancelRun())
    assert len(tasks) == 2
    for task_id in tasks:
        refused(run, ClaimTask(task_id, PYTHON), "not_ready")


@pytest.mark.parametrize("word", STOPS)
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_closed_run_is_not_stopped(word: str, end: str) -> None:
    run = RunModel()
    if end == "cancelled":
        run.tell(CancelRun())
    else:
        run.batch(finish() if end == "completed" else FailWorkflow("no"))
    rejected(run, STOPS[word](reason="late"), "run_not_active", "rejected_not_active")
    assert run.state.status == end


# -- repair ------------------------------------------------------------------------------------------------------------

REPAIRED = CMD | {"command_type", "outcome", "liveness_state", "wait_kind"}


def healthy(how: str) -> RunModel:
    """An open run that needs nothing."""
    run = RunModel()
    if how == "leased":
        run.claim()
    elif how != "ready":
        steps: dict[str, WorkflowCommand] = {
            "wait": wait(timeout=60),
            "timer": StartTimer(60),
            "activity": activity(),
            "child": child(),
        }
        run.batch(steps[how])
    return run


@pytest.mark.parametrize(
    ("how", "liveness", "kind"),
    [
        ("ready", "workflow_task_ready", "workflow-task"),
        ("leased", "workflow_task_leased", "workflow-task"),
        ("wait", "waiting_for_condition", "condition"),
        ("timer", "timer_scheduled", "timer"),
        ("activity", "activity_task_ready", "activity"),
        ("child", "waiting_for_child", "child"),
    ],
)
def test_repair_of_a_healthy_run_is_only_recorded(how: str, liveness: str, kind: str) -> None:
    run = healthy(how)
    before, rows, due = run.state, dict(run.rows), run.wake_at
    answer = run.expect(CommandAnswered, RepairRun())
    assert (answer.outcome, answer.rejection, answer.command_sequence) == ("repair_not_needed", None, 2)
    assert run.new_types == ["RepairRequested"] and (run.rows, run.wake_at) == (rows, due)
    task = before.open_task
    assert keys(run.new[0]) == REPAIRED | (set() if task is None else {"task_id", "task_type"})
    payload = run.new[0]["payload"]
    assert (payload["command_type"], payload["outcome"]) == ("repair", "repair_not_needed")
    assert (payload["liveness_state"], payload["wait_kind"]) == (liveness, kind)
    assert payload["workflow_command_id"] == run.new[0]["workflow_command_id"] == answer.command_id
    after = run.state
    assert (after.task, after.wait, after.timers, after.status) == (before.task, before.wait, before.timers, before.status)


def test_repair_skips_the_backoff_of_a_failed_task() -> None:
    run = RunModel()
    grant = run.claim()
    run.tell(FailWorkflowTask(grant.task_id, grant.lease_owner, 1, message="boom"))
    assert run.row("workflow").available_at == START + 3 * SECOND and run.new == []
    answer = run.expect(CommandAnswered, RepairRun())
    assert answer.outcome == "repair_dispatched" and run.row("workflow").available_at == START
    assert keys(run.new[0]) == REPAIRED | {"task_id", "task_type"}
    payload = run.new[0]["payload"]
    assert (payload["liveness_state"], payload["task_id"], payload["task_type"]) == (
        "workflow_replay_blocked",
        grant.task_id,
        "workflow",
    )
    again = run.claim()
    assert (again.task_id, again.workflow_task_attempt) == (grant.task_id, 2)
    assert [event["event_type"] for event in shown_events(again)][2:] == ["RepairRequested"]


def test_repair_puts_an_expired_lease_back() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(60)
    answer = run.expect(CommandAnswered, RepairRun())
    assert answer.outcome == "repair_dispatched" and run.new_types == ["RepairRequested"]
    assert run.new[0]["payload"]["liveness_state"] == "repair_needed"
    assert run.row("workflow").task_id == grant.task_id and run.state.status == "pending"
    assert run.claim().workflow_task_attempt == 2
    assert run.expect(CommandAnswered, RepairRun()).outcome == "repair_not_needed"


def test_a_lease_recovered_by_time_names_no_command() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(60)
    run.tell(WakeUp())
    assert keys(run.new[0]) == (REPAIRED - {"workflow_command_id"}) | {"task_id", "task_type"}
    assert run.new[0]["payload"]["task_id"] == grant.task_id and run.new[0]["workflow_command_id"] is None
    assert run.state.command_sequence == 1


def test_a_closed_run_is_not_repaired() -> None:
    run = RunModel()
    run.tell(CancelRun())
    rejected(run, RepairRun(), "run_not_active", "rejected_not_active")


# -- archive -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "terminated", "timed_out"])
@pytest.mark.parametrize("reason", ["tidy", None])
def test_archiving_a_closed_run(end: str, reason: str | None) -> None:
    run = RunModel(run_timeout_seconds=30)
    if end in STOPS:
        run.tell(STOPS[end]())
    elif end == "timed_out":
        run.pass_time(30)
        run.wake()
    else:
        run.batch(finish() if end == "completed" else FailWorkflow("no"))
    closed = run.state
    extra = set() if reason is None else {"reason"}
    for first in (True, False):
        answer = run.expect(CommandAnswered, ArchiveRun(reason=reason))
        outcome = "archived" if first else "archive_not_needed"
        assert (answer.outcome, answer.rejection, answer.reason) == (outcome, None, reason)
        assert run.new_types == (["ArchiveRequested", "WorkflowArchived"] if first else ["ArchiveRequested"])
        assert keys(run.new[0]) == CMD | {"command_type", "outcome"} | extra
        assert run.new[0]["payload"]["outcome"] == outcome and run.new[0]["payload"]["command_type"] == "archive"
        if first:
            assert keys(run.new[1]) == CMD | {"archive_command_id"} | extra
            assert run.new[1]["payload"]["archive_command_id"] == answer.command_id
    assert run.state.archived and run.state.closed_at == closed.closed_at and run.state.status == closed.status
    assert types(run).count("WorkflowArchived") == 1


def test_an_open_run_is_not_archived() -> None:
    run = RunModel()
    rejected(run, ArchiveRun(reason="tidy"), "run_not_closed", "rejected_run_not_closed")
    run.batch(wait())
    rejected(run, ArchiveRun(), "run_not_closed", "rejected_run_not_closed")
    assert not run.state.archived


def test_commands_are_numbered_in_one_row() -> None:
    run = RunModel()
    run.batch(wait())
    signal, update = run.signal(), run.update()
    numbers = [signal.command_sequence, update.command_sequence]
    named = {signal.command_id, update.command_id}
    for command in (RepairRun(), ArchiveRun(), CancelRun(), CancelRun(), ArchiveRun()):
        answer = run.expect(CommandAnswered, command)
        numbers.append(answer.command_sequence)
        named.add(answer.command_id)
    assert numbers == [2, 3, 4, 5, 6, 7, 8] and len(named) == 7
