"""JSON metrics of a namespace (control-plane 12.1 and 12.2, operations 7): what is counted, and that their size has a bound."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.run.views.census import Failing
from api.system.metrics.bounded import consecutive_failures
from tests.api.conftest import CONTROL, Api
from tests.api.driver import Http
from tests.support.defaults import make_auth, make_settings

GROUPS = {
    "generated_at", "schedules", "runs",
    "tasks", "activities", "backlog", "repair", "starts", "history", "command_contracts", "projections",
    "workers", "backend", "structural_limits", "update_wait", "repair_policy", "matching_role", "census",
}  # fmt: skip
ACTIVITY = {"type": "schedule_activity", "activity_type": "pack"}


async def lab(http: Http, name: str) -> None:
    """From here on the client works in a namespace of its own."""
    await http.post("/namespaces", 201, name=name)
    http.client.headers["X-Namespace"] = name


async def operator(http: Http) -> dict[str, Any]:
    body = await http.get("/system/operator-metrics")
    assert set(body) == {"namespace", "operator_metrics"}
    metrics: dict[str, Any] = body["operator_metrics"]
    return metrics


async def test_every_state_of_runs_tasks_and_activities_is_counted(http: Http) -> None:
    await lab(http, "counting")
    await http.register(build_id="b1", process_metrics={"host": "a", "process_id": 7})
    await http.closed("done")
    await http.waiting("goes-on", {"type": "continue_as_new"})  # its first run is not current
    await http.complete(await http.poll(), {"type": "open_condition_wait", "condition_key": "go"})
    await http.waiting("stopped")
    await http.post("/workflows/stopped/terminate", 200)
    await http.waiting("withdrawn")
    await http.post("/workflows/withdrawn/cancel", 200)
    await http.waiting("broken", {"type": "fail_workflow", "message": "no"})
    await http.waiting("waits")
    await http.waiting("works", ACTIVITY, {**ACTIVITY, "activity_type": "ship"})
    assert await http.poll("activity") is not None
    await http.start(workflow_id="fresh")
    await http.start(workflow_id="claimed")
    assert (await http.poll())["workflow_id"] == "fresh"
    await http.post("/workflows/done/archive", 200)
    spec = {"spec": {"cron_expressions": ["0 3 1 1 *"]}, "action": {"workflow_type": "order", "task_queue": "nobody"}}
    for schedule_id, paused in (("a", False), ("b", True), ("c", False)):
        await http.post("/schedules", 201, schedule_id=schedule_id, paused=paused, **spec)
    await http.call("DELETE", "/schedules/c", 200)
    found = await operator(http)
    assert set(found) == GROUPS
    schedules = found["schedules"]
    assert (schedules["active"], schedules["paused"], schedules["missed"], schedules["fires_total"]) == (1, 1, 0, 0)
    assert found["runs"]["archived"] == 1
    assert found["backlog"]["tasks_added_last_minute"] >= 10 and found["backlog"]["tasks_dispatched_last_minute"] >= 10
    runs = found["runs"]
    counted = ("total", "current", "running", "completed", "failed", "cancelled", "terminated", "waiting", "repair_needed")
    assert [runs[name] for name in counted] == [10, 9, 5, 2, 1, 1, 1, 3, 0]
    tasks = found["tasks"]
    assert (tasks["open"], tasks["ready"], tasks["ready_due"], tasks["delayed"], tasks["leased"]) == (4, 2, 2, 0, 2)
    assert found["activities"]["open"] == 2 and found["activities"]["running"] == 1
    assert found["starts"]["pending_runs"] == 2 and found["starts"]["ready_tasks"] == 1
    assert found["starts"]["max_pending_ms"] > 0 and found["starts"]["oldest_pending_start_at"].endswith("Z")
    assert found["backlog"]["runnable_tasks"] == 2 and found["backlog"]["leased_tasks"] == 2
    workers = found["workers"]
    assert (workers["active_workers"], workers["fleet"][0]["host"], workers["fleet"][0]["process_id"]) == (1, "a", 7)
    assert found["backend"]["severity"] == "ok"
    assert found["census"] == {"open_runs": 5, "open_run_limit": 20_000, "open_run_limit_reached": False}


async def test_failing_workflow_tasks_are_told_by_type(http: Http) -> None:
    await lab(http, "failing")
    await http.register()
    await http.start(workflow_type="fragile", workflow_id="f")
    task = await http.poll()
    failure = {"message": "cannot replay", "type": "NonDeterminismError"}
    await http.post(
        f"/worker/workflow-tasks/{task['task_id']}/fail",
        200,
        lease_owner=http.worker,
        workflow_task_attempt=task["workflow_task_attempt"],
        failure=failure,
    )
    body = await http.get("/system/metrics")
    found = body["metrics"]["dw_workflow_task_consecutive_failures"]
    assert found["by_workflow_type"] == [{"workflow_type": "fragile", "max_consecutive_failures": 1, "failed_task_count": 1}]
    assert (found["max_consecutive_failures"], found["failed_task_count"], found["workflow_type_limit"]) == (1, 1, 20)
    drift = body["metrics"]["dw_projection_drift_total"]
    assert (drift["total"], drift["table_count"], len(drift["by_table"])) == (0, 5, 5)
    labels = body["cardinality"]["metric_label_sets"]
    assert labels["dw_projection_drift_total"] == drift["label_cardinality_policy"]
    assert (await operator(http))["runs"]["repair_needed"] == 0


async def test_a_namespace_without_anything(http: Http) -> None:
    await lab(http, "nothing")
    found = await operator(http)
    assert found["runs"]["total"] == 0
    for group in found.values():
        if isinstance(group, dict):
            assert all(value is None for name, value in group.items() if name.startswith("oldest_"))
            assert all(value == 0 for name, value in group.items() if name.startswith("max_") and name.endswith("_ms"))


def test_types_beyond_the_limit_are_only_totals() -> None:
    failing = {f"t{number:03}": Failing(tasks=1, most=number % 7) for number in range(300)}
    found = consecutive_failures(failing, 3)
    assert [entry["workflow_type"] for entry in found["by_workflow_type"]] == ["t006", "t013", "t020"]
    assert found["workflow_types_truncated"] is True
    assert (found["suppressed_workflow_type_count"], found["suppressed_failed_task_count"]) == (297, 297)
    assert (found["workflow_type_count"], found["failed_task_count"], found["max_consecutive_failures"]) == (300, 300, 6)


async def test_open_runs_beyond_the_limit_are_left_out_and_that_is_said(http: Http) -> None:
    await lab(http, "many")
    await asyncio.gather(*(http.start(workflow_id=f"m-{number}") for number in range(230)))
    found = await operator(http)
    assert (found["census"]["open_runs"], found["starts"]["pending_runs"]) == (230, 230), "pages follow each other"


async def test_only_administrators_may_ask(api: Api) -> None:
    tokens = {"worker": "w", "operator": "o", "admin": "a"}
    async with api(make_settings(auth=make_auth(driver="token", tokens=tokens)), CONTROL) as client:
        for path in ("/api/system/metrics", "/api/system/operator-metrics"):
            for role in ("worker", "operator"):
                response = await client.get(path, headers={"Authorization": f"Bearer {tokens[role]}"})
                assert response.status_code == 403 and response.json()["allowed_roles"] == ["admin"], (path, role)
            posted = await client.post(path, headers={"Authorization": "Bearer a"})
            assert posted.status_code == 405 and posted.headers["allow"] == "GET, HEAD"
