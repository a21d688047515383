"""Activities: attempts, outcomes, retries, the four timeouts, late answers (engine-semantics 5; worker-protocol 5.3, 7)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from actors.run import ids
from actors.run.commands import WakeUp
from actors.run.commands.steps import StartTimer
from actors.run.commands.worker import ClaimTask, CompleteActivity, HeartbeatActivity, ReleaseClaim, RereadClaim
from actors.run.replies import ActivityProgress, ActivityRecorded, ActivityTaskGrant, NotDue, Refused
from actors.run.rules import Rules
from actors.run.values import Payload
from tests.core.harness import (
    OTHER,
    PYTHON,
    RUN_ID,
    START,
    RunModel,
    activity,
    blob,
    failure_of,
    finish,
    result_of,
    resume_of,
    retrying,
)
from tests.support.defaults import make_rules

SECOND = 1_000_000
KINDS = ("schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat")
NO_SUCH_ATTEMPT = ids.mint(START // 1000 + 10**6, ids.key_in(RUN_ID), ids.ATTEMPT)


def scheduled(*, rules: Rules | None = None, **fields: Any) -> RunModel:
    """A run that waits for one activity."""
    run = RunModel(rules or make_rules(), run_timeout_seconds=fields.pop("run_timeout_seconds", None))
    run.batch(activity(**fields))
    return run


def beat(grant: ActivityTaskGrant, **progress: Any) -> HeartbeatActivity:
    return HeartbeatActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner, progress)


# -- one attempt -------------------------------------------------------------------------------------------------------


def test_scheduled_event_and_row() -> None:
    run = scheduled(
        queue="q2", connection="line-1", priority=2, retry_policy=retrying(3, 1, 5, types=("Bad",)), heartbeat_timeout=9
    )
    (event,) = run.new
    execution = event["payload"]["activity_execution_id"]
    policy = {
        "snapshot_version": 1,
        "max_attempts": 3,
        "backoff_seconds": [1, 5],
        "start_to_close_timeout": None,
        "schedule_to_start_timeout": None,
        "schedule_to_close_timeout": None,
        "heartbeat_timeout": 9,
        "non_retryable_error_types": ["Bad"],
    }
    assert event["payload"] == {
        "activity_execution_id": execution,
        "activity_class": "charge",
        "activity_type": "charge",
        "sequence": 1,
        "activity": {
            "id": execution,
            "idempotency_key": execution,
            "sequence": 1,
            "type": "charge",
            "class": "charge",
            "status": "pending",
            "payload_codec": "avro",
            "attempt_count": 0,
            "retry_policy": policy,
            "connection": "line-1",
            "queue": "q2",
            "created_at": "2026-04-20T09:15:00.250000Z",
            "arguments": "ARGS",
        },
    }
    row = run.row("activity")
    assert (row.queue, row.type_name, row.priority, row.available_at) == ("q2", "charge", 2, run.now)
    assert run.claim_activity().retry_policy == policy


def test_no_options_no_policy() -> None:
    assert scheduled().claim_activity().retry_policy is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (None, b""),
        (blob('A"\\é'), orjson.dumps({"codec": "avro", "blob": 'A"\\é'})),
        (blob("[1]", "json"), b'{"codec":"json","blob":"[1]"}'),
        (Payload("avro", None, {"driver": "s3", "key": "k"}), b'{"codec":"avro","external_storage":{"driver":"s3","key":"k"}}'),
    ],
)
def test_arguments_reach_the_worker_unchanged(arguments: Payload | None, shown: bytes) -> None:
    grant = scheduled(arguments=arguments).claim_activity()
    assert grant.arguments == shown
    assert grant.payload_codec == ("avro" if arguments is None else arguments.codec)


def test_claim_starts_an_attempt() -> None:
    run = scheduled(
        start_to_close_timeout=30, heartbeat_timeout=10, schedule_to_start_timeout=60, schedule_to_close_timeout=100
    )
    run.pass_time(2)
    grant = run.claim_activity()
    assert run.new_types == ["ActivityStarted"]
    payload = run.new[0]["payload"]
    assert payload == {
        "activity_execution_id": grant.activity_execution_id,
        "activity_class": "charge",
        "activity_type": "charge",
        "activity_attempt_id": grant.activity_attempt_id,
        "attempt_number": 1,
        "sequence": 1,
    }
    assert run.new[0]["workflow_task_id"] is None
    assert grant.lease_expires_at == run.now + 300 * SECOND and grant.lease_owner == "python-1"
    assert grant.deadlines == {
        "schedule_to_start": START + 60 * SECOND,
        "start_to_close": run.now + 30 * SECOND,
        "schedule_to_close": START + 100 * SECOND,
        "heartbeat": run.now + 10 * SECOND,
    }
    assert "activity" not in {row.kind for row in run.rows.values()}
    assert run.wake_at == run.now + 10 * SECOND
    assert run.expect(Refused, ClaimTask(grant.task_id, OTHER)).reason == "not_ready"


def test_heartbeat_records_and_renews() -> None:
    run = scheduled(heartbeat_timeout=10)
    grant = run.claim_activity()
    run.pass_time(9)
    reply = run.expect(ActivityProgress, beat(grant, message="page 4", details={"page": 4}))
    assert reply == ActivityProgress(True, True, False, None, run.now + 300 * SECOND, run.now)
    (event,) = run.new
    assert event["event_type"] == "ActivityHeartbeatRecorded"
    assert event["payload"] == {
        "activity_execution_id": grant.activity_execution_id,
        "activity_class": "charge",
        "activity_type": "charge",
        "activity_attempt_id": grant.activity_attempt_id,
        "attempt_number": 1,
        "heartbeat_at": "2026-04-20T09:15:09.250000Z",
        "lease_expires_at": "2026-04-20T09:20:09.250000Z",
        "progress": {"message": "page 4", "details": {"page": 4}},
        "sequence": 1,
    }
    run.pass_time(9)
    assert run.wake() == Refused("nothing_due")
    run.tell(beat(grant))
    assert "progress" not in run.new[0]["payload"]
    assert next(iter(run.state.activities.values())).progress == {"message": "page 4", "details": {"page": 4}}


def test_completion_wakes_the_workflow() -> None:
    run = scheduled()
    grant = run.claim_activity()
    reply = run.succeed(grant, "PAID")
    assert run.new_types == ["ActivityCompleted"]
    payload = run.new[0]["payload"]
    assert payload == {
        "activity_execution_id": grant.activity_execution_id,
        "activity_class": "charge",
        "activity_type": "charge",
        "activity_attempt_id": grant.activity_attempt_id,
        "attempt_number": 1,
        "result": "PAID",
        "payload_codec": "avro",
        "sequence": 1,
    }
    assert reply == ActivityRecorded(run.row("workflow").task_id)
    assert run.state.activities == {}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, {"payload_codec": "avro"}),
        (blob("1", "json"), {"payload_codec": "json", "result": {"codec": "json", "blob": "1"}}),
        (
            Payload("avro", None, {"key": "k"}),
            {"payload_codec": "avro", "result": {"codec": "avro", "external_storage": {"key": "k"}}},
        ),
    ],
)
def test_forms_of_a_result(result: Payload | None, expected: dict[str, Any]) -> None:
    run = scheduled()
    grant = run.claim_activity()
    run.tell(CompleteActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner, result))
    payload = run.new[0]["payload"]
    assert {key: payload[key] for key in ("payload_codec", "result") if key in payload} == expected


def test_final_failure_carries_the_exception() -> None:
    run = scheduled()
    grant = run.claim_activity()
    reply = run.fail(
        grant, message="card 4242 declined", type="CardDeclined", non_retryable=True, details="D", details_payload_codec="avro"
    )
    assert run.new_types == ["ActivityFailed"]
    payload = run.new[0]["payload"]
    copy = payload.pop("activity")
    assert (copy["status"], copy["attempt_count"]) == ("failed", 1) and "arguments" not in copy
    assert payload == {
        "activity_execution_id": grant.activity_execution_id,
        "activity_attempt_id": grant.activity_attempt_id,
        "activity_type": "charge",
        "activity_class": "charge",
        "sequence": 1,
        "attempt_number": 1,
        "failure_id": payload["failure_id"],
        "failure_category": "activity",
        "non_retryable": True,
        "exception_type": "CardDeclined",
        "exception_class": "CardDeclined",
        "message": "card 4242 declined",
        "code": 0,
        "exception": {
            "type": "CardDeclined",
            "message": "card 4242 declined",
            "code": 0,
            "non_retryable": True,
            "details": "D",
            "details_payload_codec": "avro",
        },
    }
    assert reply == ActivityRecorded(run.row("workflow").task_id)


def test_failure_without_type_has_a_neutral_class() -> None:
    run = scheduled()
    run.fail(run.claim_activity(), code="E7")
    payload = run.new[0]["payload"]
    assert (payload["exception_class"], payload["code"], payload["non_retryable"]) == ("RuntimeException", "E7", False)
    assert "exception_type" not in payload


def test_outcome_under_a_leased_workflow_task_waits_for_it() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    first, second = run.claim_activity(), run.claim_activity()
    run.succeed(first)
    task = run.claim()
    assert run.succeed(second) == ActivityRecorded(None)
    done = run.complete(task, activity("c"))
    assert run.new_types == ["ActivityScheduled"]
    assert done.created_task_ids == [run.row("activity").task_id, run.row("workflow").task_id]
    assert resume_of(run.claim())["activity_type"] == "b"


# -- retries -----------------------------------------------------------------------------------------------------------


def test_retries_follow_the_backoff_list() -> None:
    run = scheduled(retry_policy=retrying(5, 2, 7))
    seen = []
    for number, backoff in ((1, 2), (2, 7), (3, 7), (4, 7)):
        grant = run.claim_activity()
        assert grant.attempt_number == number
        reply = run.fail(grant, type="Flaky")
        assert run.new_types == ["ActivityRetryScheduled"]
        payload = run.new[0]["payload"]
        row = run.row("activity")
        assert row.available_at == run.now + backoff * SECOND and row.task_id != grant.task_id
        assert payload["retry_task_id"] == row.task_id and payload["retry_of_task_id"] == grant.task_id
        assert payload["retry_backoff_seconds"] == backoff
        assert payload["activity_attempt_id"] == payload["retry_after_attempt_id"] == grant.activity_attempt_id
        assert (payload["retry_after_attempt"], payload["max_attempts"]) == (number, 5)
        assert (payload["exception_type"], payload["message"], payload["exception"]["type"]) == ("Flaky", "declined", "Flaky")
        assert "failure_id" not in payload and "timeout_kind" not in payload
        assert payload["sequence"] == 1 and payload["retry_policy"]["backoff_seconds"] == [2, 7]
        assert isinstance(reply, ActivityRecorded) and [row.kind for row in run.rows.values()] == ["activity"]
        assert run.expect(NotDue, ClaimTask(row.task_id, PYTHON)).available_at == row.available_at
        run.pass_time(backoff)
        seen.append(grant.activity_attempt_id)
    last = run.claim_activity()
    run.fail(last)
    assert run.new_types == ["ActivityFailed"] and run.new[0]["payload"]["attempt_number"] == 5
    assert last.activity_attempt_id not in seen and len(set(seen)) == 4
    assert last.activity_execution_id == run.new[0]["payload"]["activity_execution_id"]


def test_no_backoff_list_retries_at_once() -> None:
    run = scheduled(retry_policy=retrying(2))
    run.fail(run.claim_activity())
    assert run.claim_activity().attempt_number == 2


@pytest.mark.parametrize(
    ("failure", "final"),
    [
        ({"non_retryable": True}, True),
        ({"type": "Bad"}, True),
        ({"type": "Other", "class_": "Bad"}, True),
        ({"type": "bad"}, False),
        ({"type": "Bad2"}, False),
        ({}, False),
    ],
)
def test_what_is_not_retried(failure: dict[str, Any], final: bool) -> None:
    run = scheduled(retry_policy=retrying(3, types=("Bad",)))
    run.fail(run.claim_activity(), **failure)
    assert run.new_types == ["ActivityFailed" if final else "ActivityRetryScheduled"]


def test_lost_attempts_count_against_a_later_failure_but_never_forbid_redelivery() -> None:
    run = scheduled(retry_policy=retrying(2))
    for number in (1, 2, 3):
        grant = run.claim_activity()
        assert grant.attempt_number == number
        run.pass_time(300)
        run.wake()
        assert run.new == []
        assert run.row("activity").task_id == grant.task_id
    run.fail(run.claim_activity())
    assert run.new_types == ["ActivityFailed"]


def test_lease_lost_without_deadline() -> None:
    run = scheduled()
    lost = run.claim_activity()
    run.pass_time(300)
    run.wake()
    # Until somebody else has it, the lost attempt still counts.
    assert run.succeed(lost) == ActivityRecorded(run.row("workflow").task_id)
    assert [row.kind for row in run.rows.values()] == ["workflow"]

    other = scheduled()
    lost = other.claim_activity()
    other.pass_time(300)
    other.wake()
    fresh = other.claim_activity(OTHER)
    assert (fresh.task_id, fresh.attempt_number) == (lost.task_id, 2)
    assert fresh.activity_attempt_id != lost.activity_attempt_id
    assert other.expect(Refused, result_of(lost)).reason == "stale_attempt"
    other.succeed(fresh)


def test_a_lease_with_a_deadline_ends_by_the_deadline_only() -> None:
    run = scheduled(start_to_close_timeout=3600)
    grant = run.claim_activity()
    run.pass_time(1000)
    assert run.wake() == Refused("nothing_due")
    run.succeed(grant)


def test_release_and_reread() -> None:
    run = scheduled()
    grant = run.claim_activity()
    again = run.expect(ActivityTaskGrant, RereadClaim(grant.task_id, PYTHON, 1))
    assert again == grant and not run.changed
    assert run.expect(Refused, RereadClaim(grant.task_id, OTHER, 1)).reason == "not_leased"
    run.tell(ReleaseClaim(grant.task_id, "python-1", 2))
    assert not run.changed
    run.tell(ReleaseClaim(grant.task_id, "python-1", 1))
    assert run.new == [] and run.claim_activity().attempt_number == 2
    assert run.expect(Refused, RereadClaim(grant.task_id, PYTHON, 1)).reason == "not_leased"


# -- timeouts ----------------------------------------------------------------------------------------------------------


def timed_out(kind: str, attempts: int) -> tuple[RunModel, ActivityTaskGrant | None]:
    """A run whose activity has just passed its deadline of 20 seconds."""
    run = scheduled(retry_policy=retrying(attempts, 5), **{f"{kind}_timeout": 20})  # type: ignore[arg-type]
    grant = None
    if kind != "schedule_to_start":
        run.pass_time(1)
        grant = run.claim_activity()
    due = run.now if kind in ("heartbeat", "start_to_close") else START
    assert run.wake_at == due + 20 * SECOND
    run.now = due + 20 * SECOND - 1
    assert run.wake() == Refused("nothing_due")
    run.now += 1
    run.wake()
    return run, grant


MESSAGES = {
    "schedule_to_start": "Activity charge schedule-to-start deadline expired at 2026-04-20T09:15:20+00:00.",
    "start_to_close": "Activity charge start-to-close deadline expired at 2026-04-20T09:15:21+00:00.",
    "schedule_to_close": "Activity charge schedule-to-close deadline expired at 2026-04-20T09:15:20+00:00.",
    "heartbeat": "Activity charge heartbeat deadline expired at 2026-04-20T09:15:21+00:00 (last heartbeat: never).",
}
DEADLINE_KEYS = {
    "schedule_to_start": "schedule_deadline_at",
    "start_to_close": "close_deadline_at",
    "schedule_to_close": "schedule_to_close_deadline_at",
    "heartbeat": "heartbeat_deadline_at",
}


@pytest.mark.parametrize("kind", KINDS)
def test_timeout_without_retry(kind: str) -> None:
    run, grant = timed_out(kind, 1)
    assert run.new_types == ["ActivityTimedOut"]
    payload = run.new[0]["payload"]
    assert payload["timeout_kind"] == kind and payload["failure_category"] == "timeout" and payload["failure_id"]
    assert payload["message"] == MESSAGES[kind]
    assert payload["exception_class"] == "ActivityTimeoutException"
    assert DEADLINE_KEYS[kind] in payload and payload["sequence"] == 1
    assert payload.get("activity_attempt_id") == (None if grant is None else grant.activity_attempt_id)
    assert [row.kind for row in run.rows.values()] == ["workflow"]
    if grant is not None:
        assert run.expect(Refused, result_of(grant)).reason == "stale_attempt"
        assert not run.changed
    resume = resume_of(run.claim())
    assert (resume["workflow_event_type"], resume["workflow_wait_kind"]) == ("ActivityTimedOut", "activity")


@pytest.mark.parametrize("kind", KINDS)
def test_timeout_with_retry(kind: str) -> None:
    run, grant = timed_out(kind, 2)
    if kind == "schedule_to_close":
        assert run.new_types == ["ActivityTimedOut"]
        return
    assert run.new_types == ["ActivityRetryScheduled"]
    payload = run.new[0]["payload"]
    assert (payload["timeout_kind"], payload["message"]) == (kind, MESSAGES[kind])
    assert payload["exception_class"] == "ActivityTimeoutException"
    row = run.row("activity")
    assert row.available_at == run.now + 5 * SECOND and len(run.rows) == 1
    if grant is not None:
        stop = run.expect(ActivityProgress, beat(grant))
        assert (stop.can_continue, stop.reason, stop.heartbeat_recorded) == (False, "stale_attempt", False)
    run.pass_time(5)
    if kind == "schedule_to_start":
        # The clock of the retry starts when it becomes available.
        run.pass_time(19.999)
        assert run.wake() == Refused("nothing_due")
    again = run.claim_activity()
    assert again.attempt_number == 2
    run.fail(again)
    assert run.new_types == ["ActivityFailed"]


def test_heartbeats_hold_the_deadline_off_and_are_named_in_its_message() -> None:
    run = scheduled(heartbeat_timeout=10)
    grant = run.claim_activity()
    run.pass_time(8)
    run.tell(beat(grant))
    run.pass_time(8)
    assert run.wake() == Refused("nothing_due")
    run.pass_time(2)
    run.wake()
    assert run.new[0]["payload"]["message"].endswith(
        "heartbeat deadline expired at 2026-04-20T09:15:18+00:00 (last heartbeat: 2026-04-20T09:15:08+00:00)."
    )


def test_schedule_to_close_stands_first_and_covers_backoffs() -> None:
    run = scheduled(retry_policy=retrying(9, 30), schedule_to_close_timeout=40, start_to_close_timeout=10, heartbeat_timeout=10)
    run.fail(run.claim_activity())
    assert run.new_types == ["ActivityRetryScheduled"]
    run.pass_time(30)
    run.claim_activity()
    run.pass_time(10)
    run.wake()
    assert run.new_types == ["ActivityTimedOut"] and run.new[0]["payload"]["timeout_kind"] == "schedule_to_close"


def test_schedule_to_close_ends_a_backoff() -> None:
    run = scheduled(retry_policy=retrying(3, 50), schedule_to_close_timeout=20)
    run.fail(run.claim_activity())
    assert run.wake_at == START + 20 * SECOND
    run.pass_time(20)
    run.wake()
    assert run.new_types == ["ActivityTimedOut"] and [row.kind for row in run.rows.values()] == ["workflow"]


def test_heartbeat_stands_before_start_to_close() -> None:
    run = scheduled(start_to_close_timeout=10, heartbeat_timeout=10)
    run.claim_activity()
    run.pass_time(10)
    run.wake()
    assert run.new[0]["payload"]["timeout_kind"] == "heartbeat"


def test_an_overdue_task_is_not_granted() -> None:
    run = scheduled(schedule_to_start_timeout=5)
    run.pass_time(5)
    assert run.expect(Refused, ClaimTask(run.row("activity").task_id, PYTHON)).reason == "not_ready"
    assert run.new_types == ["ActivityTimedOut"]


def test_schedule_to_start_cannot_repeat_for_ever() -> None:
    run = scheduled(schedule_to_start_timeout=5, retry_policy=retrying(3))
    kinds = []
    for _ in range(3):
        run.pass_time(5)
        run.wake()
        kinds += run.new_types
    assert kinds == ["ActivityRetryScheduled", "ActivityRetryScheduled", "ActivityTimedOut"]


def test_an_outcome_before_the_enforcement_wins() -> None:
    run = scheduled(start_to_close_timeout=5)
    grant = run.claim_activity()
    run.pass_time(60)
    run.succeed(grant)
    assert run.new_types == ["ActivityCompleted"]
    assert run.tell(WakeUp()) == Refused("nothing_due")


# -- ownership and late answers ----------------------------------------------------------------------------------------


def test_ownership_errors_in_their_order() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    one, two = run.claim_activity(), run.claim_activity(OTHER)
    stray = ids.mint(START // 1000 + 10**6, ids.key_in(RUN_ID), ids.ACTIVITY_TASK)

    def reason(task_id: str, attempt_id: str, owner: str) -> str:
        answers = {run.expect(Refused, CompleteActivity(task_id, attempt_id, owner)).reason}
        answers.add(run.expect(Refused, HeartbeatActivity(task_id, attempt_id, owner)).reason)
        assert not run.changed and len(answers) == 1
        return answers.pop()

    assert reason(stray, NO_SUCH_ATTEMPT, "thief") == "task_not_found"
    assert reason("nonsense", NO_SUCH_ATTEMPT, "thief") == "task_not_found"
    assert reason(one.task_id, NO_SUCH_ATTEMPT, "thief") == "attempt_not_found"
    assert reason(one.task_id, "", "thief") == "attempt_not_found"
    assert reason(one.task_id, two.activity_attempt_id, "thief") == "task_mismatch"
    assert reason(one.task_id, one.activity_attempt_id, "thief") == "lease_owner_mismatch"
    refused = run.expect(Refused, CompleteActivity(one.task_id, one.activity_attempt_id, "thief"))
    assert refused.detail == {"lease_owner": "python-1"}


def test_two_outcomes_of_one_attempt() -> None:
    run = scheduled()
    grant = run.claim_activity()
    run.succeed(grant)
    for call in (result_of(grant), failure_of(grant)):
        assert run.expect(Refused, call).reason == "stale_attempt"
        assert not run.changed
    stop = run.expect(ActivityProgress, beat(grant))
    assert (stop.reason, stop.cancel_requested) == ("stale_attempt", False)


@pytest.mark.parametrize("how", ["succeed", "fail"])
def test_outcome_after_the_run_completed_is_taken_without_effect(how: str) -> None:
    run = RunModel()
    run.batch(activity(), StartTimer(0))
    grant = run.claim_activity()
    run.wake()
    run.batch(finish())
    before = len(run.history)
    stop = run.expect(ActivityProgress, beat(grant))
    assert (stop.can_continue, stop.cancel_requested, stop.reason) == (False, False, "run_closed")
    assert (stop.run_closed_reason, stop.run_closed_at) == ("completed", run.state.closed_at)
    call = result_of(grant) if how == "succeed" else failure_of(grant)
    assert run.tell(call) == ActivityRecorded(None)
    assert len(run.history) == before and run.rows == {}
    assert run.expect(Refused, call).reason == "stale_attempt"


@pytest.mark.parametrize("lost_lease", [False, True])
def test_outcome_after_the_run_timed_out_does_not_count(lost_lease: bool) -> None:
    run = scheduled(run_timeout_seconds=400)
    grant = run.claim_activity()
    if lost_lease:
        run.pass_time(300)
        run.wake()
    run.now = START + 400 * SECOND
    run.wake()
    assert run.new_types == ["ActivityCancelled", "WorkflowFailed", "WorkflowTimedOut"]
    cancelled = run.new[0]["payload"]
    assert cancelled == {
        "activity_execution_id": grant.activity_execution_id,
        "activity_class": "charge",
        "activity_type": "charge",
        "activity_attempt_id": grant.activity_attempt_id,
        "attempt_number": 1,
        "cancelled_at": "2026-04-20T09:21:40.250000Z",
        "sequence": 1,
    }
    assert [a.status for a in run.state.activities.values()] == ["cancelled"]
    stop = run.expect(ActivityProgress, beat(grant))
    assert (stop.can_continue, stop.cancel_requested, stop.reason) == (False, True, "activity_cancelled")
    assert stop.run_closed_reason == "timed_out"
    for call in (result_of(grant), failure_of(grant)):
        assert run.expect(Refused, call).reason == "stale_attempt"
        assert not run.changed


def test_unclaimed_activities_are_withdrawn_when_the_run_completes() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    grant = run.claim_activity()
    run.succeed(grant)
    waiting = run.row("activity").task_id
    run.batch(finish())
    assert run.rows == {} and run.wake_at is None
    assert run.expect(Refused, ClaimTask(waiting, PYTHON)).reason == "not_ready"


def test_result_above_the_limit_fails_the_activity() -> None:
    run = scheduled(rules=make_rules(payload_size_bytes=8), arguments=None, retry_policy=retrying(3))
    grant = run.claim_activity()
    reply = run.succeed(grant, "123456789")
    assert run.new_types == ["ActivityFailed"]
    payload = run.new[0]["payload"]
    assert (payload["failure_category"], payload["non_retryable"]) == ("structural_limit", True)
    assert payload["structural_limit_kind"] == "payload_size"
    assert (payload["structural_limit_value"], payload["structural_limit_configured"]) == (9, 8)
    assert payload["message"].startswith("Structural limit exceeded:")
    assert reply == ActivityRecorded(run.row("workflow").task_id)


def test_result_size_is_counted_in_bytes() -> None:
    run = scheduled(rules=make_rules(payload_size_bytes=8), arguments=None)
    run.tell(result_of(run.claim_activity(), '"ééé"', "json"))
    assert run.new_types == ["ActivityCompleted"]
    run = scheduled(rules=make_rules(payload_size_bytes=8), arguments=None)
    run.tell(result_of(run.claim_activity(), '"éééé"', "json"))
    assert run.new_types == ["ActivityFailed"] and run.new[0]["payload"]["structural_limit_value"] == 10
