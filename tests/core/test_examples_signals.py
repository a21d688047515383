"""Signals: recorded at once, applied by a task when the run is parked on a wait (engine-semantics 2.5, 7.2)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run.commands.control import CancelRun, SignalRun
from actors.run.commands.steps import StartTimer, WorkflowCommand
from tests.core.family import CMD, keys, of_type, rejected, types
from tests.core.harness import PLAIN, PYTHON, RUN_ID, RunModel, activity, child, finish, resume_of, shown_events, wait
from tests.support.defaults import make_rules

SIGNAL = CMD | {"signal_id", "signal_name", "signal_wait_id", "arguments", "payload_codec"}


def parked(**start: Any) -> RunModel:
    """A run whose only unresolved step is a condition wait."""
    run = RunModel(**start)
    run.batch(wait())
    assert run.rows == {}
    return run


def signals_shown(events: list[dict[str, Any]]) -> list[str]:
    return [event["payload"]["signal_name"] for event in events if event["event_type"] == "SignalReceived"]


def test_signal_to_an_open_wait_is_recorded_and_gets_a_task() -> None:
    run = parked()
    answer = run.signal("pay")
    assert (answer.outcome, answer.rejection, answer.command_sequence) == ("signal_received", None, 2)
    assert (answer.workflow_id, answer.run_id, answer.workflow_type) == ("order-7", RUN_ID, "order")
    assert run.new_types == ["SignalReceived"]
    event = run.new[0]
    payload = event["payload"]
    assert keys(event) == SIGNAL
    assert event["workflow_command_id"] == payload["workflow_command_id"] == answer.command_id
    assert event["workflow_task_id"] is None
    assert (payload["workflow_instance_id"], payload["workflow_run_id"]) == ("order-7", RUN_ID)
    assert payload["signal_name"] == "pay" and payload["payload_codec"] == "avro"
    assert payload["arguments"] == {"codec": "avro", "blob": "ARGS"}
    grant = run.claim()
    assert resume_of(grant) == {
        "workflow_wait_kind": "signal",
        "open_wait_id": f"signal-application:{payload['signal_id']}",
        "resume_source_kind": "workflow_signal",
        "resume_source_id": payload["signal_id"],
        "workflow_signal_id": payload["signal_id"],
        "signal_name": "pay",
        "signal_wait_id": payload["signal_wait_id"],
        "workflow_command_id": answer.command_id,
    }
    assert grant.workflow_task_attempt == 1


def test_signal_without_arguments_leaves_the_key_out() -> None:
    run = parked()
    run.signal(arguments=None)
    assert keys(run.new[0]) == SIGNAL - {"arguments"} and run.new[0]["payload"]["payload_codec"] == "avro"


@pytest.mark.parametrize(("worker", "shown"), [(PLAIN, ["go"]), (PYTHON, [])])
def test_signal_before_the_first_claim_stands_behind_the_start(worker: Any, shown: list[str]) -> None:
    run = RunModel()
    rows = dict(run.rows)
    run.signal()
    assert types(run) == ["StartAccepted", "WorkflowStarted", "SignalReceived"] and run.rows == rows
    grant = run.claim(worker)
    assert resume_of(grant) == {} and signals_shown(shown_events(grant)) == shown


def test_signal_under_a_lease_stands_before_the_events_of_its_completion() -> None:
    run = RunModel()
    grant = run.claim()
    run.signal()
    assert run.rows == {}
    done = run.complete(grant, wait())
    assert types(run)[2:] == ["SignalReceived", "ConditionWaitOpened"]
    task = run.row("workflow")
    assert done.created_task_ids == [task.task_id] and task.task_id != grant.task_id
    shown = shown_events(run.claim())
    assert [event["event_type"] for event in shown[2:]] == ["ConditionWaitOpened", "SignalReceived"]


@pytest.mark.parametrize("step", [activity(), StartTimer(60), child()])
def test_signal_to_a_run_blocked_elsewhere_wakes_nobody(step: WorkflowCommand) -> None:
    run = RunModel()
    run.batch(step)
    rows, due = dict(run.rows), run.wake_at
    run.signal()
    assert (run.new_types, run.rows, run.wake_at) == (["SignalReceived"], rows, due)
    assert len(run.state.signals) == 1


@pytest.mark.parametrize("worker", [PLAIN, PYTHON])
def test_a_signal_seen_while_nothing_waited_is_applied(worker: Any) -> None:
    run = RunModel()
    run.batch(StartTimer(5), worker=worker)
    run.signal()
    run.pass_time(5)
    run.wake()
    grant = run.claim(worker)
    assert signals_shown(shown_events(grant)) == ["go"]
    done = run.complete(grant, wait())
    assert run.state.signals == [] and done.created_task_ids == []


def test_one_signal_per_task_for_workers_with_a_view() -> None:
    run = parked()
    for name in ("one", "two", "three"):
        run.signal(name)
    assert len(run.rows) == 1
    for number, name in enumerate(("one", "two", "three"), 1):
        grant = run.claim()
        assert resume_of(grant)["signal_name"] == name
        assert signals_shown(shown_events(grant)) == ["one", "two", "three"][:number]
        done = run.complete(grant, wait())
        assert run.new_types == ["ConditionWaitOpened"]
        assert len(done.created_task_ids) == (number < 3) and len(run.state.signals) == 3 - number
    assert run.rows == {}


def test_other_workers_see_several_signals_and_still_get_a_task_for_each() -> None:
    run = RunModel()
    run.batch(wait(), worker=PLAIN)
    run.signal("one")
    run.signal("two")
    grant = run.claim(PLAIN)
    assert signals_shown(shown_events(grant)) == ["one", "two"] and resume_of(grant)["signal_name"] == "one"
    run.complete(grant, wait())
    assert [signal.name for signal in run.state.signals] == ["two"]
    again = run.claim(PLAIN)
    assert resume_of(again)["signal_name"] == "two"
    run.complete(again, finish())
    assert run.new_types == ["ConditionWaitSatisfied", "WorkflowCompleted"]
    assert run.new[0]["payload"]["signal_name"] == "two"


def test_signals_are_applied_in_the_order_of_their_commands() -> None:
    run = parked()
    numbers = [run.signal(name).command_sequence for name in "abc"]
    assert numbers == [2, 3, 4] and [signal.name for signal in run.state.signals] == ["a", "b", "c"]
    assert [payload["signal_name"] for payload in of_type(run, "SignalReceived")] == ["a", "b", "c"]


def test_the_same_signal_twice_is_two_signals() -> None:
    run = parked()
    first, second = run.signal(request_id="r-1"), run.signal(request_id="r-1")
    assert first.command_id != second.command_id and len(run.state.signals) == 2


def test_a_signal_waits_for_the_task_that_is_open() -> None:
    run = parked()
    run.signal("one")
    task = run.row("workflow").task_id
    run.signal("two")
    assert list(run.rows) == [task]
    grant = run.claim()
    run.signal("three")
    assert run.rows == {}
    run.complete(grant, wait())
    assert resume_of(run.claim())["signal_name"] == "two"


def test_a_passed_wait_names_the_signal_that_woke_its_task() -> None:
    run = parked()
    run.signal("pay")
    received = run.new[0]["payload"]
    run.batch(activity())
    assert run.new_types == ["ConditionWaitSatisfied", "ActivityScheduled"]
    payload = run.new[0]["payload"]
    assert [payload[key] for key in ("workflow_signal_id", "signal_name", "signal_wait_id")] == [
        received["signal_id"],
        "pay",
        received["signal_wait_id"],
    ]
    assert run.state.signals == [] and run.state.wait is None


def test_a_signal_may_overtake_an_update_that_waits() -> None:
    run = parked()
    grant = _leased(run)
    run.update()
    run.signal("late")
    run.complete(grant, wait())
    assert resume_of(run.claim())["workflow_wait_kind"] == "signal"


def _leased(run: RunModel) -> Any:
    run.signal("first")
    return run.claim()


def test_unapplied_signals_of_a_closed_run_have_no_effect() -> None:
    run = parked()
    run.signal("one")
    run.signal("two")
    run.batch(finish())
    assert run.new_types == ["ConditionWaitSatisfied", "WorkflowCompleted"]
    assert [signal.name for signal in run.state.signals] == ["two"] and run.rows == {}


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_signal_to_a_closed_run(end: str) -> None:
    run = parked()
    if end == "cancelled":
        run.tell(CancelRun())
    else:
        run.signal()
        run.batch(finish())
    rejected(run, SignalRun(name="late"), "run_not_active", "rejected_not_active")


def test_pending_signals_are_limited() -> None:
    run = parked(rules=make_rules(pending_signal_count=2))
    run.signal("one")
    run.signal("two")
    rejected(run, SignalRun(name="three"), "structural_limit_exceeded", None)
    run.batch(wait())
    run.signal("three")
    assert [signal.name for signal in run.state.signals] == ["two", "three"]


def test_a_query_sees_every_accepted_signal() -> None:
    run = parked()
    for name in ("one", "two"):
        run.signal(name)
    grant = run.claim()
    assert signals_shown(shown_events(grant)) == ["one"]
    assert signals_shown(run.query()) == ["one", "two"] == signals_shown(run.query(PLAIN))
