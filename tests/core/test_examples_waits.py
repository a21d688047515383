"""Condition waits: opened, opened again, passed, timed out (engine-semantics 2.5, 6.2)."""

from __future__ import annotations

import pytest

from actors.run.commands.steps import (
    CompleteUpdate,
    CompleteWorkflow,
    FailUpdate,
    FailWorkflow,
    OpenConditionWait,
    RecordSideEffect,
    StartTimer,
    WorkflowCommand,
)
from actors.run.commands.worker import ClaimTask
from actors.run.replies import Refused
from actors.run.values import WorkerIdentity
from tests.core.family import SECOND, WAIT, WAIT_TIMER, keys, of_type, types
from tests.core.harness import (
    PLAIN,
    PYTHON,
    START,
    RunModel,
    activity,
    blob,
    completion,
    finish,
    onward,
    resume_of,
    shown_events,
    wait,
)


def test_a_wait_without_timeout_waits_for_ever() -> None:
    run = RunModel()
    done = run.batch(wait())
    assert (run.new_types, run.rows, run.wake_at, done.created_task_ids) == (["ConditionWaitOpened"], {}, None, [])
    assert (
        run.new[0]["payload"].items()
        >= {
            "condition_key": "ready",
            "condition_definition_fingerprint": "print-ready",
            "sequence": 1,
        }.items()
    )
    assert keys(run.new[0]) == WAIT and done.run_status == "waiting"
    assert run.new[0]["workflow_task_id"] is not None


def test_a_wait_without_key_and_fingerprint() -> None:
    run = RunModel()
    run.batch(wait(None))
    assert keys(run.new[0]) == {"condition_wait_id", "sequence"}


def test_a_wait_with_a_timeout_has_a_timer() -> None:
    run = RunModel()
    done = run.batch(wait(timeout=30))
    opened, timer = run.new
    assert run.new_types == ["ConditionWaitOpened", "TimerScheduled"]
    assert keys(opened) == WAIT | {"timeout_seconds"} and opened["payload"]["timeout_seconds"] == 30
    assert keys(timer) == WAIT_TIMER
    payload = timer["payload"]
    assert (payload["timer_kind"], payload["delay_seconds"], payload["sequence"]) == ("condition_timeout", 30, 1)
    assert payload["fire_at"] == "2026-04-20T09:15:30.250000Z"
    assert payload["condition_wait_id"] == opened["payload"]["condition_wait_id"]
    assert len(done.created_task_ids) == 1 and run.wake_at == START + 30 * SECOND and run.rows == {}


def test_timeout() -> None:
    run = RunModel()
    run.batch(wait(timeout=30))
    opened, timer = (event["payload"] for event in run.new)
    run.now = START + 30 * SECOND - 1
    assert run.wake() == Refused("nothing_due")
    run.pass_time(2)
    run.wake()
    fired, over = run.new
    assert run.new_types == ["TimerFired", "ConditionWaitTimedOut"]
    assert keys(fired) == WAIT_TIMER | {"fired_at"} and keys(over) == WAIT | {"timer_id", "timeout_seconds"}
    assert {key: fired["payload"][key] for key in timer} == timer
    assert fired["payload"]["fired_at"] == "2026-04-20T09:15:32.249999Z"
    assert {key: over["payload"][key] for key in opened} == opened and over["payload"]["timer_id"] == timer["timer_id"]
    assert resume_of(run.claim()) == {
        "workflow_wait_kind": "condition",
        "open_wait_id": opened["condition_wait_id"],
        "resume_source_kind": "timer",
        "resume_source_id": timer["timer_id"],
        "timer_id": timer["timer_id"],
        "condition_wait_id": opened["condition_wait_id"],
        "condition_key": "ready",
        "condition_definition_fingerprint": "print-ready",
        "workflow_sequence": 1,
        "workflow_event_type": "TimerFired",
    }
    assert run.state.wait is None


