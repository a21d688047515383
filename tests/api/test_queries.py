"""Queries and query tasks against a running node: both sides of the answer, fences, and every reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from api.payloads.codec import encode
from tests.api.conftest import CONTROL, WORKER
from tests.api.driver import Http
from tests.support.server import ServerProcess
from tests.support.services import TestServices

EMPTY = {"codec": "avro", "blob": encode([])}


def asking(http: Http, path: str, status: int, **body: Any) -> asyncio.Future[dict[str, Any]]:
    return asyncio.ensure_future(http.post(f"/workflows/{path}", status, **body))


def guard(task: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"lease_owner": task["lease_owner"], "query_task_attempt": task["query_task_attempt"], **fields}


async def test_a_query_and_its_answer(http: Http) -> None:
    await http.register(supported_workflow_types=["order"])
    run_id = await http.waiting("query-1", input=[{"n": 1}])
    before = await http.types("query-1", run_id)
    caller = asking(http, "query-1/query/pos%20ition", 200, input=["short"])
    task = await http.poll("query", poll_request_id="q-1")
    expected = {
        "query_task_attempt": 1,
        "workflow_id": "query-1",
        "run_id": run_id,
        "workflow_type": "order",
        "query_name": "pos ition",
        "payload_codec": "avro",
        "workflow_arguments": {"codec": "avro", "blob": encode([{"n": 1}])},
        "query_arguments": {"codec": "avro", "blob": encode(["short"])},
        "run_status": "waiting",
        "last_history_sequence": 3,
        "task_queue": http.queue,
        "lease_owner": http.worker,
    }
    assert {key: task[key] for key in expected} == expected
    assert [event["event_type"] for event in task["history_events"]] == before
    assert task["lease_expires_at"].endswith("Z")
    # The same poll again is answered with the same lease.
    assert (await http.poll("query", poll_request_id="q-1"))["query_task_id"] == task["query_task_id"]

    envelope = {"codec": "avro", "blob": encode({"km": 12})}
    path = f"/worker/query-tasks/{task['query_task_id']}/complete"
    done = await http.post(path, 200, **guard(task, result={"km": 12}, result_envelope=envelope))
    assert {key: done[key] for key in ("query_task_id", "query_task_attempt", "outcome", "status")} == {
        "query_task_id": task["query_task_id"],
        "query_task_attempt": 1,
        "outcome": "completed",
        "status": 200,
    }
    body = await caller
    control = body.pop("control_plane")
    assert body == {
        "workflow_id": "query-1",
        "run_id": run_id,
        "target_scope": "instance",
        "query_name": "pos ition",
        "result": {"km": 12},
        "result_envelope": envelope,
        "reason": None,
    }
    assert (control["operation"], control["operation_name"], control["result"]) == ("query", "pos ition", {"km": 12})
    assert await http.types("query-1", run_id) == before
    late = await http.post(path, 409, **guard(task, result=1))
    assert (late["reason"], late["outcome"], late["status"]) == ("query_task_not_leased", "rejected", 409)
    assert late["query_task_id"] == task["query_task_id"]
    assert late["error"]


@pytest.mark.parametrize(
    ("sent", "result", "envelope"),
    [
        ({"result": "sent"}, "sent", None),
        ({"result": None, "result_envelope": EMPTY}, None, EMPTY),
        ({"result_envelope": EMPTY}, [], EMPTY),
        ({"result_envelope": {"codec": "own", "blob": "x"}}, None, {"codec": "own", "blob": "x"}),
        ({}, None, None),
        ({"result": "nul\x00"}, "nul\x00", None),
    ],
)
async def test_results_are_handed_on_as_given(http: Http, sent: dict[str, Any], result: Any, envelope: Any) -> None:
    await http.register()
    workflow_id = f"result-{http.queue}"
    await http.waiting(workflow_id)
    caller = asking(http, f"{workflow_id}/query/q", 200)
    task = await http.poll("query")
    assert task["query_arguments"] == EMPTY
    await http.post(f"/worker/query-tasks/{task['query_task_id']}/complete", 200, **guard(task, **sent))
    body = await caller
    assert (body["result"], body["result_envelope"]) == (result, envelope)


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        ({"message": "no query", "reason": "rejected_unknown_query"}, 404, "rejected_unknown_query"),
        ({"message": "bad", "reason": "invalid_query_arguments"}, 422, "invalid_query_arguments"),
        (
            {"message": "gone", "reason": "query_workflow_state_unavailable", "type": "E"},
            409,
            "query_workflow_state_unavailable",
        ),
        ({"message": "no", "stack_trace": "trace"}, 409, "query_rejected"),
        ({"message": "no", "reason": " "}, 409, "query_rejected"),
        # A reason of a worker never passes for one of the server.
        ({"message": "slow", "reason": "query_worker_timeout"}, 409, "query_worker_timeout"),
    ],
)
async def test_failures_reach_the_caller(http: Http, failure: dict[str, Any], status: int, reason: str) -> None:
    await http.register()
    workflow_id = f"failure-{http.queue}"
    run_id = await http.closed(workflow_id)
    caller = asking(http, f"{workflow_id}/query/q", status)
    task = await http.poll("query")
    assert task["run_status"] == "completed"
    done = await http.post(f"/worker/query-tasks/{task['query_task_id']}/fail", 200, **guard(task, failure=failure))
    assert (done["outcome"], done["reason"], done["status"]) == ("failed", reason, 200)
    body = await caller
    assert (body["reason"], body["message"]) == (reason, failure["message"])
    assert (body["result"], body["result_envelope"], body["run_id"], body["query_name"]) == (None, None, run_id, "q")
    assert body["control_plane"]["reason"] == reason


async def test_fences(http: Http) -> None:
    await http.register()
    await http.waiting("query-fence")
    caller = asking(http, "query-fence/query/q", 200)
    task = await http.poll("query")
    answers: dict[str, dict[str, Any]] = {"complete": {"result": 1}, "fail": {"failure": {"message": "m"}}}
    unknown = "01kp2q0000000000000000000r"
    for kind, content in answers.items():
        path = f"/worker/query-tasks/{task['query_task_id']}/{kind}"
        other = await http.post(path, 409, **guard(task, **content) | {"lease_owner": "somebody"})
        assert (other["reason"], other["lease_owner"]) == ("lease_owner_mismatch", http.worker)
        attempt = await http.post(path, 409, **guard(task, **content) | {"query_task_attempt": "2"})
        assert (attempt["reason"], attempt["current_attempt"]) == ("query_task_attempt_mismatch", 1)
        for missing in (unknown, "nonsense"):
            body = await http.post(f"/worker/query-tasks/{missing}/{kind}", 404, **guard(task, **content))
            assert (body["reason"], body["status"], body["query_task_id"]) == ("query_task_not_found", 404, missing)
        elsewhere = await http.call("POST", "/namespaces", 201 if kind == "complete" else 409, {"name": "fence"})
        assert elsewhere
        body = await http.call("POST", path, 404, guard(task, **content), **{"X-Namespace": "fence"})
        assert body["reason"] == "query_task_not_found"
    await http.post(f"/worker/query-tasks/{task['query_task_id']}/complete", 200, **guard(task, result=1))
    assert (await caller)["result"] == 1


GOOD = {"lease_owner": "w", "query_task_attempt": 1}

BAD_ANSWERS: list[tuple[str, dict[str, Any], str]] = [
    ("complete", {"query_task_attempt": 1}, "lease_owner"),
    ("complete", {"lease_owner": "w"}, "query_task_attempt"),
    ("complete", {**GOOD, "query_task_attempt": 0}, "query_task_attempt"),
    ("complete", {**GOOD, "query_task_attempt": "x"}, "query_task_attempt"),
    ("complete", {**GOOD, "result_envelope": "x"}, "result_envelope"),
    ("complete", {**GOOD, "result_envelope": {"codec": "avro"}}, "result_envelope.blob"),
    ("complete", {**GOOD, "result_envelope": {"blob": "x"}}, "result_envelope.codec"),
    ("complete", {**GOOD, "result_envelope": {"codec": "avro", "blob": "x", "more": 1}}, "result_envelope"),
    ("complete", {**GOOD, "result_envelope": {"codec": 5, "blob": "x"}}, "result_envelope.codec"),
    ("complete", {**GOOD, "result_envelope": {"codec": "x" * 65, "blob": "x"}}, "result_envelope.codec"),
    ("complete", {**GOOD, "result_envelope": {"codec": "avro", "blob": None}}, "result_envelope.blob"),
    (
        "complete",
        {**GOOD, "result_envelope": {"codec": "avro", "external_storage": {}}},
        "result_envelope.external_storage",
    ),
    ("fail", {**GOOD}, "failure"),
    ("fail", {**GOOD, "failure": "x"}, "failure"),
    ("fail", {**GOOD, "failure": {}}, "failure.message"),
    ("fail", {**GOOD, "failure": {"message": 5}}, "failure.message"),
    ("fail", {**GOOD, "failure": {"message": "m", "reason": 5}}, "failure.reason"),
    ("fail", {**GOOD, "failure": {"message": "m", "type": 5}}, "failure.type"),
    ("fail", {"failure": {"message": "m"}, "query_task_attempt": 1}, "lease_owner"),
]


@pytest.mark.parametrize(("kind", "body", "key"), BAD_ANSWERS)
async def test_bad_answers(http: Http, kind: str, body: dict[str, Any], key: str) -> None:
    answer = await http.post(f"/worker/query-tasks/nonsense/{kind}", 422, **body)
    assert (answer["reason"], list(answer["errors"])) == ("validation_failed", [key])
    assert answer["server_capabilities"]["query_tasks"] is True


async def test_polls_check_the_registration_but_not_the_build(http: Http) -> None:
    path = "/worker/query-tasks/poll"
    for body in ({"worker_id": "w"}, {"task_queue": "q"}, {"worker_id": "w", "task_queue": "q", "poll_request_id": 5}):
        await http.post(path, 422, **body)
    body = await http.post(path, 412, worker_id="nobody", task_queue="q")
    assert (body["reason"], body["worker_id"]) == ("worker_not_registered", "nobody")
    await http.register(build_id="b-1")
    body = await http.post(path, 409, worker_id=http.worker, task_queue="other")
    assert body["reason"] == "task_queue_mismatch"
    # Fields of other polls mean nothing here.
    assert await http.poll("query", build_id="b-2", history_page_size="many") is None


async def test_a_query_needs_a_worker_that_serves_the_type(http: Http) -> None:
    run_id = (await http.start(workflow_id="query-nobody"))["run_id"]

    async def refused() -> None:
        body = await http.post("/workflows/query-nobody/query/q", 409)
        assert (body["reason"], body["result"], body["run_id"]) == ("query_worker_unavailable", None, run_id)
        assert body["message"]

    await refused()
    await http.register(worker_id="other-type", supported_workflow_types=["invoice"])
    await refused()
    await http.register(worker_id="activities-only", supported_workflow_types=[], supported_activity_types=["charge"])
    await refused()
    # Registered just now, and eligible at once.
    await http.register(supported_workflow_types=["order"])
    caller = asking(http, "query-nobody/query/q", 200)
    task = await http.poll("query")
    await http.post(f"/worker/query-tasks/{task['query_task_id']}/complete", 200, **guard(task, result=1))
    await caller
    await http.call("DELETE", f"/workers/{http.worker}", 200)
    await refused()


async def test_a_query_of_a_run_by_name(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("query-run")
    caller = asking(http, f"query-run/runs/{run_id}/query/q", 200)
    task = await http.poll("query")
    await http.post(f"/worker/query-tasks/{task['query_task_id']}/complete", 200, **guard(task, result=1))
    body = await caller
    assert (body["run_id"], body["target_scope"], body["control_plane"]["run_id"]) == (run_id, "instance", run_id)


# -- a node with small limits ------------------------------------------------------------------------------------------

LIMITS = {
    "DW_QUERY_TASK_TIMEOUT": "1",
    "DW_QUERY_TASK_MAX_PENDING_PER_QUEUE": "2",
    "DW_QUERY_TASK_LEASE_TIMEOUT": "1",
    "DW_V2_LIMIT_PENDING_SIGNALS": "2",
    "DW_V2_LIMIT_PENDING_UPDATES": "2",
    "DW_MAX_OPERATION_NAME_LENGTH": "10",
    "DW_V2_CURRENT_COMPATIBILITY": "build-1",
    "DW_WORKER_STALE_AFTER_SECONDS": "1",
}


@pytest.fixture(scope="module")
def limited_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("limited"), node_id="limited", env=LIMITS)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def limited(limited_server: ServerProcess) -> AsyncIterator[Http]:
    headers = {**CONTROL, **WORKER, "Authorization": f"Bearer {limited_server.token}"}
    async with httpx.AsyncClient(base_url=limited_server.url, headers=headers, timeout=30) as client:
        yield Http(client)


async def test_unanswered_queries_time_out_and_a_full_queue_refuses(limited: Http) -> None:
    await limited.register(build_id="build-1")
    run_id = (await limited.start(workflow_id="slow-1"))["run_id"]
    waiting = [asking(limited, "slow-1/query/q", 504) for _ in range(2)]
    await asyncio.sleep(0.3)
    full = await limited.post("/workflows/slow-1/query/q", 429)
    assert (full["reason"], full["run_id"]) == ("query_task_queue_full", run_id)
    for body in await asyncio.gather(*waiting):
        assert (body["reason"], body["result"], body["run_id"]) == ("query_worker_timeout", None, run_id)
        assert body["message"]
    # Nothing is left of them.
    assert await limited.poll("query") is None


async def test_an_answer_after_the_callers_time_is_refused(limited: Http) -> None:
    await limited.register(build_id="build-1")
    await limited.start(workflow_id="slow-2")
    caller = asking(limited, "slow-2/query/q", 504)
    task = await limited.poll("query")
    await caller
    body = await limited.post(f"/worker/query-tasks/{task['query_task_id']}/complete", 409, **guard(task, result=1))
    assert body["reason"] == "query_task_not_leased"


async def test_a_pinned_run_needs_a_worker_of_its_build(limited: Http) -> None:
    await limited.register(build_id="build-2")
    run_id = (await limited.start(workflow_id="pinned-1"))["run_id"]
    body = await limited.post("/workflows/pinned-1/query/q", 409)
    assert (body["reason"], body["run_id"]) == ("query_worker_incompatible", run_id)
    await limited.register(worker_id="right", build_id="build-1")
    assert (await limited.post("/workflows/pinned-1/query/q", 504))["reason"] == "query_worker_timeout"


async def test_stale_workers_are_not_asked(limited: Http) -> None:
    await limited.register(build_id="build-1")
    await limited.start(workflow_id="stale-1")
    await asyncio.sleep(1.2)
    assert (await limited.post("/workflows/stale-1/query/q", 409))["reason"] == "query_worker_unavailable"
    await limited.post("/worker/heartbeat", 200, worker_id=limited.worker)
    assert (await limited.post("/workflows/stale-1/query/q", 504))["reason"] == "query_worker_timeout"


async def test_pending_limits_of_a_run(limited: Http) -> None:
    run_id = (await limited.start(workflow_id="full-1"))["run_id"]
    for kind, status, outcome in (("signal", 202, "signal_received"), ("update", 202, None)):
        for _ in range(2):
            assert (await limited.post(f"/workflows/full-1/{kind}/x", status))["outcome"] == outcome
        before = await limited.types("full-1", run_id)
        body = await limited.post(f"/workflows/full-1/{kind}/x", 409)
        assert (body["reason"], body["outcome"], body["command_status"]) == ("structural_limit_exceeded", None, "rejected")
        assert body["control_plane"]["rejection_reason"] == "structural_limit_exceeded"
        assert await limited.types("full-1", run_id) == before + (["UpdateRejected"] if kind == "update" else [])
    rejected = (await limited.events("full-1", run_id))[-1]["payload"]
    assert (rejected["update_id"], rejected["rejection_reason"]) == (body["update_id"], "structural_limit_exceeded")
    assert (rejected["command"]["status"], rejected["command"]["type"]) == ("rejected", "update")


async def test_the_limit_of_operation_names_is_configured(limited: Http) -> None:
    for kind in ("signal", "query", "update"):
        body = await limited.post(f"/workflows/nobody/{kind}/{'x' * 11}", 422)
        assert "10" in body["errors"][f"{kind}_name"][0]
        assert (await limited.post(f"/workflows/nobody/{kind}/{'x' * 10}", 404))["reason"] == "instance_not_found"
