"""Host runs: one standalone activity each, and never a workflow task (operations 10.2, control-plane 10)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from actors.run import ids
from actors.run.activity.attempts import MOST_ATTEMPTS
from actors.run.commands.control import (
    ArchiveRun,
    CancelRun,
    NoteDuplicateStart,
    RepairRun,
    SignalOnce,
    SignalRun,
    TerminateRun,
    UpdateRun,
)
from actors.run.commands.worker import ANY_ATTEMPT, ClaimTask, HeartbeatActivity, ReleaseClaim
from actors.run.decide import decide
from actors.run.replies import ActivityProgress, CommandAnswered, Done, Refused, StandaloneStart, Started
from actors.run.state import decode
from actors.run.times import Micros
from actors.run.transition import Transition
from tests.core.harness import (
    OTHER,
    PYTHON,
    RUN_ID,
    START,
    RunModel,
    activity,
    blob,
    result_of,
    retrying,
    standalone_command,
    start_command,
)

SECOND = 1_000_000
OTHER_RUN = ids.new_run_id(START // 1000 + 9, ids.RunKey("0a" + "z" * 13))


def test_a_start_schedules_the_activity_and_makes_no_workflow_task() -> None:
    run = RunModel.host(activity(schedule_to_start_timeout=5, schedule_to_close_timeout=60), business_key="b-1")
    started = run.started
    assert isinstance(started, Started) and started.activity is not None
    execution_id = started.activity.execution_id
    assert started.activity == StandaloneStart(
        execution_id, "charge", "label", "main", START, START + 5 * SECOND, START + 60 * SECOND
    )
    assert (started.status, started.outcome, started.workflow_type) == ("running", "started_new", "dw.standalone_activity")
    assert run.new_types == ["StartAccepted", "WorkflowStarted", "ActivityScheduled"]
    scheduled = run.new[2]["payload"]
    assert (scheduled["sequence"], scheduled["activity_execution_id"]) == (1, execution_id)
    assert run.new[1]["payload"]["arguments"] == {"codec": "avro", "blob": "INPUT"}
    [row] = run.rows.values()
    assert (row.kind, row.queue, row.type_name) == ("activity", "main", "charge")
    assert run.state.open_task is None and run.wake_at == START + 5 * SECOND
    # Told again it is the same start.
    again = run.tell(standalone_command(activity(), run_id=RUN_ID))
    assert again == started and not run.changed


def test_a_result_closes_the_run() -> None:
    run = RunModel.host(activity())
    grant = run.claim_activity()
    assert (grant.workflow_id, grant.activity_type, grant.attempt_number) == ("scan-4", "charge", 1)
    run.pass_time(1)
    run.succeed(grant)
    assert run.new_types == ["ActivityCompleted", "WorkflowCompleted"]
    assert run.new[1]["payload"] == {"output": "RESULT", "payload_codec": "avro"}
    closed(run, "completed", "completed", "completed", [(1, "completed")])


def test_a_result_in_another_codec_stays_an_envelope() -> None:
    run = RunModel.host(activity())
    run.tell(result_of(run.claim_activity(), "[1]", "json"))
    assert run.new[1]["payload"]["output"] == {"codec": "json", "blob": "[1]"}


def closed(run: RunModel, status: str, reason: str, end: str, attempts: list[tuple[int, str]]) -> None:
    """The host run is closed, and remembers what it is asked about."""
    state = run.state
    assert (state.status, state.closed_reason) == (status, reason)
    assert state.standalone is not None
    assert state.standalone.status == end
    assert [(each.number, each.status) for each in state.standalone.attempts] == attempts
    assert not run.rows and run.wake_at is None


def test_retries_do_not_touch_the_host() -> None:
    run = RunModel.host(activity(retry_policy=retrying(3, 2)))
    run.fail(run.claim_activity())
    assert run.new_types == ["ActivityRetryScheduled"]
    assert (run.state.status, run.state.is_open) == ("running", True)
    run.pass_time(2)
    run.fail(run.claim_activity(OTHER), type="Declined", message="no")
    run.pass_time(2)
    run.fail(run.claim_activity(), type="Declined", message="no", non_retryable=True)
    assert run.new_types == ["ActivityFailed", "WorkflowFailed"]
    failed = run.new[1]["payload"]
    assert (failed["source_kind"], failed["failure_category"]) == ("activity_execution", "activity")
    assert (failed["exception_type"], failed["message"], failed["non_retryable"]) == ("Declined", "no", True)
    closed(run, "failed", "failed", "failed", [(1, "failed"), (2, "failed"), (3, "failed")])
    host = run.state.standalone
    assert host is not None and [each.owner for each in host.attempts] == ["python-1", "python-2", "python-1"]


@pytest.mark.parametrize(
    ("kind", "claimed"),
    [("schedule_to_start", False), ("start_to_close", True), ("heartbeat", True), ("schedule_to_close", True)],
)
def test_a_timeout_closes_the_run_as_timed_out(kind: str, claimed: bool) -> None:
    timeout: dict[str, Any] = {f"{kind}_timeout": 5}
    run = RunModel.host(activity(**timeout))
    if claimed:
        run.claim_activity()
    assert run.wake_at == START + 5 * SECOND
    run.pass_time(5)
    run.wake()
    assert run.new_types == ["ActivityTimedOut", "WorkflowFailed", "WorkflowTimedOut"]
    assert run.new[2]["payload"]["timeout_kind"] == kind
    assert run.new[1]["payload"]["failure_category"] == "timeout"
    closed(run, "failed", "timed_out", "failed", [(1, "expired")] if claimed else [])


def test_a_claim_that_comes_after_the_deadline_closes_the_run() -> None:
    run = RunModel.host(activity(schedule_to_start_timeout=5))
    run.pass_time(6)
    assert isinstance(run.tell(ClaimTask(run.row("activity").task_id, PYTHON)), Refused)
    closed(run, "failed", "timed_out", "failed", [])


@pytest.mark.parametrize(("command", "status"), [(CancelRun(reason="why"), "cancelled"), (TerminateRun(), "terminated")])
@pytest.mark.parametrize("claimed", [False, True])
def test_a_stop_cancels_the_activity(command: Any, status: str, claimed: bool) -> None:
    run = RunModel.host(activity())
    grant = run.claim_activity() if claimed else None
    run.expect(CommandAnswered, command)
    ended = f"Workflow{status.capitalize()}"
    assert run.new_types[1:] == ["ActivityCancelled", ended]
    closed(run, status, status, "cancelled", [(1, "cancelled")] if claimed else [])
    if grant is not None:
        beat = run.expect(ActivityProgress, HeartbeatActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner))
        assert beat.cancel_requested
        refused = run.expect(Refused, result_of(grant))
        assert refused.reason == f"run_{status}"
        assert not run.changed


def test_heartbeats_leave_the_state_as_long_as_it_was() -> None:
    run = RunModel.host(activity(heartbeat_timeout=30))
    grant = run.claim_activity()
    beat = HeartbeatActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner, {"current": 1})
    run.expect(ActivityProgress, beat)
    size = len(run.data)
    for _ in range(100):
        run.pass_time(1)
        run.expect(ActivityProgress, beat)
    assert len(run.data) <= size + 20


def test_a_great_many_attempts_are_not_all_remembered() -> None:
    run = RunModel.host(activity(retry_policy=retrying(1000)))
    for _ in range(MOST_ATTEMPTS + 5):
        run.fail(run.claim_activity())
    host = run.state.standalone
    assert host is not None
    assert [each.number for each in host.attempts] == list(range(6, MOST_ATTEMPTS + 6))


def test_a_lost_attempt_is_remembered_as_expired() -> None:
    run = RunModel.host(activity())
    grant = run.claim_activity()
    run.expect(Done, ReleaseClaim(grant.task_id, "python-1", ANY_ATTEMPT))
    run.succeed(run.claim_activity(OTHER))
    closed(run, "completed", "completed", "completed", [(1, "expired"), (2, "completed")])


# -- the id, again -----------------------------------------------------------------------------------------------------


def test_an_open_run_keeps_its_id() -> None:
    run = RunModel.host(activity())
    answer = run.expect(Started, NoteDuplicateStart(standalone_command(activity("other"), run_id=OTHER_RUN)))
    assert (answer.outcome, answer.run_id) == ("rejected_duplicate", RUN_ID)
    assert run.new_types == ["StartRejected"] and run.successor is None


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_closed_run_makes_way(end: str) -> None:
    run = RunModel.host(activity())
    if end == "completed":
        run.succeed(run.claim_activity())
    else:
        run.tell(CancelRun())
    history = list(run.history)
    start = standalone_command(activity("other"), "second", run_id=OTHER_RUN)
    answer = run.expect(Started, NoteDuplicateStart(start))
    assert (answer.outcome, answer.run_id) == ("started_new", OTHER_RUN)
    assert run.history == history and run.state.superseded
    new = run.successor
    assert new is not None
    assert (new.state.run_number, new.state.run_id, new.state.status) == (2, OTHER_RUN, "running")
    assert [event["event_type"] for event in new.events()] == ["StartAccepted", "WorkflowStarted", "ActivityScheduled"]
    new.succeed(new.claim_activity())
    assert new.state.closed_reason == "completed"
    # The old run speaks for the id no more.
    assert run.expect(Refused, NoteDuplicateStart(start)).reason == "run_continued"
    assert run.expect(Refused, ArchiveRun()).reason == "run_continued"


def test_workflows_and_activities_do_not_share_ids() -> None:
    workflow = RunModel(workflow_id="scan-4")
    refused = workflow.expect(Refused, NoteDuplicateStart(standalone_command(activity(), run_id=OTHER_RUN)))
    assert refused.reason == "workflow_type_mismatch" and not workflow.changed
    for close in (False, True):
        host = RunModel.host(activity())
        if close:
            host.tell(CancelRun())
        refused = host.expect(Refused, NoteDuplicateStart(start_command(workflow_id="scan-4", run_id=OTHER_RUN)))
        assert refused.reason == "workflow_type_mismatch" and not host.changed
        elsewhere = standalone_command(activity(), run_id=OTHER_RUN, namespace="other")
        refused = host.expect(Refused, NoteDuplicateStart(elsewhere))
        assert refused.reason == "workflow_id_reserved_in_namespace" and not host.changed


# -- what is for workflows ---------------------------------------------------------------------------------------------


def test_signals_and_updates_are_unknown_to_a_host_run() -> None:
    run = RunModel.host(activity())
    for command in (SignalRun(name="go"), SignalOnce(name="go", once=" bridge:1")):
        answer = run.expect(CommandAnswered, command)
        assert (answer.rejection, answer.outcome) == ("unknown_signal", "rejected_unknown_signal")
        assert not run.new
    answer = run.expect(CommandAnswered, UpdateRun(name="set"))
    assert (answer.rejection, answer.outcome) == ("unknown_update", "rejected_unknown_update")
    assert not run.new and len(run.rows) == 1
    run.succeed(run.claim_activity())
    assert run.expect(CommandAnswered, SignalRun(name="go")).rejection == "run_not_active"


def test_a_repair_has_nothing_to_do() -> None:
    run = RunModel.host(activity())
    for claimed in (False, True):
        if claimed:
            run.claim_activity()
        answer = run.expect(CommandAnswered, RepairRun())
        assert answer.outcome == "repair_not_needed"
        assert [row.kind for row in run.rows.values()] == ([] if claimed else ["activity"])
        assert run.new[0]["payload"]["wait_kind"] == "activity"
    assert run.state.open_task is None


def test_a_closed_run_is_archived() -> None:
    run = RunModel.host(activity())
    assert run.expect(CommandAnswered, ArchiveRun()).rejection == "run_not_closed"
    run.succeed(run.claim_activity())
    assert run.expect(CommandAnswered, ArchiveRun()).outcome == "archived"


class OldTask(msgspec.Struct):
    """A workflow task as programs of before know it."""

    status: Literal["ready", "leased", "completed", "cancelled"] = "ready"


class OldState(msgspec.Struct):
    """What they would read of a run."""

    task: OldTask | None = None


def test_programs_that_know_no_host_runs_refuse_their_states() -> None:
    """They would make a workflow task when the activity ends, and nobody serves those."""
    run = RunModel.host(activity())
    with pytest.raises(msgspec.ValidationError, match="never"):
        msgspec.msgpack.decode(run.data, type=OldState)
    assert msgspec.msgpack.decode(RunModel().data, type=OldState).task == OldTask("ready")


# -- signals that count once -------------------------------------------------------------------------------------------


def test_a_signal_that_counts_once_takes_its_request_with_it() -> None:
    run = RunModel()
    answer = run.expect(CommandAnswered, SignalOnce(name="go", arguments=blob("ARGS"), once=" bridge:1", attribution={"a": 1}))
    assert answer.outcome == "signal_received"
    assert run.new_types == ["SignalReceived"]
    assert run.new[0]["payload"]["command"]["type"] == "signal"


def test_two_of_them_in_one_transition_are_one() -> None:
    run = RunModel()
    tx = Transition(decode(run.data), list(run.history), Micros(run.now), run.rules, run.dialect)
    command = SignalOnce(name="go", once=" bridge:1")
    assert isinstance(decide(tx, command), CommandAnswered)
    assert decide(tx, command) == Refused("update_request_taken")
    assert isinstance(decide(tx, SignalOnce(name="go", once=" bridge:2")), CommandAnswered)
    assert [request for request, _ in tx.requests] == [" bridge:1", " bridge:2"]
    assert len(tx.events) == 2 and len(tx.state.signals) == 2
