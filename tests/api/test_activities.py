"""Standalone activities over HTTP: start, describe, list, cancel, retries, timeouts, ids (control-plane 10)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.payloads.codec import encode
from tests.api.driver import Http

DONE = {"codec": "avro", "blob": encode("done")}


async def scan(http: Http, activity_id: str, status: int = 201, **fields: Any) -> dict[str, Any]:
    """Start a standalone activity on the test's queue."""
    body = {"activity_type": "scan", "task_queue": http.queue, "activity_id": activity_id, **fields}
    return await http.post("/activities", status, **body)


async def report(http: Http, task: dict[str, Any], verb: str = "complete", **fields: Any) -> dict[str, Any]:
    """The attempt's outcome, by default a result."""
    guard = {"activity_attempt_id": task["activity_attempt_id"], "lease_owner": http.worker}
    fields = fields or {"result": DONE}
    return await http.post(f"/worker/activity-tasks/{task['task_id']}/{verb}", 200, **{**guard, **fields})


async def test_one_life(http: Http) -> None:
    await http.register(supported_activity_types=["scan"])
    started = await scan(
        http,
        "life-1",
        input=["p-7"],
        activity_class="label",
        business_key="b-1",
        schedule_to_start_timeout_seconds=600,
        retry_policy={"max_attempts": 3, "backoff_seconds": 1},
    )
    assert {name: value for name, value in started.items() if name not in ("started_at", "schedule_to_start_deadline_at")} == {
        "started": True,
        "activity_id": "life-1",
        "activity_execution_id": started["activity_execution_id"],
        "workflow_run_id": started["workflow_run_id"],
        "workflow_id": "life-1",
        "workflow_type": "dw.standalone_activity",
        "activity_type": "scan",
        "activity_class": "label",
        "task_queue": http.queue,
        "namespace": "default",
        "status": "running",
        "payload_codec": "avro",
        "schedule_to_close_deadline_at": None,
        "outcome": "started_new",
        "command_status": "accepted",
        "command_source": "control_plane",
    }
    assert started["started_at"] < started["schedule_to_start_deadline_at"]
    shown = await http.get("/activities/life-1")
    assert (shown["status"], shown["activity_status"], shown["attempt_count"]) == ("running", "pending", 0)
    assert (shown["attempts"], shown["result"], shown["current_attempt_id"], shown["closed_at"]) == ([], None, None, None)
    assert {name: shown[name] for name in started.keys() & shown.keys()} == {
        name: started[name] for name in started.keys() & shown.keys()
    }

    task = await http.poll("activity")
    assert (task["workflow_id"], task["run_id"]) == ("life-1", started["workflow_run_id"])
    assert (task["activity_type"], task["arguments"]) == ("scan", {"codec": "avro", "blob": encode(["p-7"])})
    await report(http, task, "heartbeat", message="half")
    shown = await http.get("/activities/life-1")
    assert (shown["activity_status"], shown["attempt_count"]) == ("running", 1)
    assert shown["last_heartbeat_at"]
    [attempt] = shown["attempts"]
    assert attempt == {
        "activity_attempt_id": task["activity_attempt_id"],
        "attempt_number": 1,
        "status": "running",
        "lease_owner": http.worker,
        "started_at": attempt["started_at"],
        "closed_at": None,
        "last_heartbeat_at": shown["last_heartbeat_at"],
    }
    assert (shown["current_attempt_id"], shown["current_attempt_status"]) == (task["activity_attempt_id"], "running")

    await report(http, task, "fail", failure={"message": "once more", "type": "Busy"})
    assert (await http.get("/activities/life-1"))["activity_status"] == "pending"
    async with asyncio.timeout(30):
        while (task := await http.poll("activity")) is None:
            pass
    assert task["attempt_number"] == 2
    assert (await report(http, task))["recorded"] is True
    shown = await http.get("/activities/life-1")
    assert (shown["status"], shown["status_bucket"], shown["closed_reason"]) == ("completed", "completed", "completed")
    assert (shown["activity_status"], shown["attempt_count"], shown["result"]) == ("completed", 2, DONE)
    assert [each["status"] for each in shown["attempts"]] == ["failed", "completed"]
    assert all(each["closed_at"] for each in shown["attempts"])
    assert (shown["business_key"], shown["activity_class"]) == ("b-1", "label")

    # The host run is a run as others are, without workflow tasks.
    described = await http.get("/workflows/life-1")
    assert (described["status"], described["output"], described["input"]) == ("completed", "done", ["p-7"])
    assert await http.types("life-1", started["workflow_run_id"]) == [
        "StartAccepted",
        "WorkflowStarted",
        "ActivityScheduled",
        "ActivityStarted",
        "ActivityHeartbeatRecorded",
        "ActivityRetryScheduled",
        "ActivityStarted",
        "ActivityCompleted",
        "WorkflowCompleted",
    ]
    debug = await http.get("/workflows/life-1/debug")
    assert (debug["diagnostic_status"], debug["pending_workflow_tasks"]) == ("terminal", [])
    assert "control_plane" not in shown and "control_plane" not in started