def test_timeout_of_zero_seconds_is_over_in_the_next_transition() -> None:
    run = RunModel()
    done = run.batch(wait(timeout=0))
    assert run.new_types == ["ConditionWaitOpened"] and run.new[0]["payload"]["timeout_seconds"] == 0
    assert (done.created_task_ids, run.rows, run.wake_at) == ([], {}, run.now)
    opened = run.new[0]["payload"]
    run.wake()
    assert run.new_types == ["ConditionWaitTimedOut"] and keys(run.new[0]) == WAIT | {"timeout_seconds"}
    resume = resume_of(run.claim())
    assert resume["workflow_wait_kind"] == "condition" and "timer_id" not in resume
    assert resume["condition_wait_id"] == opened["condition_wait_id"]


@pytest.mark.parametrize("leased", [False, True])
def test_a_timeout_lets_the_open_task_end_first(leased: bool) -> None:
    run = RunModel()
    run.batch(wait(timeout=10))
    run.signal()
    if leased:
        run.claim()
    run.pass_time(20)
    assert run.wake_at is None or run.wake_at > run.now
    assert run.wake() == Refused("nothing_due") and not run.changed
    assert run.state.wait is not None


def test_a_timeout_is_dropped_when_its_wait_was_passed_meanwhile() -> None:
    run = RunModel()
    run.batch(wait(timeout=10))
    run.signal()
    grant = run.claim()
    run.pass_time(20)
    run.complete(grant, activity())
    assert run.new_types == ["ConditionWaitSatisfied", "TimerCancelled", "ActivityScheduled"]
    assert run.wake() == Refused("nothing_due") and of_type(run, "TimerFired") == []


def test_a_timeout_that_had_to_wait_fires_when_nothing_was_said_about_its_wait() -> None:
    run = RunModel()
    run.batch(wait(timeout=10))
    accepted = run.update()
    grant = run.claim()
    run.pass_time(20)
    run.complete(grant, FailUpdate(accepted.update_id, "no"))
    assert run.rows == {} and run.wake_at is not None and run.wake_at <= run.now
    run.wake()
    assert run.new_types == ["TimerFired", "ConditionWaitTimedOut"]


def test_a_wait_opened_again_supersedes_the_old_one_in_silence() -> None:
    run = RunModel()
    run.batch(wait(timeout=30))
    first = run.new[0]["payload"]
    run.signal()
    run.pass_time(20)
    run.batch(wait(timeout=30))
    assert run.new_types == ["ConditionWaitOpened", "TimerScheduled"]
    second = run.new[0]["payload"]
    assert (first["sequence"], second["sequence"]) == (1, 2) and first["condition_wait_id"] != second["condition_wait_id"]
    assert run.wake_at == START + 50 * SECOND
    assert not {"ConditionWaitSatisfied", "TimerCancelled"} & set(types(run))
    run.pass_time(15)
    assert run.wake() == Refused("nothing_due")


@pytest.mark.parametrize("worker", [PLAIN, PYTHON])
def test_an_applied_update_is_reason_to_look_again(worker: WorkerIdentity) -> None:
    run = RunModel()
    run.batch(wait(timeout=30), worker=worker)
    before = run.state.wait
    accepted = run.update()
    done = run.batch(CompleteUpdate(accepted.update_id), worker=worker)
    grant = run.claim(worker)
    assert done.created_task_ids == [grant.task_id] and resume_of(grant) == {} and run.state.wait == before
    run.complete(grant, wait(timeout=30))
    assert run.new_types == ["ConditionWaitOpened", "TimerScheduled"] and run.rows == {}


def parked_with_a_plain_task(timeout: int | None = None) -> RunModel:
    """A wait, and a task that shows nothing new: the second of two signals that the first one's task showed already."""
    run = RunModel()
    run.batch(wait(timeout=timeout), worker=PLAIN)
    run.signal("one")
    run.signal("two")
    run.batch(wait(timeout=timeout), worker=PLAIN)  # its snapshot held both
    return run


def test_a_repeated_wait_with_nothing_new_is_no_step() -> None:
    run = parked_with_a_plain_task(30)
    before = run.state
    grant = run.claim(PLAIN)
    assert resume_of(grant)["signal_name"] == "two"
    done = run.complete(grant, wait(timeout=30))
    assert (run.new, done.created_task_ids, run.rows) == ([], [], {})
    assert (run.state.wait, run.state.steps) == (before.wait, before.steps) and run.state.signals == []


