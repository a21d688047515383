"""Leases: fencing, expiry, renewal, handing back by failing; for workflow tasks and for activity attempts."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest

from tests.wire.caller import COMPLETE, PATIENCE_SECONDS, Caller, reason_of, schedule

# -- fences of workflow tasks ------------------------------------------------------------------------------------------

VERBS: dict[str, dict[str, Any]] = {
    "complete": {"commands": [COMPLETE]},
    "fail": {"failure": {"message": "no"}},
    "heartbeat": {},
    "history": {"next_history_page_token": "MA=="},
}


@pytest.mark.parametrize("verb", VERBS)
async def test_only_the_holder_of_the_lease_may_speak(caller: Caller, verb: str) -> None:
    worker = await caller.register()
    run = await caller.start()
    task = await caller.poll(worker)
    before = await caller.history(run)
    for changed, expected, extra in (
        ({"lease_owner": "other"}, (409, "lease_owner_mismatch"), {"lease_owner": worker}),
        ({"workflow_task_attempt": 2}, (409, "workflow_task_attempt_mismatch"), {"current_attempt": 1}),
    ):
        answer = await caller.workflow_call(verb, task, **VERBS[verb], **changed)
        assert reason_of(answer) == expected
        body = answer.json()
        assert {name: body[name] for name in extra} == extra
        assert (body["task_id"], body["workflow_task_attempt"]) == (task["task_id"], changed.get("workflow_task_attempt", 1))
        assert body["error"]
    assert await caller.history(run) == before
    assert (await caller.complete(task)).status_code == 200
    answer = await caller.workflow_call(verb, task, **VERBS[verb])
    assert reason_of(answer) == (409, "run_closed")
    body = answer.json()
    assert (body["stop_reason"], body["can_continue"], body["cancel_requested"]) == ("run_completed", False, False)
    assert (body["run_status"], body["run_closed_reason"], body["error"]) == (
        "completed",
        "completed",
        "Workflow run is already closed.",
    )


@pytest.mark.parametrize("verb", VERBS)
async def test_a_completed_task_of_an_open_run_is_not_leased(caller: Caller, verb: str) -> None:
    worker = await caller.register()
    await caller.start()
    task = await caller.poll(worker)
    assert (await caller.complete(task, schedule())).status_code == 200
    answer = await caller.workflow_call(verb, task, **VERBS[verb])
    assert reason_of(answer) == (409, "task_not_leased")


async def test_a_task_of_another_namespace_is_unknown(caller: Caller) -> None:
    made = await caller.client.post("/api/namespaces", json={"name": "elsewhere", "retention_days": 1})
    assert made.status_code in (201, 409)
    worker = await caller.register()
    await caller.start()
    task = await caller.poll(worker)
    for verb, fields in VERBS.items():
        body = {"lease_owner": worker, "workflow_task_attempt": 1, **fields}
        path = f"workflow-tasks/{task['task_id']}/{verb}"
        assert reason_of(await caller.call(path, body, headers={"X-Namespace": "elsewhere"})) == (404, "task_not_found")
    assert (await caller.complete(task)).status_code == 200


# -- expiry ------------------------------------------------------------------------------------------------------------


async def test_an_expired_lease_comes_back_with_the_next_attempt(hasty: Caller) -> None:
    first, second = await hasty.register(), await hasty.register()
    run = await hasty.start()
    task = await hasty.poll(first)
    assert (task["workflow_task_attempt"], task["total_history_events"]) == (1, 2)
    again = await hasty.poll(second)
    assert (again["task_id"], again["workflow_task_attempt"]) == (task["task_id"], 2)
    events = await hasty.history(run)
    assert [event["event_type"] for event in events[2:]] == ["RepairRequested"]
    repaired = events[2]["payload"]
    assert (repaired["outcome"], repaired["task_id"], repaired["task_type"]) == (
        "repair_dispatched",
        task["task_id"],
        "workflow",
    )
    assert repaired["liveness_state"] == "repair_needed"
    assert [event["event_type"] for event in again["history_events"]] == ["StartAccepted", "WorkflowStarted", "RepairRequested"]
    late = await hasty.complete(task)
    assert reason_of(late) == (409, "lease_owner_mismatch")
    assert late.json()["lease_owner"] == second
    assert (await hasty.complete(again)).status_code == 200
    assert await hasty.types(run) == ["RepairRequested", "WorkflowCompleted"]


async def test_the_same_worker_is_told_by_the_attempt(hasty: Caller) -> None:
    worker = await hasty.register()
    await hasty.start()
    task = await hasty.poll(worker)
    again = await hasty.poll(worker)
    assert again["workflow_task_attempt"] == 2
    late = await hasty.complete(task)
    assert reason_of(late) == (409, "workflow_task_attempt_mismatch")
    assert late.json()["current_attempt"] == 2
    assert (await hasty.complete(again)).status_code == 200


async def test_a_late_call_nobody_overtook(hasty: Caller) -> None:
    worker = await hasty.register()
    run = await hasty.start()
    task = await hasty.poll(worker)
    await hasty.until(run, "RepairRequested")
    assert reason_of(await hasty.complete(task)) == (409, "task_not_leased")
    assert (await hasty.complete(await hasty.poll(worker))).status_code == 200


async def test_heartbeats_keep_a_workflow_task(hasty: Caller) -> None:
    worker = await hasty.register()
    run = await hasty.start()
    task = await hasty.poll(worker)
    ends = datetime.fromisoformat(task["lease_expires_at"])
    for _ in range(8):
        await asyncio.sleep(0.3)
        answer = await hasty.workflow_call("heartbeat", task)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["renewed"], body["task_status"], body["run_status"], body["reason"]) == (True, "leased", "pending", None)
        renewed = datetime.fromisoformat(body["lease_expires_at"])
        assert renewed > ends
        ends = renewed
    assert (await hasty.complete(task)).status_code == 200
    assert await hasty.types(run) == ["WorkflowCompleted"]


# -- failed workflow tasks ---------------------------------------------------------------------------------------------


async def test_a_failed_workflow_task_comes_back_later_and_later(hasty: Caller) -> None:
    """The base is one second on this server: 1, 2, ... seconds; the run is never failed and history says nothing."""
    worker = await hasty.register()
    run = await hasty.start()
    task = await hasty.poll(worker)
    for attempt, least in ((1, 1.0), (2, 2.0)):
        assert task["workflow_task_attempt"] == attempt
        failure = {"message": "cannot replay", "type": "NonDeterminism", "stack_trace": "at line 1"}
        answer = await hasty.workflow_call("fail", task, failure=failure)
        since = time.monotonic()
        assert answer.status_code == 200
        body = answer.json()
        assert (body["outcome"], body["recorded"], body["reason"], body["next_task_id"]) == ("failed", True, None, None)
        assert reason_of(await hasty.complete(task)) == (409, "task_not_leased")
        again = await hasty.poll(worker)
        waited = time.monotonic() - since
        assert least - 0.1 <= waited < least + 5
        assert again["task_id"] == task["task_id"]
        task = again
    assert task["workflow_task_attempt"] == 3
    assert (await hasty.complete(task)).status_code == 200
    assert await hasty.types(run) == ["WorkflowCompleted"]


# -- activity leases ---------------------------------------------------------------------------------------------------


async def _activity(caller: Caller, worker: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run with one leased activity attempt."""
    run = await caller.start()
    assert (await caller.complete(await caller.poll(worker), schedule(**options))).status_code == 200
    return run, await caller.poll(worker, "activity")


