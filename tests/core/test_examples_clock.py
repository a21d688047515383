"""A run while its clock goes back and forth: recorded times never go back, what is due is judged by the clock as it is now."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run.commands import WakeUp
from actors.run.commands.control import RepairRun
from actors.run.commands.messages import StartChildRun
from actors.run.commands.steps import FailWorkflow, StartTimer
from actors.run.commands.worker import ClaimTask, FailWorkflowTask, HeartbeatActivity, RereadClaim
from actors.run.replies import ActivityProgress, ActivityTaskGrant, CommandAnswered, Done, NotDue, Refused, WorkflowTaskFailed
from actors.run.state import decode, encode
from tests.core.harness import (
    OTHER,
    PYTHON,
    START,
    RunModel,
    activity,
    child,
    failure_of,
    finish,
    onward,
    retrying,
    wait,
)
from tests.core.step_book import micros

HOUR = 3600
SECOND = 1_000_000


def ahead() -> RunModel:
    """A run whose start was recorded by a clock that was an hour ahead; it is right again now."""
    run = RunModel()
    assert run.state.recorded_at == START
    run.pass_time(-HOUR)
    return run


def in_order(run: RunModel) -> None:
    """Invariants 2, 12 and 14."""
    times = [micros(event["recorded_at"]) for event in run.events()]
    assert times == sorted(times)
    fire_at = {}
    for event in run.events():
        payload = event["payload"]
        if event["event_type"] == "TimerScheduled":
            fire_at[payload["timer_id"]] = micros(payload["fire_at"])
        elif event["event_type"] == "TimerFired":
            assert micros(event["recorded_at"]) >= fire_at[payload["timer_id"]], "14"
            assert micros(payload["fired_at"]) == micros(event["recorded_at"])


def due(run: RunModel) -> int:
    """When the run wants to be woken."""
    assert run.wake_at is not None
    return run.wake_at


def test_a_ready_task_is_claimable_at_once() -> None:
    run = ahead()
    grant = run.claim()
    assert grant.lease_expires_at == run.now + 60 * SECOND
    run.complete(grant, activity())
    run.succeed(run.claim_activity())
    run.batch(finish())
    assert run.state.status == "completed"
    assert run.state.closed_at == START == run.state.last_progress_at
    in_order(run)


def test_a_task_row_is_brought_nearer_by_the_next_look() -> None:
    run = ahead()
    assert run.row("workflow").available_at == START
    assert run.expect(Done, WakeUp())
    assert run.row("workflow").available_at == run.now
    assert run.expect(Refused, WakeUp()).reason == "nothing_due"


def test_small_differences_between_clocks_change_nothing() -> None:
    run = RunModel()
    run.batch(StartTimer(10))
    before = run.data
    run.pass_time(-0.9)
    assert run.expect(Refused, WakeUp()).reason == "nothing_due"
    assert run.data == before and due(run) == START + 10 * SECOND


def test_signals_and_waits_go_on() -> None:
    run = RunModel()
    run.batch(wait(timeout=30))
    run.pass_time(-HOUR)
    run.signal()
    assert run.row("workflow").available_at == run.now
    run.batch(wait(timeout=30))  # opened again: one more time-out, from now
    assert due(run) == run.now + 30 * SECOND
    run.pass_time(30)
    run.wake()
    assert run.new_types == ["TimerFired", "ConditionWaitTimedOut"]
    run.batch(finish())
    in_order(run)


@pytest.mark.parametrize("steps", [[StartTimer(5)], [wait(timeout=5)]])
def test_a_timer_made_while_the_clock_was_ahead_fires_after_its_delay(steps: list[StartTimer]) -> None:
    run = RunModel()
    run.batch(*steps)
    fire_at = START + 5 * SECOND
    run.pass_time(-HOUR)
    run.wake()
    assert due(run) == run.now + 5 * SECOND
    run.pass_time(4.999)
    assert run.expect(Refused, WakeUp()).reason == "nothing_due"
    run.pass_time(0.001)
    run.wake()
    fired = run.new[0]
    assert fired["event_type"] == "TimerFired"
    # History said when at the earliest: its own time goes on from there.
    assert micros(fired["payload"]["fire_at"]) == micros(fired["recorded_at"]) == fire_at
    run.batch(finish())
    in_order(run)


def test_a_timer_made_before_the_clock_went_ahead_keeps_its_time() -> None:
    run = RunModel()
    run.batch(StartTimer(2 * HOUR))
    run.pass_time(HOUR + 60)  # an hour of them is wrong
    run.signal()
    run.pass_time(-HOUR)
    run.wake()
    assert due(run) == START + 2 * HOUR * SECOND


def test_new_timers_are_reckoned_from_the_clock_that_is_right() -> None:
    run = ahead()
    run.batch(StartTimer(5), activity(schedule_to_close_timeout=7))
    assert due(run) == run.now + 5 * SECOND
    assert micros(run.new[0]["payload"]["fire_at"]) == run.now + 5 * SECOND
    run.pass_time(5)
    run.wake()
    assert run.new_types == ["TimerFired"]
    run.pass_time(2)
    run.wake()
    assert run.new_types == ["ActivityTimedOut"]
    in_order(run)


def test_a_lease_given_while_the_clock_was_ahead_ends() -> None:
    run = RunModel()
    run.claim()
    run.pass_time(-HOUR)
    run.wake()
    assert due(run) == run.now + 60 * SECOND
    run.pass_time(60)
    run.wake()
    assert run.new_types == ["RepairRequested"]
    run.batch(finish(), worker=OTHER)
    in_order(run)


def test_its_worker_still_completes_under_that_lease() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(-HOUR)
    run.complete(grant, finish())
    assert run.state.status == "completed"


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"schedule_to_start_timeout": 20}, None),
        ({"start_to_close_timeout": 20}, 20),
        ({"schedule_to_close_timeout": 20}, 20),
        ({"heartbeat_timeout": 20}, 20),
        ({}, 300),
    ],
)
def test_deadlines_of_activities_keep_their_length(options: dict[str, Any], seconds: int | None) -> None:
    for claimed in (False, True):
        run = RunModel()
        run.batch(activity(**options))
        if claimed:
            run.claim_activity()
        run.pass_time(-HOUR)
        run.wake()
        waits = set(options) & {"schedule_to_start_timeout", "schedule_to_close_timeout"}
        expected = seconds or 300 if claimed else 20 if waits else None
        assert run.wake_at == (None if expected is None else run.now + expected * SECOND), (options, claimed)
        if not claimed:
            assert isinstance(run.claim_activity(), ActivityTaskGrant)


@pytest.mark.parametrize("steps_back", [1, 3])
def test_a_retry_waits_for_its_backoff_and_no_longer(steps_back: int) -> None:
    run = RunModel()
    run.batch(activity(retry_policy=retrying(3, 10)))
    run.tell(failure_of(run.claim_activity()))
    retry_at = START + 10 * SECOND
    assert run.row("activity").available_at == retry_at
    for _ in range(steps_back):
        run.pass_time(-HOUR)
        run.wake()
    assert run.row("activity").available_at == run.now + 10 * SECOND
    run.pass_time(10)
    grant = run.claim_activity()
    assert micros(run.new[0]["recorded_at"]) == retry_at, "12: not before its backoff ended, as history has it"
    beat = HeartbeatActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner)
    assert run.expect(ActivityProgress, beat).lease_expires_at == run.now + 300 * SECOND
    run.succeed(grant)
    run.batch(finish())
    in_order(run)


def test_a_failed_workflow_task_waits_for_its_backoff_and_no_longer() -> None:
    run = RunModel()
    grant = run.claim()
    run.expect(WorkflowTaskFailed, FailWorkflowTask(grant.task_id, grant.lease_owner, 1, "bug"))
    run.pass_time(-HOUR)
    task_id = run.row("workflow").task_id
    assert run.tell(ClaimTask(task_id, PYTHON)) == NotDue(run.now + 3 * SECOND)
    run.pass_time(3)
    run.batch(finish())
    in_order(run)


def test_a_child_tried_again_waits_for_its_backoff_and_no_longer() -> None:
    parent = RunModel()
    parent.batch(child(retry_policy=retrying(2, 10)))
    begin = parent.messages[0].command
    assert isinstance(begin, StartChildRun)
    first = RunModel.child(begin, parent)
    first.batch(FailWorkflow("no"))
    second = first.successor
    assert second is not None and second.row("workflow").available_at == second.now + 10 * SECOND
    second.pass_time(-HOUR)
    second.wake()
    assert second.row("workflow").available_at == second.now + 10 * SECOND


def test_repair_says_that_it_repaired() -> None:
    run = ahead()
    answer = run.expect(CommandAnswered, RepairRun())
    assert answer.outcome == "repair_dispatched"
    assert run.row("workflow").available_at == run.now
    assert run.expect(CommandAnswered, RepairRun()).outcome == "repair_not_needed"


def test_the_next_run_has_the_time_of_the_clock() -> None:
    run = ahead()
    run.batch(onward())
    next_ = run.successor
    assert next_ is not None
    assert next_.state.started_at == next_.now and micros(next_.events()[0]["recorded_at"]) == next_.now
    next_.batch(finish())
    in_order(next_)


def test_a_lease_of_the_clock_that_was_ahead_is_read_again() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(-HOUR)
    again = run.tell(RereadClaim(grant.task_id, PYTHON, 1))
    assert not isinstance(again, Refused)


def test_a_state_stored_by_an_earlier_version_is_brought_nearer_too() -> None:
    """Those kept `created_at` and everything else by the clock that was ahead."""
    run = RunModel()
    run.batch(StartTimer(5), activity())
    state = decode(run.data)
    assert encode(state) == run.data and "due_at" not in str(run.data)
    run.pass_time(-HOUR)
    run.claim_activity()
    assert due(run) == run.now + 5 * SECOND
