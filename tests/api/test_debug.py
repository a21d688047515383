"""The debug snapshot against a running node: what it tells in each situation (control-plane 5.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.driver import Http

TOP = {
    "generated_at",
    "workflow_id",
    "run_id",
    "namespace",
    "diagnostic_status",
    "execution",
    "pending_workflow_tasks",
    "pending_activities",
    "task_queue",
    "recent_failures",
    "compatibility",
    "findings",
    "control_plane",
}


def codes(body: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in body["findings"]]


def empties(value: Any, path: str = "") -> list[str]:
    """Where a nested object has a null or an empty list."""
    if isinstance(value, list):
        return [found for number, item in enumerate(value) for found in empties(item, f"{path}.{number}")]
    if not isinstance(value, dict):
        return []
    bad = [f"{path}.{key}" for key, item in value.items() if item is None or item == []]
    return bad + [found for key, item in value.items() for found in empties(item, f"{path}.{key}")]


async def test_a_run_nobody_works_for(http: Http) -> None:
    run_id = (await http.start(workflow_id="debug-1"))["run_id"]
    for path in ("debug-1/debug", f"debug-1/runs/{run_id}/debug"):
        body = await http.get(f"/workflows/{path}")
        assert body.keys() == TOP
        assert (body["run_id"], body["namespace"], body["diagnostic_status"]) == (run_id, "default", "pending_work")
        control = body["control_plane"]
        assert (control["operation"], control["run_id"], control["diagnostic_status"]) == (
            "debug_workflow",
            run_id,
            "pending_work",
        )
        task = body["pending_workflow_tasks"][0]
        expected = {
            "task_type": "workflow",
            "status": "ready",
            "transport_state": "ready",
            "summary": "ready to run",
            "queue": http.queue,
            "lease_expired": False,
            "attempt_count": 0,
            "repair_count": 0,
            "dispatch_failed": False,
            "dispatch_overdue": False,
            "claim_failed": False,
            "replay_blocked": False,
            "task_missing": False,
            "synthetic": False,
        }
        assert {key: task[key] for key in expected} == expected
        assert task.keys() == {*expected, "task_id", "available_at"}
        execution = body["execution"]
        assert (execution["status"], execution["status_bucket"], execution["is_terminal"]) == ("pending", "running", False)
        assert (execution["wait_kind"], execution["wait_reason"]) == ("workflow-task", "Workflow task ready")
        assert (execution["liveness_state"], execution["task_problem"]) == ("workflow_task_ready", False)
        assert execution["next_scheduled_event"] == {
            "source": "run_summary",
            "task_id": task["task_id"],
            "task_type": "workflow",
            "task_status": "ready",
            "available_at": task["available_at"],
        }
        event = execution["last_event"]
        assert (event["sequence"], event["event_type"]) == (2, "WorkflowStarted")
        summary = event["payload_summary"]
        assert (summary["included"], summary["top_level_type"], summary["preview_max_bytes"]) == (False, "object", 4096)
        assert summary["top_level_key_count"] == len(summary["top_level_keys"])
        assert "payload_preview" not in event
        assert (body["pending_activities"], body["recent_failures"], codes(body)) == ([], [], ["no_active_pollers"])
        queue = body["task_queue"]
        assert (queue["name"], queue["pollers"], queue["current_leases"]) == (http.queue, [], [])
        assert queue["stats"]["approximate_backlog_count"] == queue["stats"]["workflow_tasks"]["ready_count"] == 1
        oldest = queue["stats"]["oldest_ready_task"]
        assert (oldest["workflow_id"], oldest["run_id"], oldest["task_id"]) == ("debug-1", run_id, task["task_id"])
        assert queue["stats"]["approximate_backlog_age"].endswith("s")
        assert "admission" not in queue
        assert body["compatibility"]["run"] == {
            "compatibility": None,
            "summary_compatibility": None,
            "task_queue": http.queue,
        }
        for key in ("execution", "pending_workflow_tasks", "recent_failures"):
            assert empties(body[key]) == []


async def test_the_payload_of_the_last_event(http: Http) -> None:
    await http.start(workflow_id="debug-2")
    await http.post("/workflows/debug-2/signal/s", 202, input=["x" * 5000])
    for flag in ("1", "true"):
        event = (await http.get(f"/workflows/debug-2/debug?include_last_event_payload={flag}"))["execution"]["last_event"]
        preview = event["payload_preview"]
        assert event["payload_summary"]["included"] is True
        assert (event["event_type"], preview["encoding"], preview["max_bytes"]) == ("SignalReceived", "json", 4096)
        assert (preview["truncated"], len(preview["data"])) == (True, 4096)
        assert preview["size_bytes"] == event["payload_summary"]["size_bytes"] > 5000
        assert "signal_name" in event["payload_summary"]["top_level_keys"]
    await http.post("/workflows/debug-2/signal/t", 202)
    preview = (await http.get("/workflows/debug-2/debug?include_last_event_payload=1"))["execution"]["last_event"][
        "payload_preview"
    ]
    assert preview["truncated"] is False
    assert len(preview["data"]) == preview["size_bytes"]
    body = await http.get("/workflows/debug-2/debug?include_last_event_payload=maybe", 422)
    assert list(body["errors"]) == ["include_last_event_payload"]


async def test_a_leased_task_and_running_activities(http: Http) -> None:
    await http.register(supported_workflow_types=["order"])
    run_id = (await http.start(workflow_id="debug-3"))["run_id"]
    task = await http.poll()
    body = await http.get("/workflows/debug-3/debug")
    row = body["pending_workflow_tasks"][0]
    assert (row["status"], row["transport_state"], row["lease_owner"]) == ("leased", "leased", http.worker)
    assert (row["attempt_count"], row["lease_expires_at"]) == (1, task["lease_expires_at"])
    lease = body["task_queue"]["current_leases"][0]
    assert (lease["task_id"], lease["run_id"], lease["workflow_task_attempt"]) == (task["task_id"], run_id, 1)
    assert body["task_queue"]["pollers"][0]["worker_id"] == http.worker
    assert body["task_queue"]["stats"]["pollers"]["active_count"] == 1
    assert body["compatibility"]["namespace_worker_fleet"]["active_workers"] >= 1
    assert codes(body) == []
    activity = {"type": "schedule_activity", "activity_type": "charge", "start_to_close_timeout": 30, "heartbeat_timeout": 9}
    await http.complete(task, activity, {**activity, "activity_type": "ship"})
    running = await http.poll("activity")
    body = await http.get("/workflows/debug-3/debug")
    assert (body["diagnostic_status"], body["execution"]["wait_kind"]) == ("pending_work", "activity")
    assert body["pending_workflow_tasks"] == []
    first, second = body["pending_activities"]
    assert (first["activity_type"], first["activity_class"], first["status"]) == ("charge", "charge", "running")
    assert first["current_attempt_id"] == running["activity_attempt_id"]
    attempt = first["current_attempt"]
    assert (attempt["status"], attempt["attempt_number"], attempt["lease_owner"]) == ("running", 1, http.worker)
    assert first["close_deadline_at"] > first["heartbeat_deadline_at"] > first["started_at"]
    assert (second["activity_type"], second["status"], second["attempt_count"]) == ("ship", "pending", 0)
    assert "current_attempt" not in second
    assert empties(body["pending_activities"]) == []
    assert body["execution"]["next_scheduled_event"]["task_type"] == "activity"
    assert body["task_queue"]["current_leases"][0]["activity_attempt_id"] == running["activity_attempt_id"]
    assert body["task_queue"]["stats"]["activity_tasks"]["ready_count"] == 1


async def test_a_failed_workflow_task_needs_attention(http: Http) -> None:
    await http.register()
    await http.start(workflow_id="debug-4")
    task = await http.poll()
    failure = {"message": "cannot replay", "type": "NonDeterminism"}
    guard = {"lease_owner": http.worker, "workflow_task_attempt": 1, "failure": failure}
    await http.post(f"/worker/workflow-tasks/{task['task_id']}/fail", 200, **guard)
    body = await http.get("/workflows/debug-4/debug")
    row = body["pending_workflow_tasks"][0]
    assert (row["transport_state"], row["replay_blocked"], row["last_error"]) == ("scheduled", True, "cannot replay")
    assert (body["diagnostic_status"], body["execution"]["task_problem_badge"]) == ("needs_attention", "replay_blocked")
    assert body["execution"]["liveness_state"] == "workflow_replay_blocked"
    assert codes(body) == ["task_problem", "workflow_replay_blocked"]
    assert [finding["severity"] for finding in body["findings"]] == ["warning", "error"]


@pytest.mark.parametrize(
    ("command", "kind", "reason", "liveness"),
    [
        ({"type": "start_timer", "delay_seconds": 600}, "timer", "Waiting for timer", "timer_scheduled"),
        (
            {"type": "open_condition_wait", "condition_key": "paid", "timeout_seconds": 600},
            "condition",
            "Waiting for condition paid or timeout",
            "waiting_for_condition",
        ),
        (
            {"type": "start_child_workflow", "workflow_type": "kid", "queue": "kids"},
            "child",
            "Waiting for child workflow kid",
            "waiting_for_child",
        ),
    ],
)
async def test_what_a_run_waits_for(http: Http, command: dict[str, Any], kind: str, reason: str, liveness: str) -> None:
    await http.register()
    workflow_id = f"debug-{kind}"
    await http.waiting(workflow_id, command)
    body = await http.get(f"/workflows/{workflow_id}/debug")
    execution = body["execution"]
    assert (body["diagnostic_status"], execution["wait_kind"], execution["wait_reason"]) == ("waiting", kind, reason)
    assert execution["liveness_state"] == liveness
    described = await http.get(f"/workflows/{workflow_id}")
    assert (described["wait_kind"], described["wait_reason"]) == (kind, reason)
    if kind == "child":
        assert "next_scheduled_event" not in execution
    else:
        following = execution["next_scheduled_event"]
        assert (following["task_type"], following["wait_deadline_at"]) == ("timer", following["available_at"])


async def test_closed_runs_and_their_failures(http: Http) -> None:
    await http.register()
    run_id = (await http.start(workflow_id="debug-5"))["run_id"]
    await http.complete(await http.poll(), {"type": "schedule_activity", "activity_type": "charge"})
    activity = await http.poll("activity")
    failure = {"message": "declined", "type": "CardDeclined", "non_retryable": True}
    attempt = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker, "failure": failure}
    await http.post(f"/worker/activity-tasks/{activity['task_id']}/fail", 200, **attempt)
    await http.complete(await http.poll(), {"type": "fail_workflow", "message": "no money", "exception_type": "E"})
    body = await http.get("/workflows/debug-5/debug")
    assert (body["diagnostic_status"], body["execution"]["liveness_state"]) == ("terminal", "closed")
    assert body["execution"]["closed_at"]
    ending, cause = body["recent_failures"]
    expected = {
        "source_kind": "workflow_run",
        "source_id": run_id,
        "propagation_kind": "terminal",
        "failure_category": "application",
        "exception_class": "E",
        "message": "no money",
        "non_retryable": False,
        "handled": False,
    }
    assert {key: ending[key] for key in expected} == expected
    assert (cause["source_kind"], cause["source_id"]) == ("activity_execution", activity["activity_execution_id"])
    assert (cause["propagation_kind"], cause["non_retryable"], cause["message"]) == ("activity", True, "declined")
    assert cause["created_at"] <= ending["created_at"]
    assert (body["findings"], body["pending_workflow_tasks"], body["pending_activities"]) == ([], [], [])


async def test_unknown_runs(http: Http) -> None:
    assert (await http.get("/workflows/nobody/debug", 404))["reason"] == "instance_not_found"
    await http.start(workflow_id="debug-6")
    for workflow_id in ("debug-6", "nobody"):
        body = await http.get(f"/workflows/{workflow_id}/runs/nope/debug", 404)
        assert (body["reason"], body["run_id"]) == ("run_not_found", "nope")
        assert body["control_plane"]["operation"] == "debug_workflow"