async def test_an_expired_activity_lease_is_a_new_attempt(hasty: Caller) -> None:
    first, second = await hasty.register(), await hasty.register()
    run, task = await _activity(hasty, first)
    assert task["attempt_number"] == 1
    again = await hasty.poll(second, "activity")
    assert (again["task_id"], again["activity_execution_id"]) == (task["task_id"], task["activity_execution_id"])
    assert again["activity_attempt_id"] != task["activity_attempt_id"]
    assert again["attempt_number"] == 2
    for verb, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "late"}})):
        answer = await hasty.activity_call(verb, task, **fields)
        assert reason_of(answer) == (409, "stale_attempt")
        assert answer.json()["recorded"] is False
    beat = (await hasty.activity_call("heartbeat", task)).json()
    assert (beat["can_continue"], beat["heartbeat_recorded"]) == (False, False)
    assert (await hasty.activity_call("complete", again, result="second")).status_code == 200
    assert await hasty.types(run) == ["ActivityScheduled", "ActivityStarted", "ActivityStarted", "ActivityCompleted"]


async def test_activity_heartbeats_renew_the_lease(hasty: Caller) -> None:
    worker = await hasty.register()
    run, task = await _activity(hasty, worker)
    for step in range(8):
        await asyncio.sleep(0.3)
        answer = await hasty.activity_call("heartbeat", task, message="working", current=step, total=8, unit="steps")
        body = answer.json()
        assert (answer.status_code, body["can_continue"], body["heartbeat_recorded"]) == (200, True, True)
    assert (await hasty.activity_call("complete", task, result=None)).status_code == 200
    names = await hasty.types(run)
    assert names.count("ActivityStarted") == 1
    assert names.count("ActivityHeartbeatRecorded") == 8


