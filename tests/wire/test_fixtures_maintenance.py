"""The request fixtures of maintenance and of deleting a namespace: our server accepts each, both clients read the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.wire.request_fixtures import CLIENTS, RequestFixtures, fixture, says

pytestmark = pytest.mark.sdk


async def closed(desk: RequestFixtures) -> tuple[str, str]:
    """A closed workflow: its id, and its run."""
    workflow_id, task = await desk.leased()
    assert (await desk.raw.post(f"/api/workflows/{workflow_id}/terminate", json={})).status_code == 200
    return workflow_id, task["run_id"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_retention(desk: RequestFixtures, client: str) -> None:
    status, run_pass = fixture("system-retention-status"), fixture("system-retention-pass")
    _, gone = await closed(desk)
    _, task = await desk.leased()
    shown = await desk.send(status) if client == "cli" else await desk.sdk.retention_status()
    assert set(status["response_body"]) <= set(shown)
    says(shown, {name: status["semantic_body"][name] for name in ("scan_limit", "scan_pressure")})
    named = {"run_ids": [gone, task["run_id"]], "limit": run_pass["request"]["body"]["limit"]}
    for _ in range(100):  # until its events are published
        done = await desk.send(run_pass, named) if client == "cli" else await desk.sdk.retention_pass(**named)
        if done["pruned"]:
            break
        await asyncio.sleep(0.2)
    says(done, {name: run_pass["semantic_body"][name] for name in ("processed", "pruned", "skipped", "failed")})
    assert done["results"][1] == {**run_pass["response_body"]["results"][1], "run_id": task["run_id"]}
    assert set(run_pass["response_body"]["results"][0]) <= set(done["results"][0])


@pytest.mark.parametrize("client", CLIENTS)
async def test_repair(desk: RequestFixtures, client: str) -> None:
    status, run_pass = fixture("system-repair-status"), fixture("system-repair-pass")
    workflow_id, task = await desk.leased()
    shown = await desk.send(status) if client == "cli" else await desk.sdk.repair_status()
    for part in ("policy", "candidates"):
        assert set(status["response_body"][part]) <= set(shown[part])
    for scope in shown["candidates"]["scopes"]:
        assert set(status["response_body"]["candidates"]["scopes"][0]) <= set(scope)
    named: dict[str, Any] = {"run_ids": [task["run_id"], "wf-run-2"], "instance_id": workflow_id}
    done = await desk.send(run_pass, named) if client == "cli" else await desk.sdk.repair_pass(**named)
    assert set(run_pass["response_body"]) <= set(done)
    says(done, {"instance_id": workflow_id, "existing_task_failures": [], "missing_run_failures": [], "throttled": False})
    everything = await desk.send(run_pass, {}) if client == "cli" else await desk.sdk.repair_pass()
    says(everything, {"instance_id": None, "run_ids": []})


@pytest.mark.parametrize("client", CLIENTS)
async def test_activity_timeouts(desk: RequestFixtures, client: str) -> None:
    status, run_pass = fixture("system-activity-timeout-status"), fixture("system-activity-timeout-pass")
    shown = await desk.send(status) if client == "cli" else await desk.sdk.activity_timeout_status()
    assert set(shown) == set(status["response_body"])
    says(shown, {"expired_count": 0, "expired_execution_ids": [], "scan_limit": 100, "scan_pressure": False})
    named = run_pass["request"]["body"]
    done = await desk.send(run_pass, named) if client == "cli" else await desk.sdk.activity_timeout_pass(**named)
    says(done, {"processed": 2, "enforced": 0, "skipped": 2, "failed": 0})
    assert done["results"] == [
        {"execution_id": name, "outcome": "skipped", "reason": "execution_not_found"} for name in named["execution_ids"]
    ]


@pytest.mark.parametrize("client", CLIENTS)
async def test_deleting_a_namespace(desk: RequestFixtures, client: str) -> None:
    delete = fixture("namespace-delete")
    name = f"billing-gone-{client}"
    assert (await desk.raw.post("/api/namespaces", json={"name": name})).status_code == 201
    if client == "cli":
        done = await desk.send(delete, path=f"/namespaces/{name}")
        assert sorted(done["deleted"]) == sorted(delete["semantic_body"]["deleted_keys"])
    else:
        done = vars(await desk.sdk.delete_namespace(name))
    says(done, {"name": name, "status": delete["semantic_body"]["status"]})
