"""Children: how they start and end, news of them (engine-semantics 2.5, 8.1, 8.2)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.run import ids
from actors.run.commands import RunCommand, WakeUp
from actors.run.commands.control import CancelRun, TerminateRun
from actors.run.commands.messages import ChildClosed, ChildRestarted
from actors.run.commands.steps import CompleteWorkflow, FailWorkflow, StartChild, UpsertSearchAttributes
from actors.run.ids import RunId
from actors.run.replies import TOO_EARLY, Done, Refused
from tests.core.family import CHILD, SECOND, Family, act, end, keys, of_type, parent_of, types
from tests.core.harness import START, RunModel, activity, blob, child, finish, result_of, resume_of, retrying

ENDED = CHILD | {"child_status", "closed_reason", "closed_at"}
STARTED = CHILD | {"parent_close_policy", "child_status"}
DEADLINES = {"execution_timeout_seconds", "run_timeout_seconds", "execution_deadline_at", "run_deadline_at"}


# -- start -------------------------------------------------------------------------------------------------------------


def test_a_plain_child_on_the_parents_side() -> None:
    run = RunModel()
    done = run.batch(child())
    scheduled, started = run.new
    assert run.new_types == ["ChildWorkflowScheduled", "ChildRunStarted"]
    assert keys(scheduled) == CHILD | {"parent_close_policy"} and keys(started) == STARTED
    payload = started["payload"]
    assert {key: payload[key] for key in scheduled["payload"]} == scheduled["payload"]
    assert (payload["parent_close_policy"], payload["child_status"], payload["child_run_number"]) == ("abandon", "pending", 1)
    assert payload["child_workflow_type"] == payload["child_workflow_class"] == "part" and payload["sequence"] == 1
    assert done.created_task_ids == [ids.first_task_of(payload["child_workflow_run_id"])] and run.rows == {}
    assert [message.workflow_id for message in run.messages] == [payload["child_workflow_instance_id"]]


def test_a_plain_child_on_its_own_side() -> None:
    family = parent_of()
    [part] = family.children_of(family.root)
    told = of_type(family.root, "ChildWorkflowScheduled")[0]
    assert types(part) == ["WorkflowStarted"] and part.events()[0]["workflow_command_id"] is None
    payload = part.events()[0]["payload"]
    assert payload.keys() == {
        "workflow_class",
        "workflow_type",
        "workflow_instance_id",
        "workflow_run_id",
        "workflow_id",
        "memo",
        "search_attributes",
        "timestamp",
        "payload_codec",
        "arguments",
        "task_queue",
        "parent_workflow_instance_id",
        "parent_workflow_run_id",
        "parent_sequence",
        "workflow_link_id",
        "child_call_id",
    }
    assert payload["workflow_run_id"] == told["child_workflow_run_id"]
    assert payload["workflow_instance_id"] == payload["workflow_id"] == told["child_workflow_instance_id"]
    assert (payload["parent_workflow_instance_id"], payload["parent_sequence"]) == ("order-7", 1)
    assert [payload[key] for key in ("workflow_link_id", "child_call_id")] == [
        told["workflow_link_id"],
        told["child_call_id"],
    ]
    assert payload["arguments"] == {"codec": "avro", "blob": "CHILD-ARGS"} and payload["task_queue"] == "main"
    assert part.row("workflow").available_at == START and resume_of(part.claim()) == {}
    assert part.state.status == "pending" and part.signal().command_sequence == 1


def test_options_of_a_child_are_frozen_into_its_events() -> None:
    family = parent_of(
        child(
            retry_policy=retrying(3, 2, 5, types=("Bad",)),
            execution_timeout_seconds=90,
            run_timeout_seconds=30,
            parent_close_policy="terminate",
            queue="side",
        )
    )
    scheduled, started = family.root.new
    assert keys(scheduled) == CHILD | {"parent_close_policy", "retry_policy", "timeout_policy"}
    assert keys(started) == STARTED | {"retry_policy", "timeout_policy"} | DEADLINES
    payload = started["payload"]
    assert payload["retry_policy"] == {
        "snapshot_version": 1,
        "max_attempts": 3,
        "backoff_seconds": [2, 5],
        "non_retryable_error_types": ["Bad"],
    }
    timeouts = {"snapshot_version": 1, "execution_timeout_seconds": 90, "run_timeout_seconds": 30}
    assert payload["timeout_policy"] == timeouts
    assert payload["execution_deadline_at"] == "2026-04-20T09:16:30+00:00"
    assert payload["run_deadline_at"] == "2026-04-20T09:15:30+00:00"
    [part] = family.children_of(family.root)
    own = part.events()[0]["payload"]
    for key in DEADLINES | {"retry_policy", "timeout_policy"}:
        assert own[key] == payload[key], key
    assert part.row("workflow").queue == "side" and part.wake_at == START + 30 * SECOND


def test_what_a_child_inherits_and_what_not() -> None:
    run = RunModel(
        business_key="b-1",
        memo={"m": 1},
        search_attributes={"s": "x"},
        priority=2,
        fairness_key="tenant",
        fairness_weight=3,
        compatibility="build-7",
        execution_timeout_seconds=900,
        run_timeout_seconds=600,
    )
    family = Family(run)
    run.batch(UpsertSearchAttributes({"stage": "two"}), child(), StartChild("bare"))
    family.deliver(run)
    for part in family.children_of(run):
        state, row = part.state, part.row("workflow")
        assert part.events()[0]["payload"]["memo"] == {"m": 1} and state.memo_bytes == len('{"m":1}')
        assert state.search_attributes == {"s": "x", "stage": "two"}
        assert (row.queue, row.priority, row.fairness_key, row.fairness_weight) == ("main", 2, "tenant", 3)
        assert row.compatibility == state.compatibility == "build-7" and state.namespace == "default"
        assert state.business_key is None and (state.execution_deadline_at, state.run_deadline_at, part.wake_at) == (None,) * 3
        payload = part.events()[0]["payload"]
        assert payload["memo"] == {"m": 1} and payload["search_attributes"] == {"s": "x", "stage": "two"}
        assert not payload.keys() & {"business_key", "retry_policy", "timeout_policy"}


def test_several_children_are_different_instances() -> None:
    family = parent_of(child("a"), child("a"), child("b"))
    scheduled = of_type(family.root, "ChildWorkflowScheduled")
    for key in ("child_workflow_instance_id", "child_workflow_run_id", "child_call_id", "workflow_link_id"):
        assert len({payload[key] for payload in scheduled}) == 3, key
    assert [payload["sequence"] for payload in scheduled] == [1, 2, 3]
    assert len(set(family.root.state.children)) == 3


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_completed_child_wakes_its_parent() -> None:
    family = parent_of()
    [part] = family.children_of(family.root)
    part.pass_time(3)
    end(family, part, finish())
    parent = family.root
    event = parent.new[0]
    payload, call = event["payload"], of_type(parent, "ChildWorkflowScheduled")[0]
    assert parent.new_types == ["ChildRunCompleted"] and keys(event) == ENDED | {"output", "result", "payload_codec"}
    assert {key: payload[key] for key in CHILD} == {key: call[key] for key in CHILD}
    assert (payload["child_status"], payload["closed_reason"]) == ("completed", "completed")
    assert payload["result"] == payload["output"] == "OUT" and payload["closed_at"] == "2026-04-20T09:15:03.250000Z"
    assert resume_of(parent.claim()) == {
        "workflow_wait_kind": "child",
        "open_wait_id": f"child:{call['child_call_id']}",
        "resume_source_kind": "child_workflow_run",
        "resume_source_id": call["child_workflow_run_id"],
        "child_call_id": call["child_call_id"],
        "child_workflow_run_id": call["child_workflow_run_id"],
        "workflow_sequence": 1,
        "workflow_event_type": "ChildRunCompleted",
    }
    assert parent.state.children == {}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, {"payload_codec": "avro"}),
        (blob("1", "json"), {"payload_codec": "json", "result": {"codec": "json", "blob": "1"}}),
    ],
)
def test_forms_of_a_childs_result(result: Any, expected: dict[str, Any]) -> None:
    family = parent_of()
    end(family, family.children_of(family.root)[0], CompleteWorkflow(result))
    payload = family.root.new[0]["payload"]
    assert {key: payload[key] for key in ("payload_codec", "result") if key in payload} == expected
    assert payload.get("output") == payload.get("result")


@pytest.mark.parametrize(
    ("step", "category"),
    [
        (FailWorkflow("no stock", "OutOfStock", non_retryable=True), "child_workflow"),
        (FailWorkflow("it timed out", "OutOfStock"), "child_workflow"),
        (FailWorkflow("Structural limit exceeded: x", "OutOfStock"), "structural_limit"),
    ],
)
def test_a_failed_child(step: FailWorkflow, category: str) -> None:
    family = parent_of()
    [part] = family.children_of(family.root)
    end(family, part, step)
    event = family.root.new[0]
    payload = event["payload"]
    assert event["event_type"] == "ChildRunFailed"
    failure = {"failure_id", "failure_category", "exception_type", "exception_class", "message", "exception", "code"}
    assert keys(event) - {"non_retryable"} == ENDED | failure
    assert (payload["failure_category"], payload["message"], payload["code"]) == (category, step.message, 0)
    assert (payload["exception_type"], payload["exception_class"]) == ("OutOfStock", "OutOfStock")
    assert payload["failure_id"] == of_type(part, "WorkflowFailed")[0]["failure_id"]
    assert not payload["exception"].keys() & {"class", "file", "line", "trace", "properties"}
    assert (payload["child_status"], payload["closed_reason"]) == ("failed", "failed")
    assert resume_of(family.root.claim())["workflow_event_type"] == "ChildRunFailed"


def test_a_child_that_timed_out() -> None:
    family = parent_of(child(run_timeout_seconds=30))
    [part] = family.children_of(family.root)
    part.pass_time(30)
    act(family, part, WakeUp())
    payload = family.root.new[0]["payload"]
    assert family.root.new_types == ["ChildRunFailed"]
    assert (payload["failure_category"], payload["closed_reason"], payload["child_status"]) == (
        "timeout",
        "timed_out",
        "failed",
    )
    assert payload["message"] == "Workflow run deadline expired at 2026-04-20T09:15:30+00:00."


@pytest.mark.parametrize(
    ("command", "word"), [(CancelRun(reason="because"), "cancelled"), (TerminateRun(reason="because"), "terminated")]
)
def test_a_stopped_child(command: RunCommand, word: str) -> None:
    family = parent_of(child(retry_policy=retrying(3)))
    [part] = family.children_of(family.root)
    act(family, part, command)
    event = family.root.new[0]
    payload = event["payload"]
    assert event["event_type"] == "ChildRun" + word.capitalize()
    assert keys(event) == ENDED | {"failure_id", "failure_category", "exception_class", "message"}
    assert payload["failure_category"] == payload["closed_reason"] == payload["child_status"] == word
    assert payload["message"] == f"Workflow {word}: because"
    assert (
        len(family.chains[part.state.workflow_id]) == 1
        and resume_of(family.root.claim())["workflow_event_type"] == event["event_type"]
    )


def test_news_of_a_child_are_taken_once_and_only_by_an_open_parent() -> None:
    family = parent_of()
    [part] = family.children_of(family.root)
    part.batch(finish())
    [message] = part.messages
    assert isinstance(message.command, ChildClosed)
    family.deliver(part)
    assert family.root.tell(message.command) == Done() and not family.root.changed
    other = parent_of()
    other.root.tell(CancelRun())
    [part] = other.children_of(other.root)
    end(other, part, finish())
    assert other.root.state.status == "cancelled" and not other.root.changed


def test_a_child_that_ends_under_a_lease_is_shown_by_the_next_task() -> None:
    family = parent_of(child(), activity())
    [part], parent = family.children_of(family.root), family.root
    parent.tell(result_of(parent.claim_activity()))
    grant = parent.claim()
    end(family, part, finish())
    assert parent.rows == {}
    done = parent.complete(grant, child(), activity())
    following = parent.claim()
    assert done.created_task_ids == [following.task_id] and resume_of(following)["workflow_wait_kind"] == "child"


def test_a_call_that_restarts_late_is_old_news() -> None:
    family = parent_of()
    parent = family.root
    [call] = of_type(parent, "ChildWorkflowScheduled")
    old = ChildRestarted(call["child_call_id"], call["child_workflow_run_id"], 1, "part", "link", None, None)
    assert parent.tell(old) == Done() and not parent.changed
    assert parent.tell(ChildRestarted("unknown", RunId("run"), 2, "part", "link", None, None)) == Done() and not parent.changed


def test_news_that_overtook_the_start_of_their_run_wait_for_it() -> None:
    family = parent_of()
    parent = family.root
    [call] = of_type(parent, "ChildWorkflowScheduled")
    call_id = call["child_call_id"]
    restarts = {
        number: ChildRestarted(call_id, RunId(f"run {number}"), number, "part", "link", None, None) for number in (2, 3)
    }
    ended = ChildClosed(call_id, RunId("run 3"), 3, "part", "completed", "completed", parent.now)
    for early in (restarts[3], ended):
        assert parent.tell(early) == Refused(TOO_EARLY) and not parent.changed
    assert parent.tell(restarts[2]) == Done() and parent.new_types == ["ChildRunStarted"]
    assert parent.tell(ended) == Refused(TOO_EARLY) and not parent.changed
    assert parent.tell(restarts[3]) == Done() and parent.new_types == ["ChildRunStarted"]
    assert parent.tell(ended) == Done() and parent.new_types == ["ChildRunCompleted"]
