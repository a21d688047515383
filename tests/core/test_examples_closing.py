"""Timers, the ends of a run, its limits and budget (engine-semantics 6.1, 9.3, 10, 11)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run.commands.steps import CompleteWorkflow, FailWorkflow, StartTimer, WorkflowCommand
from actors.run.replies import ActivityRecorded, Refused, WorkflowTaskGrant
from actors.run.rules import Rules
from actors.run.values import Payload
from tests.core.harness import (
    PLAIN,
    RUN_ID,
    START,
    RunModel,
    activity,
    blob,
    completion,
    failure_of,
    finish,
    page_of,
)
from tests.support.defaults import make_rules

SECOND = 1_000_000

# -- timers ------------------------------------------------------------------------------------------------------------


def test_timer_fires_at_its_time_and_never_before() -> None:
    run = RunModel()
    run.batch(StartTimer(10))
    timer_id = run.new[0]["payload"]["timer_id"]
    assert run.wake_at == START + 10 * SECOND
    run.now = START + 10 * SECOND - 1
    assert run.wake() == Refused("nothing_due")
    run.pass_time(7.25)
    run.wake()
    assert run.new_types == ["TimerFired"]
    assert run.new[0]["payload"] == {
        "timer_id": timer_id,
        "delay_seconds": 10,
        "fire_at": "2026-04-20T09:15:10.250000Z",
        "fired_at": "2026-04-20T09:15:17.499999Z",
        "sequence": 1,
    }
    assert run.row("workflow").task_id and run.wake_at is None


@pytest.mark.parametrize("delay", [0, -5])
def test_delay_zero_fires_in_the_next_transition(delay: int) -> None:
    run = RunModel()
    done = run.batch(StartTimer(delay))
    assert run.new_types == ["TimerScheduled"] and run.rows == {} and run.wake_at == run.now
    assert run.new[0]["payload"]["delay_seconds"] == 0
    assert len(done.created_task_ids) == 1
    run.wake()
    assert run.new_types == ["TimerFired"] and len(run.rows) == 1


def test_overdue_timers_fire_in_the_order_of_their_times() -> None:
    run = RunModel()
    run.batch(StartTimer(30), StartTimer(10), StartTimer(20), StartTimer(10), StartTimer(99))
    run.pass_time(50)
    run.wake()
    assert [event["payload"]["sequence"] for event in run.new] == [2, 4, 3, 1]
    assert len(run.rows) == 1 and run.wake_at == START + 99 * SECOND


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (blob("OUT"), {"output": "OUT", "payload_codec": "avro"}),
        (None, {"payload_codec": "avro"}),
        (blob("1", "json"), {"output": {"codec": "json", "blob": "1"}, "payload_codec": "json"}),
    ],
)
def test_completed_run(result: Payload | None, expected: dict[str, Any]) -> None:
    run = RunModel()
    done = run.batch(CompleteWorkflow(result))
    assert run.new_types == ["WorkflowCompleted"] and run.new[0]["payload"] == expected
    assert (done.run_status, done.created_task_ids) == ("completed", [])
    state = run.state
    assert (state.status, state.closed_reason, state.closed_at) == ("completed", "completed", run.now)
    assert run.rows == {} and run.wake_at is None and run.wake() == Refused("nothing_due")


def test_failed_run() -> None:
    run = RunModel()
    done = run.batch(FailWorkflow("no stock", "OutOfStock", non_retryable=True))
    assert done.run_status == "failed" and run.new_types == ["WorkflowFailed"]
    payload = run.new[0]["payload"]
    assert payload == {
        "failure_id": payload["failure_id"],
        "source_kind": "workflow_run",
        "source_id": RUN_ID,
        "failure_category": "application",
        "non_retryable": True,
        "exception_type": "OutOfStock",
        "exception_class": "OutOfStock",
        "message": "no stock",
        "exception": {
            "type": "OutOfStock",
            "class": "OutOfStock",
            "message": "no stock",
            "code": 0,
            "file": "",
            "line": 0,
            "trace": [],
            "properties": [],
            "non_retryable": True,
        },
    }
    assert (run.state.status, run.state.closed_reason) == ("failed", "failed")


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ("boom", "application"),
        ("it TIMED OUT", "timeout"),
        ("the run deadline came", "timeout"),
        ("Execution deadline", "timeout"),
        ("Timeout exceeded", "timeout"),
        ("Structural limit exceeded: x", "structural_limit"),
        ("a Structural limit exceeded: x", "application"),
    ],
)
def test_category_of_a_failure(message: str, category: str) -> None:
    run = RunModel()
    run.batch(FailWorkflow(message))
    assert run.new[0]["payload"]["failure_category"] == category
    assert run.new[0]["payload"]["exception_class"] == "RuntimeException"


@pytest.mark.parametrize("end", [finish(), FailWorkflow("no")])
def test_open_work_is_dropped_in_silence(end: WorkflowCommand) -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"), StartTimer(50), StartTimer(0))
    running = run.claim_activity()
    run.wake()
    run.batch(end)
    assert len(run.new) == 1
    assert run.rows == {} and run.wake_at is None and run.state.timers == {}
    assert run.tell(failure_of(running)) == ActivityRecorded(None)


def close_by_time(**timeouts: Any) -> RunModel:
    """A run with a leased task, a running and a waiting activity and two timers, woken after its deadline."""
    run = RunModel(**timeouts)
    run.batch(activity("a"), StartTimer(900), activity("b"), StartTimer(0))
    run.claim_activity()
    run.wake()
    run.claim()
    run.now = START + 100 * SECOND
    run.wake()
    return run


@pytest.mark.parametrize(
    ("timeouts", "kind", "word"),
    [
        ({"run_timeout_seconds": 100}, "run_timeout", "run"),
        ({"execution_timeout_seconds": 100}, "execution_timeout", "execution"),
        ({"run_timeout_seconds": 90, "execution_timeout_seconds": 100}, "execution_timeout", "execution"),
        ({"run_timeout_seconds": 100, "execution_timeout_seconds": 101}, "run_timeout", "run"),
    ],
)
def test_deadlines_of_a_run(timeouts: dict[str, int], kind: str, word: str) -> None:
    run = close_by_time(**timeouts)
    assert run.new_types == [
        "ActivityCancelled",
        "ActivityCancelled",
        "TimerCancelled",
        "WorkflowFailed",
        "WorkflowTimedOut",
    ]
    assert [event["payload"].get("sequence") for event in run.new] == [1, 3, 2, None, None]
    assert "activity_attempt_id" in run.new[0]["payload"] and "activity_attempt_id" not in run.new[1]["payload"]
    failed, ended = run.new[3]["payload"], run.new[4]["payload"]
    message = f"Workflow {word} deadline expired at 2026-04-20T09:16:40+00:00."
    for payload in (failed, ended):
        assert payload["message"] == message and payload["failure_category"] == "timeout"
        assert payload["exception_class"] == "WorkflowTimeoutException"
    assert failed["failure_id"] == ended["failure_id"] and ended["timeout_kind"] == kind
    assert ("run_deadline_at" in ended, "execution_deadline_at" in ended) == (
        "run_timeout_seconds" in timeouts,
        "execution_timeout_seconds" in timeouts,
    )
    state = run.state
    assert (state.status, state.closed_reason, state.closed_at) == ("failed", "timed_out", run.now)
    assert state.task is not None and state.task.status == "cancelled"
    assert run.rows == {} and run.wake_at is None


def test_completion_after_the_deadline_is_rejected() -> None:
    run = RunModel(run_timeout_seconds=30)
    grant = run.claim()
    run.pass_time(30)
    refused = run.expect(Refused, completion(grant, activity(), finish()))
    assert refused.reason == "run_timed_out"
    assert run.new_types == ["WorkflowFailed", "WorkflowTimedOut"]
    assert run.expect(Refused, completion(grant, finish())).reason == "run_closed"


def test_a_task_of_an_overdue_run_is_not_granted() -> None:
    from actors.run.commands.worker import ClaimTask

    run = RunModel(run_timeout_seconds=30)
    run.pass_time(30)
    assert run.expect(Refused, ClaimTask(run.row("workflow").task_id, PLAIN)).reason == "not_ready"
    assert run.state.closed_reason == "timed_out" and run.rows == {}


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "first", "steps", "kind", "value", "limit"),
    [
        (make_rules(pending_activity_count=3), 2, [activity(), activity()], "pending_activity_count", 3, 3),
        (make_rules(pending_timer_count=2), 0, [StartTimer(9)] * 3, "pending_timer_count", 2, 2),
        (make_rules(command_batch_size=2), 0, [StartTimer(9)] * 3, "command_batch_size", 3, 2),
        (make_rules(payload_size_bytes=4), 0, [activity(arguments=blob("12345"))], "payload_size", 5, 4),
        (make_rules(payload_size_bytes=4), 0, [activity(arguments=blob('"éé"', "json"))], "payload_size", 6, 4),
        (make_rules(payload_size_bytes=4), 0, [finish("12345")], "payload_size", 5, 4),
        (make_rules(history_transaction_size=2), 0, [StartTimer(9)] * 3, "history_transaction_size", 3, 2),
        (make_rules(history_events=4), 0, [StartTimer(9)] * 3, "history_event_count", 5, 4),
    ],
)
def test_structural_limits(rules: Rules, first: int, steps: list[WorkflowCommand], kind: str, value: int, limit: int) -> None:
    run = RunModel(rules)
    if first:
        run.batch(*(activity(f"a{n}") for n in range(first)), StartTimer(0))
        run.wake()
    grant = run.claim()
    refused = run.expect(Refused, completion(grant, *steps))
    assert refused.reason == "structural_limit_exceeded"
    assert refused.detail == {"limit_kind": kind, "current_value": value, "configured_limit": limit}
    assert not run.changed
    run.complete(grant, *([finish(None)] if kind != "payload_size" else [FailWorkflow("too big")]))


def test_the_batch_that_just_fits_is_applied() -> None:
    rules = make_rules(
        pending_activity_count=2,
        pending_timer_count=1,
        command_batch_size=3,
        payload_size_bytes=4,
        history_transaction_size=3,
        history_events=5,
    )
    run = RunModel(rules)
    run.batch(activity(), activity(), StartTimer(9))
    assert len(run.history) == 5


def test_zero_switches_limits_off() -> None:
    rules = make_rules(
        pending_activity_count=0,
        pending_timer_count=0,
        command_batch_size=0,
        payload_size_bytes=0,
        history_transaction_size=0,
        history_events=0,
    )
    run = RunModel(rules)
    run.batch(*[activity()] * 5, *[StartTimer(0)] * 5)


def test_the_end_of_a_run_is_never_refused_for_its_length() -> None:
    run = RunModel(make_rules(history_events=2))
    run.batch(finish())
    assert run.new_types == ["WorkflowCompleted"]


def test_finished_steps_make_room() -> None:
    run = RunModel(make_rules(pending_activity_count=1))
    run.batch(activity())
    run.succeed(run.claim_activity())
    run.batch(activity("b"))
    assert run.new_types == ["ActivityScheduled"]


# -- budget ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "pressure", "dimensions"),
    [
        (make_rules(), "ok", []),
        (make_rules(budget_events=7), "approaching", ["events"]),
        (make_rules(budget_events=8), "ok", []),
        (make_rules(budget_events=6), "continue_as_new_recommended", ["events"]),
        (make_rules(budget_fan_out=4), "ok", []),
        (make_rules(budget_fan_out=3), "continue_as_new_recommended", ["fan_out"]),
        (make_rules(budget_bytes=100), "continue_as_new_recommended", ["bytes"]),
        (make_rules(budget_events=0, budget_bytes=0, budget_fan_out=0), "ok", []),
        (make_rules(budget_events=6, budget_fan_out=3), "continue_as_new_recommended", ["events", "fan_out"]),
    ],
)
def test_history_budget(rules: Rules, pressure: str, dimensions: list[str]) -> None:
    run = RunModel(rules)
    run.batch(activity(), StartTimer(0), StartTimer(99))
    run.wake()
    budget = run.claim().budget
    assert budget == {
        "history_size_bytes": sum(len(line) for line in run.history),
        "history_fan_out": 3,
        "continue_as_new_recommended": pressure == "continue_as_new_recommended",
        "history_budget_pressure": pressure,
        "history_budget_pressure_dimensions": dimensions,
    }
    assert len(run.history) == 6


# -- the view of 0.4 workers ---------------------------------------------------------------------------------------------


def types_of(grant: WorkflowTaskGrant) -> list[tuple[str, int | None]]:
    from tests.core.harness import shown_events

    return [(event["event_type"], event["payload"].get("sequence")) for event in shown_events(grant)]


def test_results_of_a_batch_are_shown_in_step_order() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"), activity("c"))
    grants = [run.claim_activity() for _ in range(3)]
    run.succeed(grants[2])
    assert types_of(run.claim())[5:] == [("ActivityStarted", 1), ("ActivityStarted", 2), ("ActivityStarted", 3)]
    task = run.state.task
    assert task is not None
    run.succeed(grants[1])
    repeated = run.complete(_lease(run), activity("a"), activity("b"), activity("c"))
    # Both results wait for the first step: nothing to show, so no further task.
    assert (repeated.created_task_ids, run.rows, run.new) == ([], {}, [])
    run.succeed(grants[0])
    assert types_of(run.claim())[8:] == [("ActivityCompleted", 1), ("ActivityCompleted", 2), ("ActivityCompleted", 3)]


def test_own_events_stand_before_what_came_meanwhile() -> None:
    run = RunModel()
    run.batch(activity("a"), StartTimer(5))
    run.succeed(run.claim_activity())
    grant = run.claim()
    run.pass_time(5)
    run.wake()
    run.complete(grant, activity("c"))
    assert types_of(run.claim())[4:] == [
        ("ActivityStarted", 1),
        ("ActivityCompleted", 1),
        ("ActivityScheduled", 3),
        ("TimerFired", 2),
    ]
    chronological = [event["event_type"] for event in run.events()][6:]
    assert chronological == ["TimerFired", "ActivityScheduled"]


def test_a_repetition_changes_nothing_even_if_all_is_done_meanwhile() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    one, two = run.claim_activity(), run.claim_activity()
    run.succeed(one)
    grant = run.claim()
    run.succeed(two)
    done = run.complete(grant, activity("a"), activity("b"))
    assert run.new == [] and run.state.steps == 2
    assert done.created_task_ids == [run.row("workflow").task_id]


@pytest.mark.parametrize("changed", [{"start_to_close_timeout": 30}, {"queue": "main"}, {"priority": 3}])
def test_options_do_not_make_a_batch_new(changed: dict[str, Any]) -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    run.succeed(run.claim_activity())
    run.batch(activity("a"), activity("b", **changed))
    assert run.new == [] and run.state.steps == 2


@pytest.mark.parametrize(
    "again",
    [
        [activity("a")],
        [activity("b"), activity("a")],
        [activity("a"), activity("b"), activity("c")],
        [activity("a"), activity("b", queue="elsewhere")],
        [activity("a"), activity("b", arguments=blob("OTHER"))],
        [activity("a"), StartTimer(1)],
    ],
)
def test_another_batch_is_new(again: list[WorkflowCommand]) -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    run.succeed(run.claim_activity())
    run.batch(*again)
    assert len(run.new) == len(again)


def test_the_same_batch_is_new_when_the_old_one_is_done_or_the_worker_is_another() -> None:
    run = RunModel()
    run.batch(activity("a"))
    run.succeed(run.claim_activity())
    run.batch(activity("a"))
    assert run.state.steps == 2
    plain = RunModel()
    plain.batch(activity("a"), activity("b"), worker=PLAIN)
    plain.succeed(plain.claim_activity())
    plain.batch(activity("a"), activity("b"), worker=PLAIN)
    assert plain.state.steps == 4


def _lease(run: RunModel) -> WorkflowTaskGrant:
    """The grant of the leased task, read again."""
    from actors.run.commands.worker import RereadClaim
    from tests.core.harness import PYTHON

    task = run.state.task
    assert task is not None
    return run.expect(WorkflowTaskGrant, RereadClaim(task.task_id, PYTHON, task.attempt))


def test_a_view_counts_its_own_positions() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    run.claim_activity()
    two = run.claim_activity()
    run.succeed(two)
    grant = run.claim()
    assert (len(run.history), grant.last_history_sequence, grant.history_count) == (7, 6, 6)
    run.tell(completion(grant, activity("a"), activity("b")))
    assert run.expect(Refused, page_of(grant, 0)).reason == "task_not_leased"
