"""What workers are told about tasks whose run closed, or whose lease ran out, meanwhile.

Contract: worker-protocol 4.7, 7.3, 7.5, 8.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.api.conftest import CONTROL, WORKER
from tests.api.driver import Http
from tests.support.server import ServerProcess
from tests.support.services import TestServices

ACTIVITY = {"type": "schedule_activity", "activity_type": "charge"}

# How a run closes from outside: the command, the word for it, the reason workers are given.
STOPS = [("cancel", "cancelled", "run_cancelled"), ("terminate", "terminated", "run_terminated")]


def guard(http: Http, task: dict[str, Any]) -> dict[str, Any]:
    """The fence of an activity attempt or a workflow task."""
    if task.get("activity_attempt_id"):
        return {"lease_owner": http.worker, "activity_attempt_id": task["activity_attempt_id"]}
    return {"lease_owner": http.worker, "workflow_task_attempt": task["workflow_task_attempt"]}


def picked(body: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    return {key: body.get(key, "absent") for key in expected}


async def running_activity(http: Http, workflow_id: str) -> dict[str, Any]:
    """A run whose activity is leased and which waits for a signal, too."""
    await http.register()
    await http.start(workflow_id=workflow_id)
    await http.complete(await http.poll(), ACTIVITY, {"type": "start_timer", "delay_seconds": 0})
    activity: dict[str, Any] = await http.poll("activity")
    return activity


@pytest.mark.parametrize(("command", "status", "reason"), STOPS)
async def test_workflow_tasks_of_a_stopped_run(http: Http, command: str, status: str, reason: str) -> None:
    await http.register()
    workflow_id = f"stopped-{command}"
    await http.start(workflow_id=workflow_id)
    task = await http.poll()
    await http.post(f"/workflows/{workflow_id}/{command}", 200)
    closed_at = (await http.get(f"/workflows/{workflow_id}"))["closed_at"]
    calls: dict[str, dict[str, Any]] = {
        "heartbeat": {},
        "history": {"next_history_page_token": "MA=="},
        "complete": {"commands": [{"type": "complete_workflow"}]},
        "fail": {"failure": {"message": "m"}},
    }
    expected = {
        "task_id": task["task_id"],
        "workflow_task_attempt": 1,
        "error": "Workflow run is already closed.",
        "reason": "run_closed",
        "stop_reason": reason,
        "cancel_requested": True,
        "can_continue": False,
        "run_status": status,
        "run_closed_reason": status,
        "run_closed_at": closed_at,
        "task_status": "cancelled",
        "lease_owner": http.worker,
        "lease_expires_at": None,
    }
    for call, fields in calls.items():
        body = await http.post(f"/worker/workflow-tasks/{task['task_id']}/{call}", 409, **guard(http, task), **fields)
        assert picked(body, expected) == expected, call
        assert "outcome" not in body


@pytest.mark.parametrize(
    ("command", "stop_reason", "status"),
    [
        ({"type": "complete_workflow"}, "run_completed", "completed"),
        ({"type": "continue_as_new"}, "run_completed", "completed"),
        ({"type": "fail_workflow", "message": "m"}, "run_failed", "failed"),
    ],
)
async def test_a_repeated_completion(http: Http, command: dict[str, Any], stop_reason: str, status: str) -> None:
    await http.register()
    await http.start()
    task = await http.poll()
    await http.complete(task, command)
    body = await http.complete(task, command, status=409)
    assert (body["reason"], body["stop_reason"], body["run_status"]) == ("run_closed", stop_reason, status)
    assert (body["cancel_requested"], body["can_continue"], body["task_status"]) == (False, False, "completed")


@pytest.mark.parametrize(("command", "status", "reason"), STOPS)
async def test_activities_of_a_stopped_run(http: Http, command: str, status: str, reason: str) -> None:
    workflow_id = f"activity-{command}"
    activity = await running_activity(http, workflow_id)
    path = f"/worker/activity-tasks/{activity['task_id']}"
    before = await http.post(f"{path}/heartbeat", 200, **guard(http, activity))
    assert (before["reason"], before["can_continue"], before["heartbeat_recorded"]) == (None, True, True)
    await http.post(f"/workflows/{workflow_id}/{command}", 200)
    described = await http.get(f"/workflows/{workflow_id}")
    events = await http.types(workflow_id, described["run_id"])
    beat = await http.post(f"{path}/heartbeat", 200, **guard(http, activity), details={"n": 1})
    expected = {
        "cancel_requested": True,
        "can_continue": False,
        "heartbeat_recorded": False,
        "reason": reason,
        "run_closed_reason": status,
        "run_closed_at": described["closed_at"],
    }
    assert picked(beat, expected) == expected
    for call, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "m"}}), ("complete", {})):
        body = await http.post(f"{path}/{call}", 409, **guard(http, activity), **fields)
        expected = {
            "task_id": activity["task_id"],
            "activity_attempt_id": activity["activity_attempt_id"],
            "outcome": "ignored",
            "recorded": False,
            "reason": reason,
            "next_task_id": None,
            "error": "Activity outcome ignored because the workflow run is already closed.",
            "cancel_requested": True,
            "can_continue": False,
            "run_status": status,
            "run_closed_reason": status,
            "run_closed_at": described["closed_at"],
            "activity_status": "cancelled",
            "attempt_status": "cancelled",
            "task_status": "cancelled",
            "lease_owner": http.worker,
            "lease_expires_at": None,
        }
        assert picked(body, expected) == expected
    assert await http.types(workflow_id, described["run_id"]) == events


async def test_activities_of_a_completed_run_may_finish(http: Http) -> None:
    activity = await running_activity(http, "activity-completed")
    run_id = activity["run_id"]
    await http.complete(await http.poll(), {"type": "complete_workflow"})
    path = f"/worker/activity-tasks/{activity['task_id']}"
    beat = await http.post(f"{path}/heartbeat", 200, **guard(http, activity))
    expected = {
        "cancel_requested": False,
        "can_continue": False,
        "heartbeat_recorded": False,
        "reason": "run_closed",
        "run_closed_reason": "completed",
    }
    assert picked(beat, expected) == expected
    before = await http.types("activity-completed", run_id)
    done = await http.post(f"{path}/complete", 200, **guard(http, activity), result=1)
    assert (done["recorded"], done["next_task_id"], done["reason"]) == (True, None, None)
    # Taken note of once, without effect.
    body = await http.post(f"{path}/complete", 409, **guard(http, activity), result=1)
    assert (body["outcome"], body["recorded"], body["reason"]) == ("completed", False, "stale_attempt")
    assert await http.types("activity-completed", run_id) == before


async def test_outcomes_count_once(http: Http) -> None:
    activity = await running_activity(http, "activity-once")
    path = f"/worker/activity-tasks/{activity['task_id']}"
    await http.post(f"{path}/complete", 200, **guard(http, activity), result=1)
    for call, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "m"}})):
        body = await http.post(f"{path}/{call}", 409, **guard(http, activity), **fields)
        outcome = "completed" if call == "complete" else "failed"
        assert (body["outcome"], body["recorded"], body["reason"]) == (outcome, False, "stale_attempt")
        assert body["next_task_id"] is None
    beat = await http.post(f"{path}/heartbeat", 200, **guard(http, activity))
    assert (beat["can_continue"], beat["cancel_requested"], beat["heartbeat_recorded"]) == (False, False, False)
    assert beat["reason"] in ("attempt_closed", "stale_attempt", "activity_not_running")


# -- a node with short leases ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {"DW_QUERY_TASK_LEASE_TIMEOUT": "4", "DW_QUERY_TASK_TIMEOUT": "20", "DW_WORKFLOW_TASK_TIMEOUT": "1"}
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("hasty"), node_id="hasty", env=environment)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def hasty(hasty_server: ServerProcess) -> AsyncIterator[Http]:
    headers = {**CONTROL, **WORKER, "Authorization": f"Bearer {hasty_server.token}"}
    async with httpx.AsyncClient(base_url=hasty_server.url, headers=headers, timeout=60) as client:
        http = Http(client)
        await http.register()
        yield http


async def test_the_lease_of_a_query_runs_out_and_the_query_goes_to_the_next_poll(hasty: Http) -> None:
    await hasty.start(workflow_id="hasty-query")
    caller = asyncio.ensure_future(hasty.client.post("/api/workflows/hasty-query/query/q", json={}))
    task = await hasty.poll("query")
    await asyncio.sleep(4.1)
    fence = {"lease_owner": hasty.worker, "query_task_attempt": 1}
    path = f"/worker/query-tasks/{task['query_task_id']}"
    for call, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "m"}})):
        body = await hasty.post(f"{path}/{call}", 409, **fence, **fields)
        assert (body["reason"], body["outcome"], body["status"]) == ("lease_expired", "rejected", 409)
        assert body["lease_expires_at"] == task["lease_expires_at"]
        assert body["error"]
    # The caller still waits, so another worker may answer.
    again = await hasty.poll("query")
    assert (again["query_task_id"], again["query_task_attempt"]) == (task["query_task_id"], 2)
    late = await hasty.post(f"{path}/complete", 409, **fence, result=1)
    assert (late["reason"], late["current_attempt"]) == ("query_task_attempt_mismatch", 2)
    await hasty.post(f"{path}/complete", 200, **fence | {"query_task_attempt": 2}, result=2)
    assert (await caller).json()["result"] == 2


async def test_the_lease_of_a_workflow_task_runs_out(hasty: Http) -> None:
    run_id = (await hasty.start(workflow_id="hasty-task"))["run_id"]
    task = await hasty.poll()
    async with asyncio.timeout(30):
        again = None
        while again is None:
            again = await hasty.poll()
    assert (again["task_id"], again["workflow_task_attempt"]) == (task["task_id"], 2)
    body = await hasty.complete(task, {"type": "complete_workflow"}, status=409)
    assert body["reason"] in ("workflow_task_attempt_mismatch", "task_not_leased", "lease_expired")
    events = await hasty.events("hasty-task", run_id)
    repaired = next(event for event in events if event["event_type"] == "RepairRequested")
    assert repaired["payload"]["outcome"] == "repair_dispatched"
