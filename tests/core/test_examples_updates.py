"""Updates: accepted at once, answered by a task of their own, closed with their run (engine-semantics 2.5, 4.1, 7.3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.run.commands import RunCommand, WakeUp
from actors.run.commands.control import CancelRun, ReadUpdate, TerminateRun, UpdateRun
from actors.run.commands.steps import CompleteUpdate, FailUpdate, FailWorkflow, RecordSideEffect, StartTimer, WorkflowCommand
from actors.run.replies import CommandAnswered, UpdateStatus
from tests.core.family import CMD, keys, of_type, refused, rejected, types
from tests.core.harness import PLAIN, RUN_ID, RunModel, activity, blob, completion, finish, onward, result_of, resume_of, wait
from tests.support.defaults import make_rules

NAMED = CMD | {"update_id", "update_name"}
ACCEPTED = NAMED | {"arguments", "payload_codec", "ordering_state", "command_sequence"}
BEHIND = {"queued_behind_command_id", "queued_behind_command_sequence", "queued_behind_command_type"}
FAILURE = {"failure_id", "failure_category", "non_retryable", "exception_class", "message", "code", "exception"}


def blocked(*steps: WorkflowCommand, **start: Any) -> RunModel:
    """A run that waits for an activity, unless told otherwise."""
    run = RunModel(**start)
    run.batch(*(steps or (activity(),)))
    return run


def test_an_update_is_accepted_and_gets_a_task_of_its_own() -> None:
    run = blocked()
    status = run.update("price")
    assert (status.status, status.name, status.command_sequence) == ("accepted", "price", 2)
    assert (status.run_id, status.accepted_at, status.step, status.closed_at) == (RUN_ID, run.now, None, None)
    assert run.new_types == ["UpdateAccepted"] and keys(run.new[0]) == ACCEPTED
    payload = run.new[0]["payload"]
    assert run.new[0]["workflow_command_id"] == payload["workflow_command_id"] == status.command_id
    assert (payload["update_id"], payload["update_name"], payload["ordering_state"]) == (status.update_id, "price", "ready")
    assert payload["arguments"] == {"codec": "avro", "blob": "ARGS"}
    assert resume_of(run.claim()) == {
        "workflow_wait_kind": "update",
        "open_wait_id": f"update:{status.update_id}",
        "resume_source_kind": "workflow_update",
        "resume_source_id": status.update_id,
        "workflow_update_id": status.update_id,
        "workflow_command_id": status.command_id,
    }


def test_an_update_behind_an_unapplied_signal_says_so() -> None:
    run = blocked()
    signal = run.signal()
    run.update()
    assert keys(run.new[0]) == ACCEPTED | BEHIND
    payload = run.new[0]["payload"]
    assert payload["ordering_state"] == "queued" and [payload[key] for key in sorted(BEHIND)] == [
        signal.command_id,
        signal.command_sequence,
        "signal",
    ]
    # It says so only: updates are never held back for signals.
    assert resume_of(run.claim())["workflow_wait_kind"] == "update"


def test_an_update_waits_for_the_first_normal_task() -> None:
    run = RunModel()
    status = run.update()
    assert len(run.rows) == 1 and run.new_types == ["UpdateAccepted"]
    grant = run.claim()
    assert resume_of(grant) == {}
    done = run.complete(grant, activity())
    task = run.row("workflow").task_id
    assert task in done.created_task_ids and resume_of(run.claim())["workflow_update_id"] == status.update_id


def test_an_update_under_a_lease_is_recorded_at_once_and_waits_for_its_end() -> None:
    run = RunModel()
    grant = run.claim()
    run.update()
    assert (run.new_types, run.rows) == (["UpdateAccepted"], {})
    run.complete(grant, activity())
    assert types(run)[2:] == ["UpdateAccepted", "ActivityScheduled"]
    assert resume_of(run.claim())["workflow_wait_kind"] == "update"


def test_a_completed_update() -> None:
    run = blocked()
    status = run.update("price")
    grant = run.claim()
    done = run.complete(grant, CompleteUpdate(status.update_id, blob("ANSWER")))
    assert (done.run_status, done.created_task_ids) == ("waiting", [])
    applied, completed = run.new
    assert run.new_types == ["UpdateApplied", "UpdateCompleted"]
    assert keys(applied) == NAMED | {"arguments", "payload_codec", "sequence"}
    assert keys(completed) == NAMED | {"result", "payload_codec", "sequence"}
    for event in (applied, completed):
        assert event["payload"]["sequence"] == 2 and event["payload"]["update_id"] == status.update_id
        assert event["workflow_command_id"] == status.command_id and event["workflow_task_id"] == grant.task_id
    assert applied["payload"]["arguments"] == {"codec": "avro", "blob": "ARGS"}
    assert completed["payload"]["result"] == "ANSWER"
    closed = run.expect(UpdateStatus, ReadUpdate(status.update_id))
    assert (closed.status, closed.result, closed.step, closed.closed_at) == ("completed", blob("ANSWER"), 2, run.now)
    assert (closed.command_id, closed.command_sequence) == (status.command_id, 2) and run.state.updates == {}


def test_a_completed_update_without_result_or_in_another_codec() -> None:
    run = blocked()
    first, second = run.update(), run.update()
    run.batch(CompleteUpdate(first.update_id))
    assert keys(run.new[1]) == NAMED | {"payload_codec", "sequence"}
    run.batch(CompleteUpdate(second.update_id, blob("1", "json")))
    assert run.new[1]["payload"]["result"] == {"codec": "json", "blob": "1"}
    assert run.expect(UpdateStatus, ReadUpdate(second.update_id)).result == blob("1", "json")


@pytest.mark.parametrize("message", ["update handler failed: no", "update validator failed: no"])
def test_a_failed_update_is_not_applied(message: str) -> None:
    run = blocked(wait())
    status = run.update()
    done = run.batch(FailUpdate(status.update_id, message, "BadPrice", non_retryable=True))
    assert (done.run_status, done.created_task_ids, run.rows) == ("waiting", [], {})
    assert run.new_types == ["UpdateCompleted"]
    assert keys(run.new[0]) == NAMED | FAILURE | {"exception_type", "sequence"}
    payload = run.new[0]["payload"]
    assert (payload["message"], payload["exception_type"], payload["exception_class"]) == (message, "BadPrice", "BadPrice")
    assert (payload["failure_category"], payload["non_retryable"], payload["code"]) == ("application", True, 0)
    closed = run.expect(UpdateStatus, ReadUpdate(status.update_id))
    assert (closed.status, closed.failure_id, closed.failure_message) == ("failed", payload["failure_id"], message)


@pytest.mark.parametrize(("step", "follows"), [(wait(), True), (activity(), False), (StartTimer(60), False)])
def test_a_plain_task_follows_an_applied_update_where_a_wait_is_open(step: WorkflowCommand, follows: bool) -> None:
    run = blocked(step)
    status = run.update()
    done = run.batch(CompleteUpdate(status.update_id))
    assert bool(done.created_task_ids) == follows
    if follows:
        grant = run.claim()
        assert resume_of(grant) == {} and done.created_task_ids == [grant.task_id]


@pytest.mark.parametrize("failed", [False, True])
def test_a_plain_task_follows_an_update_where_nothing_is_open(failed: bool) -> None:
    run = RunModel()
    grant = run.claim()
    status = run.update()
    run.complete(grant, RecordSideEffect(blob("V")))
    leased = run.claim()
    assert resume_of(leased)["workflow_wait_kind"] == "update"
    done = run.complete(leased, FailUpdate(status.update_id, "no") if failed else CompleteUpdate(status.update_id))
    following = run.claim()
    assert resume_of(following) == {} and done.created_task_ids == [following.task_id]


def test_one_update_per_task_in_the_order_of_their_commands() -> None:
    run = blocked()
    updates = [run.update(name) for name in "abc"]
    assert len([row for row in run.rows.values() if row.kind == "workflow"]) == 1
    for at, status in enumerate(updates):
        grant = run.claim()
        assert resume_of(grant)["workflow_update_id"] == status.update_id
        done = run.complete(grant, CompleteUpdate(status.update_id))
        assert len(done.created_task_ids) == (at < 2)


def test_an_updates_task_is_not_extended_by_other_causes() -> None:
    run = blocked()
    running = run.claim_activity()
    status = run.update()
    task = run.row("workflow").task_id
    run.tell(result_of(running))
    assert [row.task_id for row in run.rows.values()] == [task]
    grant = run.claim()
    assert resume_of(grant)["workflow_wait_kind"] == "update"
    done = run.complete(grant, CompleteUpdate(status.update_id))
    following = run.claim()
    assert done.created_task_ids == [following.task_id] and resume_of(following)["workflow_wait_kind"] == "activity"


def test_wake_ups_come_before_updates() -> None:
    run = blocked(StartTimer(5))
    run.pass_time(5)
    run.wake()
    grant = run.claim()
    status = run.update()
    run.complete(grant, activity())
    running = run.claim_activity()
    leased = run.claim()
    assert resume_of(leased)["workflow_update_id"] == status.update_id
    second = run.update()
    run.tell(result_of(running))
    run.complete(leased, CompleteUpdate(status.update_id))
    assert resume_of(run.claim())["workflow_wait_kind"] == "activity" and second.update_id in run.state.updates


def test_an_updates_task_completed_without_its_answer_comes_again() -> None:
    run = blocked()
    status = run.update()
    first = run.claim(PLAIN)
    run.complete(first, RecordSideEffect(blob("V")))
    again = run.claim(PLAIN)
    assert again.task_id != first.task_id and resume_of(again)["workflow_update_id"] == status.update_id


def test_other_workers_may_close_updates_in_a_normal_task() -> None:
    run = RunModel()
    grant = run.claim(PLAIN)
    one, two = run.update("one"), run.update("two")
    run.complete(grant, CompleteUpdate(one.update_id), activity(), FailUpdate(two.update_id, "no"))
    assert run.new_types == ["UpdateApplied", "UpdateCompleted", "ActivityScheduled", "UpdateCompleted"]
    assert [event["payload"]["sequence"] for event in run.new] == [1, 1, 2, 3]
    assert [row.kind for row in run.rows.values()] == ["activity"] and run.state.updates == {}


def test_answers_that_fit_no_update_are_refused() -> None:
    run = blocked()
    one, two = run.update(), run.update()
    grant = run.claim()
    for steps in (
        [CompleteUpdate(two.update_id)],
        [CompleteUpdate(one.update_id), FailUpdate(one.update_id, "no")],
        [CompleteUpdate("unknown")],
        [activity(), FailUpdate("unknown", "no")],
    ):
        refused(run, completion(grant, *steps), "invalid_commands")
    run.complete(grant, CompleteUpdate(one.update_id))
    refused(run, completion(run.claim(), CompleteUpdate(one.update_id)), "invalid_commands")


def test_the_request_id_makes_an_update_one() -> None:
    run = blocked()
    first = run.update(request_id="r-1")
    again = run.expect(UpdateStatus, UpdateRun(name="set", request_id="r-1"))
    assert again == msgspec.structs.replace(first, repeated=True) and not run.changed
    assert run.update(request_id="r-2").update_id != first.update_id
    assert run.update().update_id != run.update().update_id


def test_pending_updates_are_limited() -> None:
    run = blocked(rules=make_rules(pending_update_count=2))
    one = run.update()
    run.update(request_id="r-1")
    pending = dict(run.state.updates)
    answer = run.expect(CommandAnswered, UpdateRun(name="three", arguments=blob("[3]")))
    assert (answer.rejection, answer.outcome) == ("structural_limit_exceeded", None)
    assert run.new_types == ["UpdateRejected"] and run.state.updates == pending
    payload = run.new[0]["payload"]
    assert keys(run.new[0]) == NAMED | {"arguments", "payload_codec", "rejection_reason", "validation_errors"}
    assert (payload["update_id"], payload["update_name"]) == (answer.update_id, "three")
    assert (payload["arguments"], payload["validation_errors"]) == ({"codec": "avro", "blob": "[3]"}, {})
    assert payload["workflow_command_id"] == answer.command_id and answer.command_sequence == 4
    assert run.expect(UpdateStatus, UpdateRun(name="set", request_id="r-1")).status == "accepted"
    run.batch(CompleteUpdate(one.update_id))
    run.update("three")
    assert [update.name for update in run.state.updates.values()] == ["set", "three"]


# -- closing -----------------------------------------------------------------------------------------------------------


def closing_commands(run: RunModel) -> dict[str, RunCommand]:
    """What ends a run whose normal task is leased."""
    grant = run.claim()
    return {
        "completed": completion(grant, finish()),
        "failed": completion(grant, FailWorkflow("no")),
        "cancelled": CancelRun(),
        "terminated": TerminateRun(),
        "timed_out": WakeUp(),
    }


@pytest.mark.parametrize("reason", ["completed", "failed", "cancelled", "terminated", "timed_out"])
def test_a_closing_run_answers_its_updates(reason: str) -> None:
    run = RunModel(run_timeout_seconds=30)
    ends = closing_commands(run)
    updates = [run.update(name) for name in ("one", "two")]
    if reason == "timed_out":
        run.pass_time(30)
    run.tell(ends[reason])
    assert run.new_types[-2:] == ["UpdateCompleted", "UpdateCompleted"] and "UpdateApplied" not in run.new_types
    assert run.new_types[-3].startswith("Workflow")
    for event, status in zip(run.new[-2:], updates, strict=True):
        assert keys(event) == NAMED | FAILURE | {"terminal_reason"}
        payload = event["payload"]
        message = f"Workflow run closed as {reason} before accepted update {status.name} could be applied."
        assert (payload["update_id"], payload["terminal_reason"], payload["message"]) == (status.update_id, reason, message)
        assert (payload["failure_category"], payload["exception_class"]) == ("application", "RuntimeException")
        assert (payload["non_retryable"], payload["code"]) == (True, 0) and payload["exception"]["message"] == message
        closed = run.expect(UpdateStatus, ReadUpdate(status.update_id))
        assert (closed.status, closed.failure_message, closed.step) == ("failed", message, None)
    assert run.state.updates == {} and run.rows == {}


def test_an_update_to_a_closed_run_is_rejected() -> None:
    run = RunModel()
    run.batch(finish())
    rejected(run, UpdateRun(name="late"), "run_not_active", "rejected_not_active")
    refused(run, ReadUpdate("nothing"), "update_not_found")


def test_an_update_answered_by_the_batch_that_closes_the_run() -> None:
    run = RunModel()
    grant = run.claim(PLAIN)
    status = run.update()
    run.complete(grant, finish(), CompleteUpdate(status.update_id))
    assert run.new_types == ["UpdateApplied", "UpdateCompleted", "WorkflowCompleted"]


def test_updates_go_on_with_a_continued_run_unless_sent_to_the_old_one() -> None:
    run = RunModel()
    grant = run.claim()
    kept = run.update("kept", request_id="r-1")
    closed = run.update("closed", to_run=True)
    run.complete(grant, onward())
    assert run.new_types == ["WorkflowContinuedAsNew", "UpdateCompleted"]
    assert run.new[1]["payload"]["update_id"] == closed.update_id and run.new[1]["payload"]["terminal_reason"] == "continued"
    new = run.successor
    assert new is not None and types(new) == ["WorkflowStarted", "UpdateAccepted"]
    moved = of_type(new, "UpdateAccepted")[0]
    assert moved["update_id"] == kept.update_id and moved["workflow_run_id"] == new.state.run_id
    assert moved["arguments"] == {"codec": "avro", "blob": "ARGS"}
    # The request id still names it, in the new run.
    again = new.expect(UpdateStatus, UpdateRun(name="kept", request_id="r-1"))
    assert (again.update_id, again.run_id, new.changed) == (kept.update_id, new.state.run_id, False)
    new.batch(activity())
    new.batch(CompleteUpdate(kept.update_id, blob("ANSWER")))
    assert new.expect(UpdateStatus, ReadUpdate(kept.update_id)).result == blob("ANSWER")
