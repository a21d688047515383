"""Workflow and task routes against a running node: one life of a workflow over plain HTTP, fences, bad input."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import zlib
from typing import Any

import asyncpg

from api.http.envelope import PROJECTED_FIELDS
from api.payloads.codec import encode
from tests.api.driver import Http
from tests.support.server import ServerProcess


async def count(server: ServerProcess, table: str) -> int:
    connection = await asyncpg.connect(server.place.dsn)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()


SCHEDULE = {"type": "schedule_activity", "activity_type": "charge", "input": ["order-42"], "start_to_close_timeout": 30}


async def test_one_life(http: Http) -> None:
    await http.register(supported_workflow_types=["order"])
    started = await http.start(
        workflow_id="order-1",
        input=[{"n": 1}],
        business_key="customer-12",
        memo={"channel": "web"},
        search_attributes={"Region": "north"},
        execution_timeout_seconds=3600,
    )
    run_id = started["run_id"]
    assert {key: started[key] for key in ("workflow_id", "status", "outcome", "payload_codec", "namespace")} == {
        "workflow_id": "order-1",
        "status": "pending",
        "outcome": "started_new",
        "payload_codec": "avro",
        "namespace": "default",
    }
    assert started["control_plane"]["operation"] == "start"
    assert started["control_plane"]["outcome"] == "started_new"
    for key in started["control_plane"].keys() & set(PROJECTED_FIELDS):
        assert started["control_plane"][key] == started[key]

    task = await http.poll(poll_request_id="p-1")
    assert (task["run_id"], task["workflow_type"], task["workflow_task_attempt"]) == (run_id, "order", 1)
    assert (task["run_status"], task["lease_owner"], task["connection"]) == ("pending", http.worker, None)
    assert task["arguments"] == {"codec": "avro", "blob": encode([{"n": 1}])}
    assert [event["event_type"] for event in task["history_events"]] == ["StartAccepted", "WorkflowStarted"]
    assert (task["total_history_events"], task["next_history_page_token"]) == (2, None)
    resume = [key for key in task if task[key] is None]
    assert len(resume) >= 20
    assert (await http.poll(poll_request_id="p-1"))["task_id"] == task["task_id"]

    guard = {"lease_owner": http.worker, "workflow_task_attempt": 1}
    renewed = await http.post(f"/worker/workflow-tasks/{task['task_id']}/heartbeat", 200, **guard)
    assert (renewed["renewed"], renewed["task_status"], renewed["reason"]) == (True, "leased", None)
    assert renewed["lease_expires_at"] >= task["lease_expires_at"]

    done = await http.complete(task, SCHEDULE)
    assert (done["outcome"], done["recorded"], done["run_status"], done["reason"]) == ("completed", True, "waiting", None)
    assert len(done["created_task_ids"]) == 1

    described = await http.get("/workflows/order-1")
    assert (described["status"], described["wait_kind"]) == ("waiting", "activity")
    assert described["wait_reason"] == "Waiting for activity charge"

    activity = await http.poll("activity")
    assert activity["task_id"] == done["created_task_ids"][0]
    assert (activity["activity_type"], activity["attempt_number"], activity["payload_codec"]) == ("charge", 1, "avro")
    assert activity["arguments"] == {"codec": "avro", "blob": encode(["order-42"])}
    assert set(activity["deadlines"]) == {"start_to_close"}
    assert "connection" not in activity
    attempt = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker}
    beat = await http.post(f"/worker/activity-tasks/{activity['task_id']}/heartbeat", 200, **attempt, details={"page": 4})
    assert (beat["can_continue"], beat["cancel_requested"], beat["heartbeat_recorded"]) == (True, False, True)
    recorded = await http.post(f"/worker/activity-tasks/{activity['task_id']}/complete", 200, **attempt, result="sent")
    assert (recorded["outcome"], recorded["recorded"]) == ("completed", True)
    again = await http.post(f"/worker/activity-tasks/{activity['task_id']}/complete", 409, **attempt, result="sent")
    assert (again["recorded"], again["reason"], again["outcome"]) == (False, "stale_attempt", "completed")

    task = await http.poll()
    assert task["task_id"] == recorded["next_task_id"]
    assert task["workflow_event_type"] == "ActivityCompleted"
    completed = next(event for event in task["history_events"] if event["event_type"] == "ActivityCompleted")
    assert completed["payload"]["result"] == encode("sent")
    done = await http.complete(task, {"type": "complete_workflow", "result": {"status": "shipped"}})
    assert done["run_status"] == "completed"
    late = await http.complete(task, {"type": "complete_workflow"}, status=409)
    assert (late["reason"], late["error"]) == ("run_closed", "Workflow run is already closed.")
    assert "outcome" not in late

    described = await http.get("/workflows/order-1")
    assert (described["status"], described["status_bucket"], described["closed_reason"]) == ("completed",) * 3
    assert described["input"] == [{"n": 1}]
    assert described["output"] == {"status": "shipped"}
    assert described["output_envelope"] == {"codec": "avro", "blob": encode({"status": "shipped"})}
    assert (described["memo"], described["search_attributes"]) == ({"channel": "web"}, {"Region": "north"})
    assert described["execution_timeout_seconds"] == 3600
    assert described["execution_deadline_at"].endswith("+00:00")
    assert described["actions"]["can_archive"] is True
    assert described["control_plane"]["operation"] == "describe"
    run = await http.get(f"/workflows/order-1/runs/{run_id}")
    assert {**described, "control_plane": None} == {**run, "control_plane": None}
    assert run["control_plane"]["operation"] == "describe_run"
    runs = await http.get("/workflows/order-1/runs")
    assert (runs["run_count"], runs["runs"][0]["is_current_run"], runs["control_plane"]["run_count"]) == (1, True, 1)

    history = await http.get(f"/workflows/order-1/runs/{run_id}/history")
    events = history["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert set(events[0]) == {"sequence", "event_type", "timestamp", "payload"}
    assert events[-1]["event_type"] == "WorkflowCompleted"
    assert (history["next_page_token"], "next_page_token" in history["control_plane"]) == (None, True)
    paged: list[Any] = []
    token: str | None = ""
    while token is not None:
        page = await http.get(f"/workflows/order-1/runs/{run_id}/history?page_size=3&next_page_token={token}")
        paged += page["events"]
        token = page["next_page_token"]
    assert paged == events


async def test_history_waits_for_a_new_event(http: Http) -> None:
    await http.register()
    run = await http.start(workflow_id="waiting-1")
    path = f"/workflows/waiting-1/runs/{run['run_id']}/history"
    token = base64.b64encode(b"2").decode()
    waiting = asyncio.ensure_future(http.get(f"{path}?wait_new_event=1&next_page_token={token}"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await http.complete(await http.poll(), {"type": "start_timer", "delay_seconds": 600})
    assert [event["event_type"] for event in (await waiting)["events"]] == ["TimerScheduled"]
    assert (await http.get(f"{path}?wait_new_event=true"))["events"]
    described = await http.get("/workflows/waiting-1")
    assert (described["wait_kind"], described["wait_reason"]) == ("timer", "Waiting for timer")


async def test_listing(http: Http) -> None:
    ids = [f"list-{number}" for number in range(5)]
    for name in ids:
        await http.start(workflow_id=name, workflow_type="listed", business_key=f"Key-{name}")
    newest_first = list(reversed(ids))
    seen: list[str] = []
    token: str | None = ""
    while token is not None:
        page = await http.get(f"/workflows?workflow_type=listed&page_size=2&next_page_token={token}")
        assert page["workflow_count"] == len(page["workflows"])
        seen += [item["workflow_id"] for item in page["workflows"]]
        token = page["next_page_token"]
    assert seen == newest_first
    for query, expected in (
        ("status=running", newest_first),
        ("status=completed", []),
        ("query=key-LIST-3", ["list-3"]),
        ("query=%20", newest_first),
        ("next_page_token=%25%25", newest_first),
        ("page_size=5", newest_first),
    ):
        found = (await http.get(f"/workflows?workflow_type=listed&{query}"))["workflows"]
        assert [item["workflow_id"] for item in found] == expected, query
    for query in ("status=cancelled", "status=pending", "page_size=0", "page_size=201", "page_size=x"):
        body = await http.get(f"/workflows?{query}", 422)
        assert list(body["errors"]) == [query.split("=")[0]]
        assert body["control_plane"]["reason"] == "validation_failed"


async def test_a_page_token_is_good_for_its_own_list_only(http: Http) -> None:
    for number in range(3):
        await http.start(workflow_id=f"paged-{number}", workflow_type="paged")
    first = await http.get("/workflows?workflow_type=paged&page_size=1")
    token = first["next_page_token"]
    for query in ("", "&workflow_type=other", "&workflow_type=paged&status=running", "&workflow_type=paged&query=p"):
        body = await http.get(f"/workflows?next_page_token={token}{query}")
        assert body["workflows"] == (await http.get(f"/workflows?{query[1:]}"))["workflows"], "the first page"
    # The size of the next page is free, and what cannot be read is the first page (control-plane 5.3).
    rest = await http.get(f"/workflows?workflow_type=paged&page_size=200&next_page_token={token}")
    assert [item["workflow_id"] for item in rest["workflows"]] == ["paged-1", "paged-0"]
    for unreadable in ("", "x", "NTA=", token[:-3], "%00", token + token):
        body = await http.get(f"/workflows?workflow_type=paged&page_size=1&next_page_token={unreadable}")
        assert body["workflows"] == first["workflows"]


async def test_duplicate_starts(http: Http) -> None:
    first = await http.start(workflow_id="dup-1")
    existing = await http.start(200, workflow_id="dup-1", duplicate_policy="use-existing", input=["ignored"])
    assert (existing["run_id"], existing["outcome"]) == (first["run_id"], "returned_existing_active")
    rejected = await http.start(409, workflow_id="dup-1")
    assert (rejected["outcome"], rejected["reason"]) == ("rejected_duplicate", "duplicate_not_allowed")
    assert (rejected["rejection_reason"], rejected["run_id"]) == ("instance_already_started", first["run_id"])
    other_type = await http.start(422, workflow_id="dup-1", workflow_type="other")
    assert list(other_type["errors"]) == ["workflow_type"]
    await http.post("/namespaces", 201, name="lab")
    reserved = await http.call(
        "POST", "/workflows", 409, {"workflow_type": "order", "workflow_id": "dup-1"}, **{"X-Namespace": "lab"}
    )
    assert (reserved["reason"], reserved["workflow_id"]) == ("workflow_id_reserved_in_namespace", "dup-1")
    assert "default" not in json.dumps({key: value for key, value in reserved.items() if key != "control_plane"})
    for path in ("/workflows/dup-1", "/workflows/dup-1/runs", f"/workflows/dup-1/runs/{first['run_id']}"):
        await http.call("GET", path, 404, **{"X-Namespace": "lab"})


async def test_duplicate_starts_cannot_fill_a_history(http: Http) -> None:
    run_id = (await http.start(workflow_id="dup-2"))["run_id"]
    history = f"/workflows/dup-2/runs/{run_id}/history"
    for n in range(110):
        answer = await http.start(409, workflow_id="dup-2")
        assert (answer["outcome"], answer["run_id"], answer["status"]) == ("rejected_duplicate", run_id, "pending"), n
    noted = [event["event_type"] for event in (await http.get(history))["events"]][2:]
    assert noted == ["StartRejected"] * 100
    existing = await http.start(200, workflow_id="dup-2", duplicate_policy="use-existing")
    assert (existing["outcome"], existing["run_id"]) == ("returned_existing_active", run_id)
    await http.post("/workflows/dup-2/terminate", 200)
    before = await http.get(history)
    for policy in ("fail", "use-existing"):
        closed = await http.start(409, workflow_id="dup-2", duplicate_policy=policy)
        assert (closed["outcome"], closed["status"], closed["run_id"]) == ("rejected_duplicate", "terminated", run_id)
    assert await http.get(history) == before


async def test_twenty_parallel_starts_make_one_run(http: Http) -> None:
    responses = await asyncio.gather(
        *(http.client.post("/api/workflows", json={"workflow_type": "order", "workflow_id": "race-1"}) for _ in range(20))
    )
    assert sorted(response.status_code for response in responses) == [201] + [409] * 19
    assert len({response.json()["run_id"] for response in responses}) == 1


BAD_STARTS: list[tuple[dict[str, Any], str]] = [
    ({"workflow_type": None}, "workflow_type"),
    ({"workflow_type": "x" * 256}, "workflow_type"),
    ({"workflow_id": "a b"}, "workflow_id"),
    ({"workflow_id": "a/b"}, "workflow_id"),
    ({"workflow_id": "x" * 129}, "workflow_id"),
    ({"task_queue": 5}, "task_queue"),
    ({"business_key": "a\0b"}, "business_key"),
    ({"payload_codec": "json"}, "payload_codec"),
    ({"duplicate_policy": "use_existing"}, "duplicate_policy"),
    ({"duplicate_policy": "reject"}, "duplicate_policy"),
    ({"input": "scalar"}, "input"),
    ({"input": {"codec": "json", "blob": "[]"}}, "input.codec"),
    ({"input": {"codec": "avro", "blob": 1}}, "input.blob"),
    ({"memo": "x"}, "memo"),
    ({"memo": {"a b": 1}}, "memo"),
    ({"memo": {"a": "x" * 262_144}}, "memo"),
    ({"memo": {"a": "b\0"}}, "memo"),
    ({"search_attributes": [1]}, "search_attributes"),
    ({"search_attributes": {"1a": 1}}, "search_attributes"),
    ({"search_attributes": {"a" * 129: 1}}, "search_attributes"),
    ({"search_attributes": {"a": {"b": 1}}}, "search_attributes"),
    ({"search_attributes": {"a": ["x", 1]}}, "search_attributes"),
    ({"search_attributes": {"a": "x" * 2049}}, "search_attributes"),
    ({"search_attributes": {"a": "b\0"}}, "search_attributes"),
    ({"search_attributes": {f"a{number}": 1 for number in range(101)}}, "search_attributes"),
    ({"execution_timeout_seconds": 0}, "execution_timeout_seconds"),
    ({"run_timeout_seconds": True}, "run_timeout_seconds"),
    ({"run_timeout_seconds": 10**15}, "run_timeout_seconds"),
    ({"priority": 10}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"fairness_key": "a b"}, "fairness_key"),
    ({"fairness_weight": 0}, "fairness_weight"),
    ({"request_id": None}, "request_id"),
    ({"idempotency_key": "x"}, "idempotency_key"),
    ({"retry_policy": {}}, "retry_policy"),
    ({"workflow_task_timeout": 1}, "workflow_task_timeout"),
]


async def test_bad_starts_store_nothing(http: Http, server: ServerProcess) -> None:
    before = await count(server, "runs")
    for fields, field in BAD_STARTS:
        body = await http.start(422, **fields)
        assert (body["reason"], list(body["errors"])) == ("validation_failed", [field]), fields
        assert body["message"] == body["errors"][field][0]
        assert body["control_plane"]["operation"] == "start"
        assert body["control_plane"]["workflow_id"] is None
    texts = await http.start(422, workflow_execution_timeout=1, workflow_run_timeout=1, duplicate_policy="x", workflow_type="")
    assert texts["errors"] == {
        "workflow_execution_timeout": ["Use execution_timeout_seconds instead of workflow_execution_timeout."],
        "workflow_run_timeout": ["Use run_timeout_seconds instead of workflow_run_timeout."],
        "duplicate_policy": ["The duplicate_policy field only supports fail or use-existing."],
        "workflow_type": ["The workflow type field is required."],
    }
    for content in (b"[]", b"7", b""):
        response = await http.client.post("/api/workflows", content=content, headers={"Content-Type": "application/json"})
        assert (response.status_code, list(response.json()["errors"])) == (422, ["workflow_type"])
    assert await count(server, "runs") == before


async def test_unknown_workflows(http: Http) -> None:
    for path, reason in (
        ("/workflows/none", "instance_not_found"),
        ("/workflows/none/runs", "instance_not_found"),
        ("/workflows/none/runs/r", "run_not_found"),
        ("/workflows/none/runs/r/history", "run_not_found"),
    ):
        body = await http.get(path, 404)
        assert (body["reason"], body["workflow_id"]) == (reason, "none")
        assert body["control_plane"]["reason"] == reason
    run = await http.start(workflow_id="known-1")
    await http.start(workflow_id="known-2")
    body = await http.get(f"/workflows/known-2/runs/{run['run_id']}", 404)
    assert (body["reason"], body["run_id"]) == ("run_not_found", run["run_id"])
    for query in ("page_size=0", "page_size=1001", "wait_new_event=maybe"):
        await http.get(f"/workflows/known-1/runs/{run['run_id']}/history?{query}", 422)


async def test_polls_check_the_registration(http: Http) -> None:
    polled = {"worker_id": http.worker, "task_queue": http.queue}
    for kind in ("workflow", "activity"):
        path = f"/worker/{kind}-tasks/poll"
        body = await http.post(path, 412, **{**polled, "worker_id": "nobody"})
        assert (body["reason"], body["worker_id"]) == ("worker_not_registered", "nobody")
        await http.register(build_id="b1")
        body = await http.post(path, 409, **{**polled, "task_queue": "other"})
        assert (body["reason"], body["registered_task_queue"], body["requested_task_queue"]) == (
            "task_queue_mismatch",
            http.queue,
            "other",
        )
        body = await http.post(path, 409, **{**polled, "build_id": "b2"})
        assert (body["reason"], body["registered_build_id"], body["requested_build_id"]) == ("build_id_mismatch", "b1", "b2")
        for fields, field in (
            ({"worker_id": None}, "worker_id"),
            ({"task_queue": None}, "task_queue"),
            ({"poll_request_id": "x" * 256}, "poll_request_id"),
            ({"history_page_size": 0}, "history_page_size"),
            ({"history_page_size": 1001}, "history_page_size"),
        ):
            body = await http.post(path, 422, **{**polled, **fields})
            assert list(body["errors"]) == [field]


async def test_empty_polls_are_held(http: Http) -> None:
    await http.register()
    before = asyncio.get_running_loop().time()
    body = await http.post("/worker/activity-tasks/poll", 200, worker_id=http.worker, task_queue=http.queue)
    assert 1.8 < asyncio.get_running_loop().time() - before < 15
    assert (body["task"], body["protocol_version"]) == (None, "1.0")
    assert body["server_capabilities"]["long_poll_timeout"] == 2


async def test_workflow_task_fences(http: Http) -> None:
    await http.register()
    run = await http.start()
    task = await http.poll()
    task_id = task["task_id"]
    extra: dict[str, dict[str, Any]] = {
        "heartbeat": {},
        "history": {"next_history_page_token": "MA=="},
        "complete": {"commands": [{"type": "complete_workflow"}]},
        "fail": {"failure": {"message": ""}},
    }
    right = {"lease_owner": http.worker, "workflow_task_attempt": 1}
    for call, fields in extra.items():
        path = f"/worker/workflow-tasks/{task_id}/{call}"
        for unknown in ("x", run["run_id"], "0" * 26, task_id[:10] + "zz" + task_id[12:]):
            body = await http.post(f"/worker/workflow-tasks/{unknown}/{call}", 404, **right, **fields)
            assert (body["reason"], body["task_id"], body["workflow_task_attempt"]) == ("task_not_found", unknown, 1)
        await http.post("/namespaces", 201, name=f"{http.queue}-{call}")
        other = {"X-Namespace": f"{http.queue}-{call}"}
        body = await http.call("POST", f"/worker/workflow-tasks/{task_id}/{call}", 404, {**right, **fields}, **other)
        assert body["reason"] == "task_not_found"
        body = await http.post(path, 409, **{**right, **fields, "lease_owner": "thief"})
        assert (body["reason"], body["lease_owner"]) == ("lease_owner_mismatch", http.worker)
        body = await http.post(path, 409, **{**right, **fields, "workflow_task_attempt": 2})
        assert (body["reason"], body["current_attempt"], body["workflow_task_attempt"]) == (
            "workflow_task_attempt_mismatch",
            1,
            2,
        )
        assert body["error"]
        for broken, field in (({"lease_owner": None}, "lease_owner"), ({"workflow_task_attempt": 0}, "workflow_task_attempt")):
            body = await http.post(path, 422, **{**right, **fields, **broken})
            assert list(body["errors"]) == [field]
    history = f"/worker/workflow-tasks/{task_id}/history"
    page = await http.post(history, 200, **right, next_history_page_token="MA==", history_page_size=1)
    assert [event["sequence"] for event in page["history_events"]] == [1]
    assert (page["total_history_events"], page["next_history_page_token"]) == (2, "MQ==")
    page = await http.post(history, 200, **right, next_history_page_token="MTAw")
    assert (page["history_events"], page["next_history_page_token"]) == ([], None)
    body = await http.post(history, 400, **right, next_history_page_token="!!")
    assert (body["reason"], body["task_id"]) == ("invalid_page_token", task_id)
    body = await http.post(history, 409, **{**right, "lease_owner": "thief"}, next_history_page_token="!!")
    assert body["reason"] == "lease_owner_mismatch"


async def test_faults_of_content_come_after_the_fence_and_store_nothing(http: Http, server: ServerProcess) -> None:
    await http.register()
    started = await http.start()
    task = await http.poll()
    before = [await count(server, table) for table in ("history", "ready_tasks")]
    bad = {"type": "open_signal_wait"}
    body = await http.complete(task, {"type": "start_timer", "delay_seconds": 1}, bad, status=422)
    assert list(body["errors"]) == ["commands.1.type"]
    assert "[open_signal_wait]" in body["message"]
    body = await http.complete(task, bad, status=409, lease_owner="thief")
    assert body["reason"] == "lease_owner_mismatch"
    await http.complete({**task, "task_id": "0" * 26}, bad, status=404)
    body = await http.complete({**task, "task_id": "0" * 26}, {"type": "start_timer", "retry_policy": {}}, status=422)
    assert list(body["errors"]) == ["commands.0.retry_policy"]
    two = await http.complete(task, {"type": "complete_workflow"}, {"type": "fail_workflow", "message": ""}, status=409)
    assert (two["reason"], two["recorded"], two["outcome"]) == ("invalid_commands", False, "completed")
    assert [await count(server, table) for table in ("history", "ready_tasks")] == before
    assert (await http.get(f"/workflows/{started['workflow_id']}"))["status"] == "pending"
    assert (await http.complete(task, {"type": "complete_workflow"}))["recorded"] is True


async def test_failed_workflow_tasks_come_back(http: Http) -> None:
    await http.register()
    await http.start()
    task = await http.poll()
    path = f"/worker/workflow-tasks/{task['task_id']}/fail"
    guard = {"lease_owner": http.worker, "workflow_task_attempt": 1}
    for failure, field in ((None, "failure"), ("x", "failure"), ({}, "failure.message"), ({"message": 1}, "failure.message")):
        body = await http.post(path, 422, **guard, failure=failure)
        assert list(body["errors"]) == [field]
    body = await http.post(path, 200, **guard, failure={"message": "", "type": "LookupError"})
    assert (body["outcome"], body["recorded"], body["next_task_id"]) == ("failed", True, None)
    again = None
    while again is None:
        again = await http.poll()
    assert (again["task_id"], again["workflow_task_attempt"]) == (task["task_id"], 2)


async def _activity(http: Http, **options: Any) -> dict[str, Any]:
    await http.register()
    await http.start()
    await http.complete(await http.poll(), {**SCHEDULE, **options})
    activity: dict[str, Any] = await http.poll("activity")
    return activity


async def test_activity_fences_and_bad_outcomes(http: Http) -> None:
    activity = await _activity(http)
    path = f"/worker/activity-tasks/{activity['task_id']}"
    right = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker}
    cases: list[tuple[str, dict[str, Any]]] = [("complete", {}), ("fail", {"failure": {"message": ""}}), ("heartbeat", {})]
    for call, fields in cases:
        body = await http.post(f"/worker/activity-tasks/{'0' * 26}/{call}", 404, **right, **fields)
        assert (body["reason"], body["activity_attempt_id"]) == ("task_not_found", right["activity_attempt_id"])
        body = await http.post(f"{path}/{call}", 404, **{**right, **fields, "activity_attempt_id": "nope"})
        assert body["reason"] == "attempt_not_found"
        body = await http.post(f"{path}/{call}", 409, **{**right, **fields, "lease_owner": "thief"})
        assert (body["reason"], body["lease_owner"]) == ("lease_owner_mismatch", http.worker)
        for field in right:
            body = await http.post(f"{path}/{call}", 422, **{**right, **fields, field: None})
            assert list(body["errors"]) == [field]
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("complete", {"result": {"codec": "php", "blob": ""}}, "result.codec"),
        ("complete", {"result": {"codec": "avro", "external_storage": {"codec": "avro"}}}, "result.external_storage"),
        ("fail", {}, "failure"),
        ("fail", {"failure": {}}, "failure.message"),
        ("fail", {"failure": {"message": "m", "kind": "odd"}}, "failure.kind"),
        ("fail", {"failure": {"message": "m", "timeout_type": "odd"}}, "failure.timeout_type"),
        ("fail", {"failure": {"message": "m", "code": [1]}}, "failure.code"),
        ("fail", {"failure": {"message": "m", "details": {"n": "nul\0"}}}, "failure.details"),
        ("fail", {"failure": {"message": "m", "details": {"codec": "x", "blob": ""}}}, "failure.details.codec"),
        ("heartbeat", {"message": "x" * 281}, "message"),
        ("heartbeat", {"current": "1"}, "current"),
        ("heartbeat", {"unit": "rows"}, "unit"),
        ("heartbeat", {"details": [1]}, "details"),
    ]
    for call, fields, field in bad:
        body = await http.post(f"{path}/{call}", 422, **right, **fields)
        assert list(body["errors"]) == [field], fields
    await http.post(f"{path}/complete", 200, **right)


async def test_failed_activities_are_retried_and_then_fail(http: Http) -> None:
    activity = await _activity(http, retry_policy={"max_attempts": 2, "non_retryable_error_types": ["Never"]})
    assert activity["retry_policy"]["max_attempts"] == 2
    path = f"/worker/activity-tasks/{activity['task_id']}/fail"
    right = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker}
    failure = {"message": "card declined", "type": "CardDeclined", "code": 7, "details": {"codec": "avro", "blob": encode(1)}}
    body = await http.post(path, 200, **right, failure=failure)
    assert (body["outcome"], body["recorded"]) == ("failed", True)
    again = await http.poll("activity")
    assert (again["task_id"], again["attempt_number"]) == (body["next_task_id"], 2)
    right["activity_attempt_id"] = again["activity_attempt_id"]
    await http.post(
        f"/worker/activity-tasks/{again['task_id']}/fail", 200, **right, failure={"message": "m", "retryable": False}
    )
    task = await http.poll()
    assert task["workflow_event_type"] == "ActivityFailed"


async def test_two_racing_completions_have_one_winner(http: Http) -> None:
    activity = await _activity(http)
    path = f"/api/worker/activity-tasks/{activity['task_id']}/complete"
    right = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker}
    responses = await asyncio.gather(*(http.client.post(path, json={**right, "result": number}) for number in range(8)))
    assert sorted(response.status_code for response in responses) == [200] + [409] * 7


async def test_large_histories_page_and_compress(http: Http) -> None:
    await http.register()
    await http.start()
    timers = [{"type": "start_timer", "delay_seconds": 0 if number == 0 else 600} for number in range(70)]
    await http.complete(await http.poll(), *timers)
    task = await http.poll(history_page_size=20)
    assert len(task["history_events"]) == 20
    assert task["total_history_events"] >= 73
    events = list(task["history_events"])
    token = task["next_history_page_token"]
    guard = {"lease_owner": http.worker, "workflow_task_attempt": task["workflow_task_attempt"]}
    path = f"/worker/workflow-tasks/{task['task_id']}/history"
    whole = await http.post(path, 200, **guard, next_history_page_token="MA==", accept_history_encoding="gzip, deflate")
    assert (whole["history_events"], whole["history_events_encoding"]) == ([], "gzip")
    unpacked = json.loads(gzip.decompress(base64.b64decode(whole["history_events_compressed"])))
    while token is not None:
        page = await http.post(path, 200, **guard, next_history_page_token=token, history_page_size=20)
        events += page["history_events"]
        token = page["next_history_page_token"]
    assert events == unpacked
    assert len(events) == task["total_history_events"]
    raw = await http.post(path, 200, **guard, next_history_page_token="MA==", accept_history_encoding="br, deflate")
    assert json.loads(zlib.decompress(base64.b64decode(raw["history_events_compressed"]), -15)) == events
    plain = await http.post(path, 200, **guard, next_history_page_token="MA==", accept_history_encoding="br")
    assert plain["history_events"] == events


async def test_a_client_that_leaves_swallows_no_task(http: Http, server: ServerProcess) -> None:
    await http.register()
    content = json.dumps({"worker_id": http.worker, "task_queue": http.queue}).encode()
    head = (
        f"POST /api/worker/workflow-tasks/poll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"X-Durable-Workflow-Protocol-Version: 1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    for _ in range(5):
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as leaving:
            leaving.sendall(head.encode() + content)
            await asyncio.sleep(0.15)
    await asyncio.sleep(0.2)
    await http.start()
    task = await http.poll()
    assert task is not None
    assert task["workflow_task_attempt"] == 1
