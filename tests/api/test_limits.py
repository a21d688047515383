"""Structural limits and history budget over HTTP: what is refused, with which numbers, and that nothing changed.

Contract: worker-protocol 4.9 and 12.2, engine-semantics 11, control-plane 5.1 and 5.7.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.payloads.codec import encode
from store.connections.pool import Database
from tests.api.conftest import CONTROL, WORKER, services_for, serving
from tests.api.driver import Http
from tests.support.defaults import make_auth, make_rules, make_settings
from tests.support.server import ServerProcess
from tests.support.services import TestServices

ENVIRONMENT = {
    "DW_V2_LIMIT_PENDING_ACTIVITIES": "3",
    "DW_MAX_PENDING_ACTIVITIES": "2",
    "DW_V2_LIMIT_PENDING_CHILDREN": "2",
    "DW_V2_LIMIT_PENDING_TIMERS": "2",
    "DW_V2_LIMIT_COMMAND_BATCH_SIZE": "6",
    "DW_V2_LIMIT_PAYLOAD_SIZE_BYTES": "400",
    "DW_V2_LIMIT_MEMO_SIZE_BYTES": "300",
    "DW_V2_LIMIT_SEARCH_ATTRIBUTE_SIZE_BYTES": "200",
    "DW_V2_LIMIT_HISTORY_TRANSACTION_SIZE": "5",
    "DW_MAX_HISTORY_EVENTS": "20",
    "DW_MAX_PAYLOAD_BYTES": "100000",
    "DW_V2_CONTINUE_AS_NEW_EVENT_THRESHOLD": "10",
    "DW_V2_CONTINUE_AS_NEW_SIZE_BYTES_THRESHOLD": "1000000",
}

LARGE = "x" * 400
TIMER = {"type": "start_timer", "delay_seconds": 600}
ACTIVITY = {"type": "schedule_activity", "activity_type": "a"}
CHILD = {"type": "start_child_workflow", "workflow_type": "child"}
EFFECT = {"type": "record_side_effect", "result": 1}
WAIT = {"type": "open_condition_wait", "timeout_seconds": 600}
UPSERT = {"type": "upsert_search_attributes"}

BUDGET = (
    "total_history_events",
    "history_size_bytes",
    "history_fan_out",
    "continue_as_new_recommended",
    "history_budget_pressure",
    "history_budget_pressure_dimensions",
)


@pytest.fixture(scope="module")
def limited_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("limits"), node_id="limits", env=ENVIRONMENT)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def limited(limited_server: ServerProcess) -> AsyncIterator[Http]:
    headers = {**CONTROL, **WORKER, "Authorization": f"Bearer {limited_server.token}"}
    async with httpx.AsyncClient(base_url=limited_server.url, headers=headers, timeout=30) as client:
        http = Http(client)
        await http.register()
        yield http


def attributes(count: int) -> dict[str, Any]:
    return {**UPSERT, "attributes": {f"key{number}": "v" * 40 for number in range(count)}}


SIZE = len(encode(LARGE))
LIST_SIZE = len(encode([LARGE]))

# One batch on a fresh run: the limit it passes, the value it shows, the limit it shows.
BATCHES: list[tuple[list[dict[str, Any]], str, int, int]] = [
    ([EFFECT] * 7, "command_batch_size", 7, 6),
    ([ACTIVITY] * 3, "pending_activity_count", 2, 2),
    ([CHILD] * 3, "pending_child_count", 2, 2),
    ([TIMER] * 3, "pending_timer_count", 2, 2),
    ([TIMER, TIMER, WAIT], "pending_timer_count", 2, 2),
    ([{**ACTIVITY, "arguments": [LARGE]}], "payload_size", LIST_SIZE, 400),
    ([{**CHILD, "arguments": [LARGE]}], "payload_size", LIST_SIZE, 400),
    ([{"type": "continue_as_new", "arguments": [LARGE]}], "payload_size", LIST_SIZE, 400),
    ([{"type": "complete_workflow", "result": LARGE}], "payload_size", SIZE, 400),
    ([{"type": "record_side_effect", "result": LARGE}], "payload_size", SIZE, 400),
    ([attributes(4)], "search_attribute_size", 201, 200),
    ([EFFECT] * 6, "history_transaction_size", 6, 5),
    ([CHILD, CHILD, EFFECT, EFFECT], "history_transaction_size", 6, 5),
]


@pytest.mark.parametrize(("commands", "kind", "value", "configured"), BATCHES)
async def test_a_batch_that_passes_a_limit(
    limited: Http, commands: list[dict[str, Any]], kind: str, value: int, configured: int
) -> None:
    run_id = (await limited.start())["run_id"]
    task = await limited.poll()
    workflow_id = task["workflow_id"]
    before = await limited.events(workflow_id, run_id)
    body = await limited.complete(task, *commands, status=422)
    for key in ("protocol_version", "server_capabilities"):
        del body[key]
    assert body.pop("error")
    assert body == {
        "task_id": task["task_id"],
        "workflow_task_attempt": 1,
        "outcome": "rejected",
        "reason": "structural_limit_exceeded",
        "limit_kind": kind,
        "current_value": value,
        "configured_limit": configured,
    }
    assert await limited.events(workflow_id, run_id) == before
    # The task is leased still, and can be completed.
    guard = {"lease_owner": limited.worker, "workflow_task_attempt": 1}
    renewed = await limited.post(f"/worker/workflow-tasks/{task['task_id']}/heartbeat", 200, **guard)
    assert renewed["task_status"] == "leased"
    assert (await limited.complete(task, {"type": "complete_workflow", "result": 1}))["run_status"] == "completed"


AT_THE_LIMIT = [[ACTIVITY] * 2, [CHILD] * 2, [TIMER] * 2, [EFFECT] * 5, [attributes(3)]]


@pytest.mark.parametrize("commands", AT_THE_LIMIT)
async def test_a_batch_that_reaches_a_limit_passes(limited: Http, commands: list[dict[str, Any]]) -> None:
    await limited.start()
    body = await limited.complete(await limited.poll(), *commands)
    assert body["recorded"] is True


async def test_counts_go_on_over_tasks_and_come_down_again(limited: Http) -> None:
    run_id = (await limited.start(workflow_id="limits-counts"))["run_id"]
    await limited.complete(await limited.poll(), ACTIVITY, {**TIMER, "delay_seconds": 0})
    task = await limited.poll()
    refused = await limited.complete(task, ACTIVITY, ACTIVITY, status=422)
    assert (refused["limit_kind"], refused["current_value"]) == ("pending_activity_count", 2)
    activity = await limited.poll("activity")
    await limited.post(
        f"/worker/activity-tasks/{activity['task_id']}/complete",
        200,
        activity_attempt_id=activity["activity_attempt_id"],
        lease_owner=limited.worker,
    )
    assert (await limited.complete(task, ACTIVITY, ACTIVITY))["recorded"] is True
    assert (await limited.types("limits-counts", run_id)).count("ActivityScheduled") == 3


async def test_the_result_of_an_update_is_a_payload(limited: Http) -> None:
    await limited.waiting("limits-update")
    accepted = await limited.post("/workflows/limits-update/update/u", 202)
    task = await limited.poll()
    command = {"type": "complete_update", "update_id": accepted["update_id"], "result": LARGE}
    refused = await limited.complete(task, command, status=422)
    assert (refused["limit_kind"], refused["current_value"]) == ("payload_size", SIZE)
    assert (await limited.complete(task, {**command, "result": "short"}))["recorded"] is True


async def test_a_large_activity_result_fails_the_activity(limited: Http) -> None:
    run_id = (await limited.start(workflow_id="limits-result"))["run_id"]
    await limited.complete(await limited.poll(), {**ACTIVITY, "retry_policy": {"max_attempts": 5}})
    activity = await limited.poll("activity")
    body = await limited.post(
        f"/worker/activity-tasks/{activity['task_id']}/complete",
        200,
        activity_attempt_id=activity["activity_attempt_id"],
        lease_owner=limited.worker,
        result=LARGE,
    )
    assert (body["outcome"], body["recorded"]) == ("completed", True)
    event = (await limited.events("limits-result", run_id))[-1]
    assert event["event_type"] == "ActivityFailed"
    expected = {
        "failure_category": "structural_limit",
        "non_retryable": True,
        "structural_limit_kind": "payload_size",
        "structural_limit_value": SIZE,
        "structural_limit_configured": 400,
    }
    assert {key: event["payload"][key] for key in expected} == expected
    task = await limited.poll()
    assert (task["task_id"], task["workflow_event_type"]) == (body["next_task_id"], "ActivityFailed")


async def test_the_longest_history_ends_with_a_terminal_command(limited: Http) -> None:
    run_id = (await limited.start(workflow_id="limits-history"))["run_id"]
    for _ in range(3):
        await limited.complete(await limited.poll(), *[EFFECT] * 4, {**TIMER, "delay_seconds": 0})
    task = await limited.poll()
    assert task["total_history_events"] == 20
    refused = await limited.complete(task, EFFECT, status=422)
    assert {key: refused[key] for key in ("limit_kind", "current_value", "configured_limit")} == {
        "limit_kind": "history_event_count",
        "current_value": 21,
        "configured_limit": 20,
    }
    # What the server itself records is never refused.
    await limited.post("/workflows/limits-history/signal/s", 202)
    assert (await limited.complete(task, EFFECT, {"type": "complete_workflow"}))["run_status"] == "completed"
    assert len(await limited.events("limits-history", run_id)) == 23


async def describe(server: ServerProcess, workflow_id: str) -> dict[str, Any]:
    """A describe answered with the thresholds of this server."""
    db = Database(server.place.dsn)
    await db.start()
    settings = make_settings(auth=make_auth(driver="none"), rules=make_rules(budget_events=10, budget_bytes=1_000_000))
    try:
        async with serving(create_app(services_for(db, settings))) as url, httpx.AsyncClient(headers=CONTROL) as client:
            body: dict[str, Any] = (await client.get(f"{url}/api/workflows/{workflow_id}")).json()
            return body
    finally:
        await db.stop()


async def test_budget_hints(limited: Http, limited_server: ServerProcess) -> None:
    """`approaching` from four fifths of a threshold on; on tasks and in describe."""
    await limited.start(workflow_id="limits-budget")
    first = await limited.poll()
    assert {key: first[key] for key in BUDGET[2:]} == {
        "history_fan_out": 0,
        "continue_as_new_recommended": False,
        "history_budget_pressure": "ok",
        "history_budget_pressure_dimensions": [],
    }
    size = first["history_size_bytes"]
    assert size > 100
    await limited.complete(first, EFFECT, EFFECT, EFFECT, EFFECT, {**TIMER, "delay_seconds": 0})
    near = await limited.poll()
    assert (near["total_history_events"], near["history_budget_pressure"]) == (8, "approaching")
    assert (near["history_budget_pressure_dimensions"], near["continue_as_new_recommended"]) == (["events"], False)
    assert near["history_size_bytes"] > size
    described = await describe(limited_server, "limits-budget")
    assert {key: described[key] for key in BUDGET} == {key: near[key] for key in BUDGET}
    await limited.complete(near, ACTIVITY, ACTIVITY)
    assert (await limited.get("/workflows/limits-budget"))["history_fan_out"] == 2


async def test_budget_hints_at_the_threshold(limited: Http) -> None:
    await limited.start(workflow_id="limits-budget-2")
    for _ in range(2):
        await limited.complete(await limited.poll(), EFFECT, EFFECT, {**TIMER, "delay_seconds": 0})
    task = await limited.poll()
    assert (task["total_history_events"], task["continue_as_new_recommended"]) == (10, True)
    assert (task["history_budget_pressure"], task["history_budget_pressure_dimensions"]) == (
        "continue_as_new_recommended",
        ["events"],
    )


STARTS: list[tuple[dict[str, Any], str, str]] = [
    ({"memo": {"note": "m" * 300}}, "memo", "300"),
    ({"search_attributes": {f"Key{number}": "v" * 40 for number in range(4)}}, "search_attributes", "200"),
]


@pytest.mark.parametrize(("fields", "key", "limit"), STARTS)
async def test_starts_are_refused(limited: Http, fields: dict[str, Any], key: str, limit: str) -> None:
    body = await limited.start(422, workflow_id=f"limits-start-{key}", **fields)
    assert (body["reason"], list(body["errors"])) == ("validation_failed", [key])
    assert limit in body["errors"][key][0]
    await limited.get(f"/workflows/limits-start-{key}", 404)


async def test_large_requests(limited: Http) -> None:
    await limited.waiting("limits-body")
    huge = "x" * 100_000
    for path in ("/workflows", "/workflows/limits-body/signal/s", "/workflows/limits-body/update/u"):
        body = await limited.post(path, 413, input=[huge])
        assert (body["reason"], body["limit"]) == ("payload_too_large", 100_000)
        assert body["control_plane"]["reason"] == "payload_too_large"
    body = await limited.post("/worker/workflow-tasks/x/complete", 413, commands=[huge])
    assert (body["reason"], body["limit"], body["protocol_version"]) == ("payload_too_large", 100_000, "1.0")


async def test_cluster_info_shows_the_limits(limited: Http) -> None:
    info = await limited.get("/cluster/info")
    assert info["structural_limits"] == {
        "pending_activity_count": 3,
        "pending_child_count": 2,
        "pending_timer_count": 2,
        "pending_signal_count": 5000,
        "pending_update_count": 500,
        "command_batch_size": 6,
        "payload_size_bytes": 400,
        "memo_size_bytes": 300,
        "search_attribute_size_bytes": 200,
        "history_transaction_size": 5,
        "warning_threshold_percent": 80,
    }
    assert (info["limits"]["max_pending_activities"], info["limits"]["max_payload_bytes"]) == (2, 100_000)


async def test_the_log_warns_of_numbers_near_their_limit(limited: Http, limited_server: ServerProcess) -> None:
    run_id = (await limited.start(workflow_id="limits-near"))["run_id"]
    await limited.complete(await limited.poll(), ACTIVITY, WAIT)
    assert f"run {run_id}" not in limited_server.log_tail(1000)
    await limited.post("/workflows/limits-near/signal/s", 202)
    await limited.complete(await limited.poll(), ACTIVITY)
    line = f"WARNING dw.actors: run {run_id} of limits-near: pending_activity_count is 2, the limit is 2"
    assert line in limited_server.log_tail(1000)