PASSING: list[list[WorkflowCommand]] = [
    [activity()],
    [wait("other")],
    [OpenConditionWait("ready", "print-changed", None)],
    [RecordSideEffect(blob("V")), wait()],
    [wait(), CompleteWorkflow(None)],
    [finish()],
    [onward()],
    [RecordSideEffect(blob("V")), FailWorkflow("no")],
    [StartTimer(5)],
]


@pytest.mark.parametrize("steps", PASSING)
@pytest.mark.parametrize("nothing_new", [False, True])
def test_any_other_batch_passes_the_wait(steps: list[WorkflowCommand], nothing_new: bool) -> None:
    if nothing_new:
        run = parked_with_a_plain_task(30)
    else:
        run = RunModel()
        run.batch(wait(timeout=30))
        run.signal()
    opened = run.state.wait
    assert opened is not None
    run.batch(*steps, worker=PLAIN if nothing_new else PYTHON)
    satisfied, cancelled = run.new[:2]
    assert run.new_types[:2] == ["ConditionWaitSatisfied", "TimerCancelled"]
    named = {"workflow_signal_id", "signal_name", "signal_wait_id"}
    assert keys(satisfied) == WAIT | {"timer_id", "timeout_seconds"} | named
    assert keys(cancelled) == WAIT_TIMER | {"cancelled_at"}
    for payload in (satisfied["payload"], cancelled["payload"]):
        assert (payload["condition_wait_id"], payload["sequence"]) == (opened.wait_id, opened.step)
        assert payload["timer_id"] == opened.timer_id
    assert len(run.new) >= 3 and "TimerCancelled" not in run.new_types[2:]


def test_a_lone_failure_says_nothing_about_the_wait() -> None:
    run = RunModel()
    run.batch(wait(timeout=30))
    run.signal()
    run.batch(FailWorkflow("no"))
    assert run.new_types == ["WorkflowFailed"] and run.state.wait is None and run.wake_at is None


def test_passed_without_a_signal_names_none() -> None:
    run = RunModel()
    run.batch(wait())
    accepted = run.update()
    run.batch(CompleteUpdate(accepted.update_id))
    run.batch(activity())
    assert run.new_types == ["ConditionWaitSatisfied", "ActivityScheduled"] and keys(run.new[0]) == WAIT


@pytest.mark.parametrize("answer", [CompleteUpdate, FailUpdate])
def test_an_updates_task_neither_reopens_nor_passes_a_wait(answer: type) -> None:
    run = RunModel()
    run.batch(wait(timeout=30))
    before = run.state.wait
    accepted = run.update()
    run.batch(answer(accepted.update_id) if answer is CompleteUpdate else answer(accepted.update_id, "no"))
    assert run.state.wait == before and not {"ConditionWaitSatisfied", "ConditionWaitOpened"} & set(run.new_types)


def test_a_wait_opened_beside_other_steps() -> None:
    run = RunModel()
    done = run.batch(activity(), StartTimer(90), wait(timeout=30))
    assert run.new_types == ["ActivityScheduled", "TimerScheduled", "ConditionWaitOpened", "TimerScheduled"]
    assert [event["payload"]["sequence"] for event in run.new] == [1, 2, 3, 3] and len(done.created_task_ids) == 3


def test_a_lost_lease_changes_nothing_about_a_wait() -> None:
    run = RunModel()
    run.batch(wait(timeout=300))
    run.signal()
    before, grant = run.state.wait, run.claim()
    run.pass_time(60)
    run.wake()
    assert run.new_types == ["RepairRequested"] and run.state.wait == before
    assert run.expect(Refused, completion(grant, activity())).reason == "task_not_leased"
    again = run.claim(PYTHON)
    assert (again.task_id, again.workflow_task_attempt, resume_of(again)) == (grant.task_id, 2, resume_of(grant))
    assert shown_events(again)[: len(shown_events(grant))] == shown_events(grant)
    run.complete(again, activity())
    assert run.new_types[:2] == ["ConditionWaitSatisfied", "TimerCancelled"]
    assert run.expect(Refused, ClaimTask(grant.task_id, PYTHON)).reason == "not_ready"
