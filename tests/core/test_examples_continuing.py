"""Continue-as-new, of a root and of a child, and the retries of failed children (engine-semantics 8.3, 8.4)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run.commands import WakeUp
from actors.run.commands.control import CancelRun
from actors.run.commands.steps import FailWorkflow, StartTimer, UpsertSearchAttributes, WorkflowCommand
from actors.run.commands.worker import ClaimTask
from actors.run.replies import ActivityRecorded, CommandAnswered, NotDue, Refused, WorkflowTaskCompleted
from tests.core.family import CHILD, SECOND, Family, act, end, keys, of_type, parent_of, refused, types
from tests.core.harness import (
    PLAIN,
    START,
    RunModel,
    activity,
    blob,
    child,
    completion,
    finish,
    onward,
    result_of,
    resume_of,
    retrying,
    shown_events,
    wait,
)

STARTED = CHILD | {"parent_close_policy", "child_status"}
RETRIED = {"retry_attempt", "retry_of_child_workflow_run_id", "retry_backoff_seconds"}


def continued(run: RunModel, *steps: WorkflowCommand) -> tuple[WorkflowTaskCompleted, RunModel]:
    """Complete the ready task with these steps; the answer and the next run."""
    done = run.batch(*steps)
    assert run.successor is not None
    return done, run.successor


def family_of(call: WorkflowCommand, **start: Any) -> tuple[Family, RunModel]:
    """A parent waiting for one child, and that child."""
    family = parent_of(call, **start)
    return family, family.children_of(family.root)[0]


# -- continue-as-new ---------------------------------------------------------------------------------------------------


def test_both_sides_of_a_continuation() -> None:
    run = RunModel()
    done, new = continued(run, activity(), onward())
    assert run.new_types == ["ActivityScheduled", "WorkflowContinuedAsNew"]
    event = run.new[1]
    payload = event["payload"]
    assert keys(event) == {"sequence", "continued_to_run_id", "continued_to_run_number", "workflow_link_id", "closed_reason"}
    assert (payload["sequence"], payload["continued_to_run_number"], payload["closed_reason"]) == (2, 2, "continued")
    assert payload["continued_to_run_id"] == new.state.run_id != run.state.run_id
    assert (run.state.status, run.state.closed_reason, run.rows, run.wake_at) == ("completed", "continued", {}, None)
    task = new.row("workflow")
    assert (done.run_id, done.run_status) == (run.state.run_id, "completed") and task.task_id in done.created_task_ids
    assert types(new) == ["WorkflowStarted"] and new.state.status == "pending" and task.available_at == run.now
    started = new.events()[0]["payload"]
    assert started["continued_from_run_id"] == run.state.run_id and started["workflow_link_id"] == payload["workflow_link_id"]
    assert started["arguments"] == {"codec": "avro", "blob": "NEXT"} and started["workflow_run_id"] == new.state.run_id
    assert not started.keys() & {"parent_workflow_run_id", "child_call_id", "retry_attempt", "workflow_command_id"}
    assert (new.state.run_number, new.state.workflow_id, new.state.steps) == (2, "order-7", 0)
    grant = new.claim()
    assert resume_of(grant) == {} and [each["event_type"] for each in shown_events(grant)] == ["WorkflowStarted"]
    new.complete(grant, activity())
    assert new.new[0]["payload"]["sequence"] == 1


def test_defaults_and_changes_of_a_continuation() -> None:
    _, same = continued(RunModel(), onward(None))
    assert same.events()[0]["payload"]["arguments"] == {"codec": "avro", "blob": "INPUT"}
    assert (same.state.workflow_type, same.row("workflow").queue) == ("order", "main")
    _, other = continued(RunModel(), onward(workflow_type="invoice", queue="side"))
    row = other.row("workflow")
    assert (other.state.workflow_type, row.type_name, row.queue) == ("invoice", "invoice", "side")


def test_what_a_continued_run_takes_over() -> None:
    run = RunModel(
        business_key="b-1",
        memo={"m": 1},
        search_attributes={"s": "x", "t": "y"},
        priority=2,
        fairness_key="tenant",
        fairness_weight=3,
        compatibility="build-7",
        execution_timeout_seconds=900,
        run_timeout_seconds=600,
    )
    run.pass_time(100)
    _, new = continued(run, UpsertSearchAttributes({"stage": "two", "t": None}), onward())
    state, row = new.state, new.row("workflow")
    assert (state.business_key, state.search_attributes) == ("b-1", {"s": "x", "stage": "two"})
    assert new.events()[0]["payload"]["memo"] == {"m": 1} and state.memo_bytes == len('{"m":1}')
    assert (row.priority, row.fairness_key, row.fairness_weight, row.compatibility) == (2, "tenant", 3, "build-7")
    # The execution's deadline stays, the run's begins anew.
    assert state.execution_deadline_at == START + 900 * SECOND and state.run_deadline_at == START + 700 * SECOND
    started = new.events()[0]["payload"]
    assert (started["execution_timeout_seconds"], started["run_timeout_seconds"]) == (900, 600)
    assert started["execution_deadline_at"] == "2026-04-20T09:30:00+00:00" and new.wake_at == START + 700 * SECOND
    assert started["search_attributes"] == {"s": "x", "stage": "two"} and started["business_key"] == "b-1"


def test_unfinished_steps_of_the_old_run_end_in_silence() -> None:
    family = Family(RunModel())
    run = family.root
    run.batch(activity(), activity("b"), child(parent_close_policy="terminate"), StartTimer(900), worker=PLAIN)
    family.deliver(run)
    running = run.claim_activity()
    [part] = family.children_of(run)
    run.tell(result_of(run.claim_activity()))
    run.batch(wait(timeout=60), worker=PLAIN)
    run.signal()
    _, new = continued(run, onward())
    assert run.new_types == ["ConditionWaitSatisfied", "TimerCancelled", "WorkflowContinuedAsNew"]
    assert run.messages == [] and part.state.is_open and run.rows == {} and run.wake_at is None
    assert run.tell(result_of(running)) == ActivityRecorded(None)
    # Nobody waits for the child any more.
    family.deliver(run)
    end(family, part, finish())
    assert not run.changed and new.state.children == {}


def test_inputs_not_yet_applied_go_on_in_order() -> None:
    run = RunModel()
    run.batch(wait())
    run.signal("seen")
    grant = run.claim()
    run.update("u1")
    run.signal("s1", to_run=True)
    run.signal("s2")
    run.update("u2")
    run.signal("s3", arguments=None)
    run.complete(grant, onward())
    new = run.successor
    assert new is not None
    assert types(new) == ["WorkflowStarted", "UpdateAccepted", "UpdateAccepted", "SignalReceived", "SignalReceived"]
    assert [payload["update_name"] for payload in of_type(new, "UpdateAccepted")] == ["u1", "u2"]
    moved = of_type(new, "SignalReceived")
    assert [payload["signal_name"] for payload in moved] == ["s2", "s3"]
    old = {payload["signal_name"]: payload for payload in of_type(run, "SignalReceived")}
    for payload in moved:
        before = old[payload["signal_name"]]
        assert payload["signal_id"] == before["signal_id"] and payload["workflow_run_id"] == new.state.run_id
        assert payload.get("arguments") == before.get("arguments")
        assert payload["workflow_command_id"] == before["workflow_command_id"]
    assert len(new.rows) == 1
    done = new.batch(wait())
    resume = resume_of(new.claim())
    assert resume["signal_name"] == "s2" and done.created_task_ids
    numbers = [payload["command_sequence"] for payload in of_type(new, "UpdateAccepted")]
    # No command started this run: its numbers begin with what was handed over.
    assert numbers == [1, 2] and new.signal().command_sequence == 5
    assert [signal.command_sequence for signal in new.state.signals] == [3, 4, 5]


def test_the_old_run_takes_nothing_more() -> None:
    run = RunModel()
    grant = run.claim()
    run.complete(grant, onward())
    detail = refused(run, completion(grant, finish()), "run_closed")
    assert (detail["stop_reason"], detail["cancel_requested"], detail["run_closed_reason"]) == (
        "run_completed",
        False,
        "continued",
    )
    answer = run.expect(CommandAnswered, CancelRun())
    assert answer.rejection == "run_not_active" and run.new == []


def test_the_execution_deadline_ends_the_run_it_meets() -> None:
    run = RunModel(execution_timeout_seconds=100, run_timeout_seconds=80)
    run.pass_time(50)
    _, new = continued(run, onward())
    assert new.wake_at == START + 100 * SECOND
    new.pass_time(50)
    new.wake()
    assert new.new_types == ["WorkflowFailed", "WorkflowTimedOut"]
    assert new.new[1]["payload"]["timeout_kind"] == "execution_timeout"


def test_a_refused_continuation_begins_nothing() -> None:
    run = RunModel()
    grant = run.claim()
    refused(run, completion(grant, onward(), finish()), "invalid_commands")
    assert run.successor is None
    run.complete(grant, onward())


# -- of a child --------------------------------------------------------------------------------------------------------


def test_a_child_that_continues_is_still_waited_for() -> None:
    family, part = family_of(child(run_timeout_seconds=60, retry_policy=retrying(2)))
    parent = family.root
    [call] = of_type(parent, "ChildWorkflowScheduled")
    part.pass_time(10)
    new = end(family, part, onward(workflow_type="part-2"))
    event = parent.new[0]
    payload = event["payload"]
    assert parent.new_types == ["ChildRunStarted"] and parent.rows == {}
    policies = {"retry_policy", "timeout_policy"}
    assert keys(event) == STARTED | policies | {"run_timeout_seconds", "run_deadline_at"}
    assert [payload[key] for key in ("sequence", "child_call_id", "child_workflow_instance_id")] == [
        call[key] for key in ("sequence", "child_call_id", "child_workflow_instance_id")
    ]
    assert {key: payload[key] for key in policies} == {key: call[key] for key in policies}
    assert (payload["child_run_number"], payload["child_workflow_type"]) == (2, "part-2")
    assert payload["child_workflow_run_id"] == new.state.run_id and payload["run_deadline_at"] == "2026-04-20T09:16:10+00:00"
    assert payload["workflow_link_id"] == part.new[0]["payload"]["workflow_link_id"] != call["workflow_link_id"]
    started = new.events()[0]["payload"]
    assert started["continued_from_run_id"] == part.state.run_id and started["child_call_id"] == call["child_call_id"]
    assert started["parent_workflow_run_id"] == parent.state.run_id
    assert started["workflow_link_id"] == payload["workflow_link_id"]
    end(family, new, finish())
    assert parent.new_types == ["ChildRunCompleted"]
    ending = parent.new[0]["payload"]
    assert (ending["child_workflow_run_id"], ending["child_run_number"]) == (new.state.run_id, 2)
    assert resume_of(parent.claim())["child_workflow_run_id"] == new.state.run_id


# -- retries -----------------------------------------------------------------------------------------------------------


def test_a_failed_child_is_tried_again_after_its_backoff() -> None:
    family, part = family_of(child(retry_policy=retrying(4, 5, 20), run_timeout_seconds=60))
    parent = family.root
    [call] = of_type(parent, "ChildWorkflowScheduled")
    links = {call["workflow_link_id"]}
    current = part
    for attempt, backoff in ((2, 5), (3, 20), (4, 20)):
        failed, at = current, parent.now
        current = end(family, failed, FailWorkflow("boom", "Boom"))
        assert failed.new_types == ["WorkflowFailed"] and failed.state.closed_reason == "failed"
        assert types(current) == ["WorkflowStarted"] and current.state.run_number == attempt
        row = current.row("workflow")
        assert row.available_at == at + backoff * SECOND
        started = current.events()[0]["payload"]
        assert (started["retry_attempt"], started["retry_of_child_workflow_run_id"]) == (attempt, failed.state.run_id)
        assert (
            started["arguments"] == {"codec": "avro", "blob": "CHILD-ARGS"}
            and started["child_call_id"] == call["child_call_id"]
        )
        event = parent.new[0]
        payload = event["payload"]
        assert parent.new_types == ["ChildRunStarted"] and parent.rows == {}
        times = {"run_timeout_seconds", "run_deadline_at"}
        assert keys(event) == STARTED | RETRIED | times | {"retry_policy", "timeout_policy"}
        assert [payload[key] for key in sorted(RETRIED)] == [attempt, backoff, failed.state.run_id]
        assert (payload["child_workflow_run_id"], payload["child_run_number"]) == (current.state.run_id, attempt)
        assert payload["workflow_link_id"] == started["workflow_link_id"] and payload["workflow_link_id"] not in links
        links.add(payload["workflow_link_id"])
        current.pass_time(backoff)
    end(family, current, FailWorkflow("boom", "Boom"))
    assert parent.new_types == ["ChildRunFailed"] and parent.new[0]["payload"]["child_run_number"] == 4
    assert parent.new[0]["payload"]["child_workflow_run_id"] == current.state.run_id


def test_a_retry_is_not_claimed_before_its_time() -> None:
    family, part = family_of(child(retry_policy=retrying(2, 30)))
    new = end(family, part, FailWorkflow("boom"))
    task = new.row("workflow")
    assert new.expect(NotDue, ClaimTask(task.task_id, PLAIN)).available_at == task.available_at and not new.changed
    new.pass_time(30)
    assert new.claim().workflow_task_attempt == 1


@pytest.mark.parametrize(
    ("policy", "failure", "tried"),
    [
        (retrying(2), FailWorkflow("no", "Bad"), True),
        (retrying(1), FailWorkflow("no", "Bad"), False),
        (None, FailWorkflow("no", "Bad"), False),
        (retrying(9), FailWorkflow("no", "Bad", non_retryable=True), False),
        (retrying(9, types=("Bad",)), FailWorkflow("no", "Bad"), False),
        (retrying(9, types=("Bad",)), FailWorkflow("no", None, "Bad"), False),
        (retrying(9, types=("Bad",)), FailWorkflow("no", "Worse"), True),
        (retrying(9, types=("Bad",)), FailWorkflow("no"), True),
    ],
)
def test_which_failures_are_tried_again(policy: Any, failure: FailWorkflow, tried: bool) -> None:
    family, part = family_of(child(retry_policy=policy))
    new = end(family, part, failure)
    assert (new is not part) == tried
    assert family.root.new_types == ["ChildRunStarted" if tried else "ChildRunFailed"]


def test_a_timeout_is_a_failure_but_the_executions_is_the_last() -> None:
    family, part = family_of(child(retry_policy=retrying(9), run_timeout_seconds=30, execution_timeout_seconds=50))
    part.pass_time(30)
    act(family, part, WakeUp())
    new = family.newest(part.state.workflow_id)
    assert new is not part and new.events()[0]["payload"]["retry_attempt"] == 2
    assert (new.state.run_deadline_at, new.state.execution_deadline_at) == (START + 60 * SECOND, START + 50 * SECOND)
    new.pass_time(20)
    act(family, new, WakeUp())
    assert family.newest(part.state.workflow_id) is new and new.new[-1]["payload"]["timeout_kind"] == "execution_timeout"
    assert family.root.new_types == ["ChildRunFailed"] and family.root.new[0]["payload"]["failure_category"] == "timeout"


def test_continued_runs_are_no_attempts() -> None:
    family, part = family_of(child(retry_policy=retrying(2, 0, 40)))
    for _ in range(3):
        part = end(family, part, onward())
    retried = end(family, part, FailWorkflow("boom"))
    payload = family.root.new[0]["payload"]
    assert (payload["retry_attempt"], payload["retry_backoff_seconds"], payload["child_run_number"]) == (2, 0, 5)
    # It is tried again with what it was last continued with.
    assert retried.events()[0]["payload"]["arguments"] == {"codec": "avro", "blob": blob("NEXT").blob}
    end(family, retried, FailWorkflow("boom"))
    assert family.root.new_types == ["ChildRunFailed"]


def test_a_root_is_never_tried_again() -> None:
    run = RunModel()
    run.batch(FailWorkflow("boom"))
    assert run.successor is None and run.wake() == Refused("nothing_due")


def test_a_memo_goes_along_however_far() -> None:
    run = RunModel(memo={"m": [1]})
    _, second = continued(run, onward())
    _, third = continued(second, onward())
    family, part = family_of(child(retry_policy=retrying(2)), memo={"m": [1]})
    retried = end(family, part, FailWorkflow("boom"))
    _, onwards = continued(retried, onward())
    for each in (second, third, part, retried, onwards):
        started = next(event for event in each.events() if event["event_type"] == "WorkflowStarted")
        assert started["payload"]["memo"] == {"m": [1]} and each.state.memo_bytes == len('{"m":[1]}')