async def test_the_id_is_made_where_none_is_given(http: Http) -> None:
    started = await http.post("/activities", 201, activity_type="scan", task_queue=http.queue)
    assert len(started["activity_id"]) == 26 and started["activity_class"] == "scan"
    assert (await http.get(f"/activities/{started['activity_id']}"))["status"] == "running"


async def test_ids(http: Http) -> None:
    await http.register()
    first = await scan(http, "ids-1")
    refused = await scan(http, "ids-1", 409)
    assert (refused["reason"], refused["activity_id"]) == ("duplicate_not_allowed", "ids-1")
    # Workflows and activities share ids.
    assert (await http.start(422, workflow_id="ids-1"))["errors"].keys() == {"workflow_type"}
    await http.start(workflow_id="ids-2")
    assert (await scan(http, "ids-2", 409))["reason"] == "duplicate_not_allowed"
    assert (await http.get("/activities/ids-2", 404)) == {
        "message": "Activity not found.",
        "reason": "activity_not_found",
        "activity_id": "ids-2",
    }
    assert (await http.get("/activities/ids-none", 404))["reason"] == "activity_not_found"
    # Of a closed one the id is free.
    await http.post("/workflows/ids-1/cancel", 200, reason="enough")
    second = await scan(http, "ids-1", input=["again"])
    assert second["workflow_run_id"] != first["workflow_run_id"]
    runs = (await http.get("/workflows/ids-1/runs"))["runs"]
    assert [(run["run_number"], run["status"], run["is_current_run"]) for run in runs] == [
        (1, "cancelled", False),
        (2, "running", True),
    ]
    task = await http.poll("activity")
    assert (task["run_id"], task["arguments"]["blob"]) == (second["workflow_run_id"], encode(["again"]))
    await report(http, task)
    assert (await http.get("/activities/ids-1"))["workflow_run_id"] == second["workflow_run_id"]
    assert (await http.start(422, workflow_id="ids-1"))["errors"].keys() == {"workflow_type"}


async def test_one_start_of_many_at_once_wins(http: Http) -> None:
    for _ in range(2):  # a fresh id, then one whose run is closed
        body = {"activity_type": "scan", "task_queue": http.queue, "activity_id": "many-1"}
        answers = await asyncio.gather(*(http.client.post("/api/activities", json=body) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]
        await http.post("/workflows/many-1/cancel", 200)
    assert (await http.get("/workflows/many-1/runs"))["run_count"] == 2


async def test_other_namespaces(http: Http) -> None:
    await scan(http, "space-1")
    namespace = {"name": "activities-elsewhere"}
    await http.post("/namespaces", 201, **namespace)
    other = {"X-Namespace": "activities-elsewhere"}
    await http.call("GET", "/activities/space-1", 404, **other)
    body = {"activity_type": "scan", "task_queue": http.queue, "activity_id": "space-1"}
    refused = await http.call("POST", "/activities", 409, body, **other)
    assert (refused["reason"], refused["activity_id"]) == ("workflow_id_reserved_in_namespace", "space-1")
    assert (await http.call("GET", "/activities", 200, **other))["activities"] == []


async def test_failures_and_timeouts(http: Http) -> None:
    await http.register()
    await scan(http, "fail-1")
    await report(http, await http.poll("activity"), "fail", failure={"message": "no", "type": "Declined"})
    shown = await http.get("/activities/fail-1")
    assert (shown["status"], shown["closed_reason"], shown["activity_status"]) == ("failed", "failed", "failed")
    assert (shown["result"], shown["current_attempt_status"]) == (None, "failed")
    await scan(http, "fail-2", schedule_to_start_timeout_seconds=1, task_queue=f"{http.queue}-nobody")
    async with asyncio.timeout(30):
        while (shown := await http.get("/activities/fail-2"))["status"] == "running":
            await asyncio.sleep(0.1)
    assert (shown["status"], shown["closed_reason"], shown["activity_status"]) == ("failed", "timed_out", "failed")
    assert shown["schedule_to_start_deadline_at"] and shown["attempts"] == [] and shown["attempt_count"] == 1


@pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("terminate", "terminated")])
async def test_stops(http: Http, verb: str, status: str) -> None:
    await http.register()
    await scan(http, f"stop-{verb}")
    task = await http.poll("activity")
    assert (await http.post(f"/workflows/stop-{verb}/{verb}", 200))["outcome"] == status
    beat = await report(http, task, "heartbeat", message="half")
    assert (beat["cancel_requested"], beat["can_continue"]) == (True, False)
    shown = await http.get(f"/activities/stop-{verb}")
    assert (shown["status"], shown["closed_reason"], shown["activity_status"]) == (status, status, "cancelled")
    assert [each["status"] for each in shown["attempts"]] == ["cancelled"]


