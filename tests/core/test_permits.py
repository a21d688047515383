"""Every way in which a lease ends gives its places under caps back, in the same transition (contract operations 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.run.commands.control import CancelRun, RepairRun, TerminateRun
from actors.run.commands.messages import ParentClosed
from actors.run.commands.steps import FailWorkflow
from actors.run.commands.worker import (
    ClaimTask,
    FailWorkflowTask,
    HeartbeatActivity,
    HeartbeatWorkflowTask,
    ReleaseClaim,
    RereadClaim,
)
from actors.run.replies import ActivityProgress, ActivityTaskGrant, WorkflowTaskGrant
from actors.run.state import RunState, decode, encode
from actors.run.values import Permit
from tests.core.harness import (
    OTHER,
    PYTHON,
    RunModel,
    activity,
    finish,
    onward,
    retrying,
)


def capped(**start: Any) -> RunModel:
    run = RunModel(**start)
    run.capped = True
    return run


def leased(**start: Any) -> tuple[RunModel, WorkflowTaskGrant]:
    """A run whose workflow task a worker has."""
    run = capped(**start)
    grant = run.claim()
    assert len(run.places) == 2
    return run, grant


def running(**options: Any) -> tuple[RunModel, ActivityTaskGrant]:
    """A run that waits for an activity which a worker has."""
    run = capped()
    run.batch(activity(**options))
    assert not run.places
    grant = run.claim_activity()
    assert len(run.places) == 2
    return run, grant


def later(run: RunModel, seconds: float) -> RunModel:
    run.pass_time(seconds)
    return run


def expire(run: RunModel, seconds: float) -> None:
    run.pass_time(seconds)
    run.wake()


WORKFLOW_ENDS: dict[str, Callable[[RunModel, WorkflowTaskGrant], object]] = {
    "completed": lambda run, grant: run.complete(grant, activity()),
    "completed with the run": lambda run, grant: run.complete(grant, finish()),
    "failed with the run": lambda run, grant: run.complete(grant, FailWorkflow("no", "E")),
    "continued as new": lambda run, grant: run.complete(grant, onward()),
    "failed": lambda run, grant: run.tell(
        FailWorkflowTask(grant.task_id, grant.lease_owner, grant.workflow_task_attempt, "cannot replay")
    ),
    "released": lambda run, grant: run.tell(ReleaseClaim(grant.task_id, grant.lease_owner, grant.workflow_task_attempt)),
    "run out": lambda run, grant: expire(run, 60),
    "run out, noticed by its worker": lambda run, grant: later(run, 61).tell(beat(grant)),
    "run out, noticed by repair": lambda run, grant: later(run, 61).tell(RepairRun()),
    "cancelled": lambda run, grant: run.tell(CancelRun(reason=None)),
    "terminated": lambda run, grant: run.tell(TerminateRun(reason=None)),
    "closed by its parent": lambda run, grant: run.tell(ParentClosed("terminate", "gone")),
    "timed out with the run": lambda run, grant: expire(run, 30),
}

ACTIVITY_ENDS: dict[str, tuple[dict[str, Any], Callable[[RunModel, ActivityTaskGrant], object]]] = {
    "completed": ({}, lambda run, grant: run.succeed(grant)),
    "failed": ({}, lambda run, grant: run.fail(grant)),
    "failed, tried again": ({"retry_policy": retrying(3)}, lambda run, grant: run.fail(grant)),
    "released": ({}, lambda run, grant: run.tell(ReleaseClaim(grant.task_id, grant.lease_owner, grant.attempt_number))),
    "run out": ({}, lambda run, grant: expire(run, 300)),
    "start to close": ({"start_to_close_timeout": 9}, lambda run, grant: expire(run, 9)),
    "start to close, tried again": (
        {"start_to_close_timeout": 9, "retry_policy": retrying(3)},
        lambda run, grant: expire(run, 9),
    ),
    "schedule to close": ({"schedule_to_close_timeout": 9}, lambda run, grant: expire(run, 9)),
    "no heartbeat": ({"heartbeat_timeout": 9}, lambda run, grant: expire(run, 9)),
    "cancelled with the run": ({}, lambda run, grant: run.tell(CancelRun(reason=None))),
    "terminated with the run": ({}, lambda run, grant: run.tell(TerminateRun(reason=None))),
}


def beat(grant: WorkflowTaskGrant) -> HeartbeatWorkflowTask:
    return HeartbeatWorkflowTask(grant.task_id, grant.lease_owner, grant.workflow_task_attempt)


@pytest.mark.parametrize("end", WORKFLOW_ENDS)
def test_however_a_workflow_task_ends_its_places_are_free(end: str) -> None:
    run, grant = leased(**({"run_timeout_seconds": 30} if end.startswith("timed out") else {}))
    WORKFLOW_ENDS[end](run, grant)
    assert not run.places and not run.state.permits
    assert run.spent == [Permit("d0", 0)], "a dispatch stays counted"


@pytest.mark.parametrize("end", ACTIVITY_ENDS)
def test_however_an_attempt_ends_its_places_are_free(end: str) -> None:
    options, work = ACTIVITY_ENDS[end]
    run, grant = running(**options)
    work(run, grant)
    assert not run.places and not run.state.permits


def test_an_activity_the_run_goes_on_without_has_no_place() -> None:
    run = capped()
    run.batch(activity(), activity("other"))
    first = run.claim_activity()
    run.succeed(run.claim_activity())
    assert len(run.places) == 2
    run.batch(finish())
    assert not run.places
    run.succeed(first)
    assert not run.places


def test_a_lease_keeps_its_places_while_it_is_renewed_and_read_again() -> None:
    run, grant = leased()
    held = set(run.places)
    run.pass_time(50)
    run.tell(beat(grant))
    run.tell(RereadClaim(grant.task_id, PYTHON, grant.workflow_task_attempt))
    run.signal()
    run.pass_time(50)
    run.wake()
    assert run.places == held


def test_an_attempt_keeps_its_places_until_its_own_deadline() -> None:
    """Its lease as such ended long ago, and still its worker may report (engine-semantics 5.3)."""
    run, _ = running(start_to_close_timeout=3600)
    expire(run, 1000)
    assert len(run.places) == 2
    expire(run, 2600)
    assert not run.places


def test_under_a_cap_an_attempt_whose_lease_ran_out_cannot_go_on() -> None:
    run, grant = running()
    expire(run, 300)
    reply = run.tell(HeartbeatActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner))
    assert isinstance(reply, ActivityProgress)
    assert (reply.can_continue, reply.reason) == (False, "task_not_leased")
    again = run.claim_activity(OTHER)
    assert again.attempt_number == 2 and len(run.places) == 2


def test_a_lease_that_is_granted_anew_has_its_own_places_only() -> None:
    run, grant = leased()
    first = set(run.places)
    run.tell(ReleaseClaim(grant.task_id, grant.lease_owner, grant.workflow_task_attempt))
    run.capped = False
    run.claim(OTHER)
    assert not run.places and first
    assert run.state.permits == {}


def test_states_without_places_are_stored_as_before() -> None:
    run = RunModel()
    assert b"permits" not in encode(run.state)
    run.claim()
    assert b"permits" not in encode(run.state) and b"capped" not in encode(run.state)
    assert isinstance(decode(run.data), RunState)
    assert ClaimTask("t", PYTHON).permits == ()