async def test_fences_of_activity_attempts(caller: Caller) -> None:
    worker = await caller.register()
    run, task = await _activity(caller, worker)
    other_run, other = await _activity(caller, worker)
    before = await caller.history(run), await caller.history(other_run)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("complete", {"result": 1}),
        ("fail", {"failure": {"message": "no"}}),
        ("heartbeat", {"message": "hi"}),
    ]
    for verb, fields in calls:
        body = {"lease_owner": worker, "activity_attempt_id": task["activity_attempt_id"], **fields}
        path = f"activity-tasks/{task['task_id']}/{verb}"
        for changed, expected in (
            ({"lease_owner": "other"}, (409, "lease_owner_mismatch")),
            ({"activity_attempt_id": "0" * 26}, (404, "attempt_not_found")),
            ({"activity_attempt_id": "nonsense"}, (404, "attempt_not_found")),
        ):
            assert reason_of(await caller.call(path, {**body, **changed})) == expected
        for unknown in ("nonsense", "0" * 26, task["run_id"], "x" * 300):
            answer = await caller.call(f"activity-tasks/{unknown}/{verb}", body)
            assert reason_of(answer) == (404, "task_not_found"), unknown
        path = f"activity-tasks/{other['task_id']}/{verb}"
        assert (await caller.call(path, body)).status_code in (404, 409)
    assert (await caller.history(run), await caller.history(other_run)) == before


async def test_two_activities_of_one_run_keep_their_attempts_apart(caller: Caller) -> None:
    worker = await caller.register()
    await caller.start()
    await caller.complete(await caller.poll(worker), schedule(), schedule())
    one, two = await caller.poll(worker, "activity"), await caller.poll(worker, "activity")
    body = {"lease_owner": worker, "activity_attempt_id": one["activity_attempt_id"], "result": 1}
    answer = await caller.call(f"activity-tasks/{two['task_id']}/complete", body)
    assert reason_of(answer) == (409, "task_mismatch")


async def test_outcomes_after_the_run_closed_without_them(caller: Caller) -> None:
    """The run completed while an attempt was running: its outcome is taken note of, without effect."""
    worker = await caller.register()
    run = await caller.start()
    await caller.complete(await caller.poll(worker), schedule("one"), schedule("two"), schedule("three"))
    tasks = {task["activity_type"]: task for task in [await caller.poll(worker, "activity") for _ in range(2)]}
    assert set(tasks) == {"one", "two"}
    assert (await caller.activity_call("complete", tasks["one"], result=1)).status_code == 200
    assert (await caller.complete(await caller.poll(worker))).status_code == 200
    before = await caller.history(run)
    beat = (await caller.activity_call("heartbeat", tasks["two"])).json()
    assert (beat["can_continue"], beat["reason"], beat["heartbeat_recorded"]) == (False, "run_closed", False)
    answer = await caller.activity_call("complete", tasks["two"], result=2)
    assert answer.status_code == 200
    assert (answer.json()["recorded"], answer.json()["next_task_id"]) == (True, None)
    assert reason_of(await caller.activity_call("complete", tasks["two"], result=2)) == (409, "stale_attempt")
    assert await caller.poll_once(worker, "activity") is None
    assert await caller.history(run) == before


async def test_deadlines_of_an_attempt_are_told(caller: Caller) -> None:
    worker = await caller.register()
    options = {
        "schedule_to_start_timeout": 30,
        "start_to_close_timeout": 20,
        "schedule_to_close_timeout": 60,
        "heartbeat_timeout": 10,
        "retry_policy": {"max_attempts": 2, "backoff_seconds": [0]},
    }
    _, task = await _activity(caller, worker, **options)
    assert set(task["deadlines"]) == {"schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat"}
    assert task["retry_policy"]["snapshot_version"] == 1
    now = datetime.now().astimezone()
    for name, most in (("start_to_close", 20), ("heartbeat", 10), ("schedule_to_close", 60)):
        left = (datetime.fromisoformat(task["deadlines"][name]) - now).total_seconds()
        assert most - PATIENCE_SECONDS < left <= most + 1, name


async def test_a_run_that_times_out_under_a_lease(caller: Caller) -> None:
    worker = await caller.register()
    run = await caller.start(run_timeout_seconds=1)
    task = await caller.poll(worker)
    await caller.until(run, "WorkflowTimedOut")
    answer = await caller.complete(task)
    assert answer.status_code == 409
    assert answer.json()["reason"] in ("run_closed", "run_timed_out")
    assert answer.json()["run_status"] == "failed"
    assert await caller.types(run) == ["WorkflowFailed", "WorkflowTimedOut"]