async def test_what_is_for_workflows(http: Http) -> None:
    await http.register()
    await scan(http, "deaf-1")
    signal = await http.post("/workflows/deaf-1/signal/go", 404)
    assert (signal["reason"], signal["outcome"], signal["command_status"]) == (
        "unknown_signal",
        "rejected_unknown_signal",
        "rejected",
    )
    update = await http.post("/workflows/deaf-1/update/set", 404)
    assert (update["reason"], update["outcome"]) == ("unknown_update", "rejected_unknown_update")
    assert (await http.post("/workflows/deaf-1/query/state", 404))["reason"] == "rejected_unknown_query"
    assert (await http.post("/workflows/deaf-1/repair", 200))["outcome"] == "repair_not_needed"
    actions = (await http.get("/workflows/deaf-1"))["actions"]
    assert actions == {
        "can_signal": False,
        "can_query": False,
        "can_update": False,
        "can_cancel": True,
        "can_terminate": True,
        "can_repair": True,
        "can_archive": False,
    }
    assert await http.poll() is None  # no workflow task, whatever was asked
    await report(http, await http.poll("activity"))
    assert (await http.post("/workflows/deaf-1/archive", 200))["outcome"] == "archived"


async def test_the_type_of_host_runs_is_not_for_callers(http: Http) -> None:
    await http.register()
    assert (await http.start(422, workflow_type="dw.standalone_activity"))["errors"].keys() == {"workflow_type"}
    await http.start(workflow_id="type-1")
    task = await http.poll()
    for command in ("start_child_workflow", "continue_as_new"):
        refused = await http.complete(task, {"type": command, "workflow_type": "dw.standalone_activity"}, status=422)
        assert refused["errors"].keys() == {"commands.0.workflow_type"}
    await http.complete(task, {"type": "complete_workflow"})


async def test_lists(http: Http) -> None:
    name = "activities-listed"
    await http.post("/namespaces", 201, name=name)
    http.client.headers["X-Namespace"] = name
    await http.register()
    for number in range(5):
        await scan(http, f"list-{number}")
    await http.start(workflow_id="list-workflow")
    await http.post("/workflows/list-0/cancel", 200)
    task = await http.poll("activity")
    await report(http, task)
    done = task["workflow_id"]

    whole = await http.get("/activities")
    assert [item["activity_id"] for item in whole["activities"]] == [f"list-{number}" for number in (4, 3, 2, 1, 0)]
    assert (whole["activity_count"], whole["next_page_token"]) == (5, None)
    shown = await http.get(f"/activities/{done}")
    left = {"attempts", "result", "current_attempt_id", "current_attempt_status"}
    assert next(item for item in whole["activities"] if item["activity_id"] == done) == {
        name: value for name, value in shown.items() if name not in left
    }
    for status, count in (("running", 3), ("completed", 1), ("failed", 1)):
        listed = await http.get(f"/activities?status={status}")
        assert {item["status_bucket"] for item in listed["activities"]} == {status}
        assert listed["activity_count"] == count
    pages: list[list[str]] = []
    token: str | None = ""
    while token is not None:
        page = await http.get(f"/activities?page_size=2&next_page_token={token}")
        pages.append([item["activity_id"] for item in page["activities"]])
        token = page["next_page_token"]
    assert pages == [["list-4", "list-3"], ["list-2", "list-1"], ["list-0"]]
    # Host runs are in the list of workflows, too.
    listed = await http.get("/workflows?workflow_type=dw.standalone_activity")
    assert listed["workflow_count"] == 5
    for query, field in (("status=cancelled", "status"), ("page_size=0", "page_size"), ("page_size=201", "page_size")):
        assert (await http.get(f"/activities?{query}", 422))["errors"].keys() == {field}


async def test_methods(http: Http) -> None:
    for method, path, allow in (
        ("PUT", "/activities", "GET, HEAD, POST"),
        ("DELETE", "/activities/a", "GET, HEAD"),
        ("POST", "/activities/a", "GET, HEAD"),
        ("GET", "/bridge-adapters/webhook/a", "POST"),
        ("PUT", "/bridge-adapters/webhook/a", "POST"),
    ):
        answer = await http.client.request(method, f"/api{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allow), (method, path)
