"""Repair and activity timeouts by hand (control-plane 12.3, 12.4; operations 6.1, 6.2).

What a pass finds is made by changing stored runs behind the back of the node, whose deadlines leave nothing to find.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from actors.run.state import RunState, decode, encode
from store import runs
from store.connections.pool import Database
from tests.api.conftest import Api
from tests.api.driver import Http
from tests.support.defaults import make_auth, make_settings
from tests.support.server import ServerProcess

REPAIR, REPAIR_PASS = "/system/repair", "/system/repair/pass"
TIMEOUTS, TIMEOUT_PASS = "/system/activity-timeouts", "/system/activity-timeouts/pass"
ACTIVITY = {"type": "schedule_activity", "activity_type": "charge", "start_to_close_timeout": 600}


@pytest.fixture
async def store(server: ServerProcess) -> AsyncIterator[Database]:
    database = Database(server.place.dsn)
    await database.start()
    yield database
    await database.stop()


async def alter(store: Database, run_id: str, change: Callable[[RunState], object]) -> RunState:
    """Change a stored run without anybody being told; no deadline of it is awaited any more."""
    stored = await runs.load(store, run_id)
    assert stored is not None
    state = decode(stored.row.state)
    change(state)
    await store.execute(
        "UPDATE runs SET state = $2, version = version + 1, wake_at = NULL WHERE run_id = $1", run_id, encode(state)
    )
    await store.execute("UPDATE run_marks SET wake_at = NULL WHERE run_id = $1", run_id)
    return state


def overdue(state: RunState) -> str:
    """The activity of a run should have ended long ago."""
    (activity,) = state.activities.values()
    activity.start_to_close_at = activity.deadline = activity.started_at - 1
    return activity.execution_id


async def running(http: Http, workflow_id: str, **fields: Any) -> tuple[str, str]:
    """A run with an activity that a worker has: run id and execution id."""
    await http.register()
    run_id = await http.waiting(workflow_id, {**ACTIVITY, **fields})
    task = await http.poll("activity")
    return run_id, task["activity_execution_id"] if "activity_execution_id" in task else task["execution_id"]


async def test_timeouts_are_enforced_by_name(http: Http, store: Database) -> None:
    run_id, last = await running(http, "times-out")
    retried_run, retried = await running(http, "times-out-again", retry_policy={"max_attempts": 3})
    body = await http.post(TIMEOUT_PASS, 200, execution_ids=[last])
    assert body == {
        "processed": 1,
        "enforced": 0,
        "skipped": 1,
        "failed": 0,
        "results": [{"execution_id": last, "outcome": "skipped", "reason": "no_deadline_expired"}],
    }
    assert overdue(await alter(store, run_id, overdue)) == last
    await alter(store, retried_run, overdue)
    body = await http.post(TIMEOUT_PASS, 200, execution_ids=[last, retried, run_id, "nobody", last])
    assert body["results"] == [
        {"execution_id": last, "outcome": "enforced", "has_retry": False},
        {"execution_id": retried, "outcome": "enforced", "has_retry": True},
        {"execution_id": run_id, "outcome": "skipped", "reason": "execution_not_found"},
        {"execution_id": "nobody", "outcome": "skipped", "reason": "execution_not_found"},
    ]
    assert (body["processed"], body["enforced"], body["skipped"], body["failed"]) == (4, 2, 2, 0)
    assert "ActivityTimedOut" in await http.types("times-out", run_id)
    assert "ActivityRetryScheduled" in await http.types("times-out-again", retried_run)
    again = await http.post(TIMEOUT_PASS, 200, execution_ids=[last, retried])
    assert [result["reason"] for result in again["results"]] == ["execution_already_terminal", "no_deadline_expired"]
    await http.post("/workflows/times-out/terminate", 200)
    again = await http.post(TIMEOUT_PASS, 200, execution_ids=[last])
    assert [result["reason"] for result in again["results"]] == ["run_already_terminal"]
    assert (await http.post(TIMEOUT_PASS, 200))["results"] == []
    # of another namespace
    await http.post("/namespaces", 201, name="elsewhere")
    body = await http.call("POST", TIMEOUT_PASS, 200, {"execution_ids": [retried]}, **{"X-Namespace": "elsewhere"})
    assert body["results"][0]["reason"] == "execution_not_found"


async def test_timeouts_that_have_passed_are_listed(http: Http, store: Database, api: Api, db: Database) -> None:
    """In a database that no node looks after."""
    run_id, execution = await running(http, "listed-timeout")
    state = await alter(store, run_id, overdue)
    await copied(store, db, run_id, state, wake_at=1)
    headers = {"X-Durable-Workflow-Control-Plane-Version": "2", "Authorization": "Bearer dev-token"}
    async with api(make_settings(auth=make_auth(legacy_token="dev-token")), headers=headers) as client:
        listed = (await client.get("/api/system/activity-timeouts")).json()
        assert listed == {
            "expired_count": 1,
            "expired_execution_ids": [execution],
            "scan_limit": 100,
            "scan_pressure": False,
        }, listed
        listed = (await client.get("/api/system/activity-timeouts?limit=1")).json()
        assert (listed["scan_limit"], listed["scan_pressure"]) == (1, True)
        found = (await client.get("/api/system/repair")).json()["candidates"]
        assert (found["existing_task_candidates"], found["missing_task_candidates"]) == (0, 0)


async def copied(source: Database, target: Database, run_id: str, state: RunState, *, wake_at: int) -> None:
    row = await source.fetchrow("SELECT * FROM runs WHERE run_id = $1", run_id)
    assert row is not None
    names = list(row.keys())  # type: ignore[attr-defined]
    values = [row[name] for name in names]
    places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    await target.execute(f"INSERT INTO runs ({', '.join(names)}) VALUES ({places})", *values)
    shard = await source.fetchval("SELECT shard FROM runs WHERE run_id = $1", run_id)
    await target.execute("INSERT INTO run_marks VALUES ($1, $2, $3, false)", run_id, shard, wake_at)
    assert state.run_id == run_id


async def test_waiting_tasks_are_candidates(http: Http) -> None:
    empty = await http.get(REPAIR)
    assert empty["policy"]["scan_limit"] == 25
    await http.start(workflow_id="nobody-comes", priority=3)
    async with asyncio.timeout(60):
        while True:
            found = (await http.get(REPAIR))["candidates"]
            mine = [scope for scope in found["scopes"] if scope["queue"] == http.queue]
            if mine:
                break
            await asyncio.sleep(0.3)
    assert (mine[0]["scope_key"], mine[0]["existing_task_candidates"]) == (f"default:{http.queue}:any", 1)
    assert mine[0]["max_task_candidate_age_ms"] >= 3000
    assert found["total_candidates"] == found["existing_task_candidates"] + found["missing_task_candidates"]
    report = await http.post(REPAIR_PASS, 200, instance_id="nobody-comes")
    assert (report["selected_existing_task_candidates"], report["repaired_existing_tasks"]) == (1, 1)
    assert (report["dispatched_tasks"], report["existing_task_failures"], report["throttled"]) == (1, [], False)
    assert (report["instance_id"], report["run_ids"], report["queue"]) == ("nobody-comes", [], None)
    await http.register()
    await http.complete(await http.poll(), {"type": "complete_workflow"})
    report = await http.post(REPAIR_PASS, 200, instance_id="nobody-comes")
    assert report["selected_total_candidates"] == 0
    report = await http.post(REPAIR_PASS, 200, run_ids=["nobody"], instance_id="never")
    assert report["selected_total_candidates"] == 0


async def test_a_run_that_nothing_can_wake_gets_its_next_task(http: Http, store: Database) -> None:
    await http.register()
    run_id = await http.waiting("stuck")

    def stick(state: RunState) -> None:
        state.wait = None

    await alter(store, run_id, stick)
    found = (await http.get(REPAIR))["candidates"]
    assert found["missing_task_candidates"] >= 1 and found["oldest_missing_run_started_at"] is not None
    report = await http.post(REPAIR_PASS, 200, run_ids=[run_id])
    assert (report["selected_missing_task_candidates"], report["repaired_missing_tasks"]) == (1, 1)
    assert (report["dispatched_tasks"], report["missing_run_failures"]) == (1, [])
    assert (await http.poll())["run_id"] == run_id


async def test_an_expired_lease_is_taken_back(http: Http, store: Database) -> None:
    await http.register()
    run_id = (await http.start(workflow_id="lease-lost"))["run_id"]
    first = await http.poll()

    def expire(state: RunState) -> None:
        assert state.task is not None
        state.task.lease_expires_at = 1

    await alter(store, run_id, expire)
    debug = await http.get("/workflows/lease-lost/debug")
    assert "task_problem" in [finding["code"] for finding in debug["findings"]]
    report = await http.post(REPAIR_PASS, 200, run_ids=[run_id])
    assert (report["selected_existing_task_candidates"], report["repaired_existing_tasks"]) == (1, 1)
    async with asyncio.timeout(60):
        while (again := await http.poll()) is None:
            pass
    assert (again["task_id"], again["workflow_task_attempt"]) == (first["task_id"], 2)


LIMITS: list[Any] = [0, -1, "many", [], {}, True, 1.5]
NAMES: list[Any] = [7, [], {}, True, "x" * 300, "a\0b"]
LISTS: list[Any] = ["one", {}, 7, True, ["x"] * 101, [" "]]
ITEMS: list[Any] = [7, None, [], {}, True, "x" * 129, "a\0b"]
BAD_IDS: list[tuple[Any, str]] = [*((value, "") for value in LISTS), *((["fine", value], ".1") for value in ITEMS)]
BAD: list[tuple[str, dict[str, Any], str]] = [
    *((TIMEOUT_PASS, {"limit": value}, "limit") for value in LIMITS),
    *((TIMEOUT_PASS, {"execution_ids": value}, f"execution_ids{place}") for value, place in BAD_IDS),
    *((REPAIR_PASS, {"run_ids": value}, f"run_ids{place}") for value, place in BAD_IDS),
    *((REPAIR_PASS, {"instance_id": value}, "instance_id") for value in NAMES),
]


@pytest.mark.parametrize(("path", "body", "field"), BAD)
async def test_bad_passes_are_refused(http: Http, path: str, body: dict[str, Any], field: str) -> None:
    refused = await http.call("POST", path, 422, body)
    assert (refused["reason"], list(refused["errors"])) == ("validation_failed", [field])


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5"])
async def test_bad_limits_of_the_status(http: Http, limit: str) -> None:
    assert list((await http.get(f"{TIMEOUTS}?limit={limit}", 422))["errors"]) == ["limit"]


async def test_other_methods(http: Http) -> None:
    for method, path in (("POST", REPAIR), ("GET", REPAIR_PASS), ("PUT", TIMEOUTS), ("GET", TIMEOUT_PASS)):
        await http.call(method, path, 405)
