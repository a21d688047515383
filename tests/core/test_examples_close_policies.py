"""What a parent's closing does to its children and theirs (engine-semantics 2.5, 8.5)."""

from __future__ import annotations

import pytest

from actors.run.commands import RunCommand, WakeUp
from actors.run.commands.control import CancelRun, TerminateRun
from actors.run.commands.messages import ParentClosed
from actors.run.commands.steps import FailWorkflow, WorkflowCommand
from actors.run.replies import Refused
from tests.core.family import Family, act, end, of_type, parent_of, types
from tests.core.harness import RunModel, activity, child, completion, finish, onward, result_of

WORDS = {"request_cancel": "cancelled", "terminate": "terminated"}

ENDS: dict[str, tuple[RunCommand | None, WorkflowCommand | None]] = {
    "completed": (None, finish()),
    "failed": (None, FailWorkflow("no")),
    "cancelled": (CancelRun(), None),
    "terminated": (TerminateRun(), None),
    "timed_out": (WakeUp(), None),
}


@pytest.mark.parametrize("reason", list(ENDS))
def test_close_policies(reason: str) -> None:
    policies = ["terminate", "abandon", "request_cancel"]
    family = Family(RunModel(run_timeout_seconds=50))
    parent = family.root
    parent.batch(*[child(parent_close_policy=policy) for policy in policies], activity())
    family.deliver(parent)
    first, left, last = family.children_of(parent)
    first.batch(activity())
    parent.pass_time(50 if reason == "timed_out" else 1)
    command, step = ENDS[reason]
    if step is not None:
        parent.tell(result_of(parent.claim_activity()))
        command = completion(parent.claim(), step)
    assert command is not None
    act(family, parent, command)
    applied = of_type(parent, "ParentClosePolicyApplied")
    assert types(parent)[-2:] == ["ParentClosePolicyApplied"] * 2 and len(applied) == 2
    for payload, policy, part in zip(applied, ("terminate", "request_cancel"), (first, last), strict=True):
        text = f"Parent workflow closed ({reason}); parent-close policy: {policy}."
        state = part.state
        assert payload == {
            "child_instance_id": state.workflow_id,
            "child_run_id": state.run_id,
            "policy": policy,
            "reason": text,
        }
        word = WORDS[policy]
        assert (state.status, state.closed_reason, part.rows) == (word, word, {})
        ending = part.events()[-1]["payload"]
        assert (ending["reason"], ending["message"]) == (text, f"Workflow {word}: {text}")
    assert types(first)[-3:] == ["TerminateRequested", "ActivityCancelled", "WorkflowTerminated"]
    assert left.state.is_open and types(left) == ["WorkflowStarted"] and parent.state.children == {}


def test_close_policies_reach_grandchildren() -> None:
    family = parent_of(child(parent_close_policy="terminate"), child(parent_close_policy="abandon"))
    bound, free = family.children_of(family.root)
    for part in (bound, free):
        end(
            family,
            part,
            child("g", parent_close_policy="request_cancel"),
            child("g"),
            child("g", parent_close_policy="terminate"),
        )
    act(family, family.root, CancelRun())
    assert [part.state.status for part in family.children_of(bound)] == ["cancelled", "pending", "terminated"]
    assert [part.state.status for part in family.children_of(free)] == ["pending"] * 3
    cancelled = family.children_of(bound)[0].events()[-1]["payload"]
    assert cancelled["reason"] == "Parent workflow closed (terminated); parent-close policy: request_cancel."


def test_children_that_are_closed_are_left_alone() -> None:
    family = parent_of(child(parent_close_policy="terminate"), child(parent_close_policy="terminate"))
    first, second = family.children_of(family.root)
    end(family, first, finish())
    act(family, family.root, TerminateRun())
    assert [payload["child_run_id"] for payload in of_type(family.root, "ParentClosePolicyApplied")] == [second.state.run_id]
    assert first.state.status == "completed"
    assert first.tell(ParentClosed("terminate", "again")) == Refused("run_not_active") and not first.changed


def test_a_policy_finds_the_run_that_went_on() -> None:
    family = parent_of(child(parent_close_policy="terminate"))
    [part] = family.children_of(family.root)
    part.batch(onward())  # its parent does not know yet
    family.chains[part.state.workflow_id].append(part.successor or part)
    act(family, family.root, CancelRun())
    assert family.newest(part.state.workflow_id).state.status == "terminated" and part.state.closed_reason == "continued"
