"""GET /api/task-queues and /api/task-queues/{queue} (control-plane 7.2, 7.3; operations 2.1, 6.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from api.control.task_queues.shapes import age_label
from tests.api.driver import Http
from tests.support.server import ServerProcess

KIND = {"ready_count", "leased_count", "expired_lease_count", "added_last_minute", "dispatched_last_minute"}
STATS = {
    "approximate_backlog_count", "approximate_backlog_age", "approximate_backlog_age_seconds", "oldest_ready_task",
    "workflow_tasks", "activity_tasks", "pollers", "tasks_added_last_minute", "tasks_dispatched_last_minute",
}  # fmt: skip
REPAIR = {
    "candidates", "dispatch_failed", "oldest_dispatch_failed_at", "max_dispatch_failed_age_ms", "expired_leases",
    "oldest_lease_expired_at", "max_lease_expired_age_ms", "dispatch_overdue", "oldest_dispatch_overdue_since",
    "max_dispatch_overdue_age_ms", "needs_attention", "policy",
}  # fmt: skip


async def until(look: Callable[[], Awaitable[dict[str, Any]]], right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not right(found := await look()):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    return found


async def execute(server: ServerProcess, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(server.place.dsn)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def test_a_queue_nobody_knows_has_zeros(http: Http) -> None:
    found = await http.get("/task-queues/never%2Fseen")
    assert (found["name"], found["namespace"], found["pollers"], found["current_leases"]) == (
        "never/seen",
        "default",
        [],
        [],
    )
    stats, repair = found["stats"], found["repair"]
    assert set(stats) == STATS and set(stats["workflow_tasks"]) == set(stats["activity_tasks"]) == KIND
    assert not any(stats["workflow_tasks"].values()) and stats["oldest_ready_task"] is None
    assert stats["pollers"] == {"active_count": 0, "stale_count": 0, "stale_after_seconds": 60}
    assert set(repair) == REPAIR and repair["needs_attention"] is False
    assert repair["policy"] == {"redispatch_after_seconds": 3}


async def test_tasks_of_both_kinds_come_and_go(http: Http) -> None:
    run = await http.start(workflow_id="seen-1")
    await http.start(workflow_id="seen-2")
    path = f"/task-queues/{http.queue}"
    found = await http.get(path)
    oldest = found["stats"]["oldest_ready_task"]
    assert (oldest["workflow_id"], oldest["run_id"], oldest["task_type"]) == ("seen-1", run["run_id"], "workflow")
    assert found["stats"]["workflow_tasks"] == {
        "ready_count": 2, "leased_count": 0, "expired_lease_count": 0, "added_last_minute": 2, "dispatched_last_minute": 0,
    }  # fmt: skip
    assert found["stats"]["approximate_backlog_count"] == 2 and found["stats"]["approximate_backlog_age"].endswith("s")

    await http.register(max_concurrent_activity_tasks=7)
    task = await http.poll()
    found = await until(lambda: http.get(path), lambda body: body["stats"]["workflow_tasks"]["leased_count"] == 1)
    (lease,) = found["current_leases"]
    assert lease == {
        "task_id": task["task_id"], "task_type": "workflow", "workflow_id": "seen-1", "run_id": run["run_id"],
        "lease_owner": http.worker, "lease_expires_at": lease["lease_expires_at"], "is_expired": False,
        "workflow_task_attempt": 1,
    }  # fmt: skip
    assert found["pollers"][0]["max_concurrent_activity_tasks"] == 7
    assert found["stats"]["workflow_tasks"]["dispatched_last_minute"] == 1

    steps = [{"type": "schedule_activity", "activity_type": "step", "arguments": []} for _ in range(2)]
    await http.complete(task, *steps)
    running = await http.poll("activity")
    found = await until(lambda: http.get(path), lambda body: body["stats"]["activity_tasks"]["leased_count"] == 1)
    (lease,) = found["current_leases"]
    assert (lease["activity_attempt_id"], lease["attempt_number"]) == (running["activity_attempt_id"], 1)
    assert "workflow_task_attempt" not in lease
    stats = found["stats"]
    assert stats["activity_tasks"]["ready_count"] == 1 and stats["workflow_tasks"]["ready_count"] == 1
    assert (stats["tasks_added_last_minute"], stats["tasks_dispatched_last_minute"]) == (4, 2)

    listed = await http.get("/task-queues")
    names = [item["name"] for item in listed["task_queues"]]
    assert names == sorted(names) and http.queue in names
    item = listed["task_queues"][names.index(http.queue)]
    assert not {"pollers", "current_leases"} & set(item)
    assert item["stats"]["activity_tasks"] == stats["activity_tasks"] and item["namespace"] == "default"


async def test_many_leases_of_one_run_are_all_counted(http: Http) -> None:
    await http.start(workflow_id="many")
    await http.register()
    steps = [{"type": "schedule_activity", "activity_type": "step", "arguments": []} for _ in range(60)]
    await http.complete(await http.poll(), *steps)
    for _ in range(60):
        assert await http.poll("activity")
    path = f"/task-queues/{http.queue}"
    found = await until(lambda: http.get(path), lambda body: body["stats"]["activity_tasks"]["leased_count"] == 60)
    ids = [lease["task_id"] for lease in found["current_leases"]]
    assert len(ids) == 50 and ids == sorted(ids)
    await http.post("/workflows/many/terminate", 200)
    await until(lambda: http.get(path), lambda body: body["stats"]["activity_tasks"]["leased_count"] == 0)


async def test_a_note_of_another_version_of_the_run_counts_for_nothing(http: Http, server: ServerProcess) -> None:
    """A node of an older version committed since, and left the note as it was."""
    await http.start(workflow_id="older")
    await http.register()
    assert await http.poll()
    await execute(server, "UPDATE runs SET version = version + 1 WHERE workflow_id = $1", "older")
    found = await http.get(f"/task-queues/{http.queue}")
    assert found["stats"]["workflow_tasks"]["leased_count"] == 0 and found["current_leases"] == []


async def test_lost_leases_and_overdue_tasks_ask_for_attention(http: Http, server: ServerProcess) -> None:
    path = f"/task-queues/{http.queue}"
    await http.start(workflow_id="waits")
    assert (await http.get(path))["repair"]["candidates"] == 0
    await execute(server, "UPDATE ready_tasks SET available_at = available_at - 65000000 WHERE queue = $1", http.queue)
    found = await http.get(path)
    repair = found["repair"]
    assert (repair["candidates"], repair["dispatch_overdue"], repair["needs_attention"]) == (1, 1, True)
    assert repair["oldest_dispatch_overdue_since"] == found["stats"]["oldest_ready_task"]["available_at"]
    assert 65_000 <= repair["max_dispatch_overdue_age_ms"] < 120_000
    assert found["stats"]["approximate_backlog_age"].startswith("1m")


async def test_pages_go_on_by_name_and_bad_sizes_are_refused(http: Http) -> None:
    for number in range(5):
        await http.post("/worker/register", 201, worker_id=f"p-{number}", task_queue=f"paged-{number}", runtime="python")
    seen: list[str] = []
    token = ""
    while True:
        page = await http.get(f"/task-queues?page_size=2&next_page_token={token}")
        seen += [item["name"] for item in page["task_queues"]]
        if not (token := page["next_page_token"]):
            break
    assert seen == sorted(set(seen)) and {f"paged-{number}" for number in range(5)} <= set(seen)
    odd = await http.get("/task-queues?next_page_token=odd")
    assert [item["name"] for item in odd["task_queues"]][: len(seen)] == seen
    for size in ("0", "1001", "x"):
        refused = await http.get(f"/task-queues?page_size={size}", status=422)
        assert refused["reason"] == "validation_failed" and "page_size" in refused["errors"]


@pytest.mark.parametrize("path", ["/task-queues", "/task-queues/q"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_other_methods_are_refused(http: Http, path: str, method: str) -> None:
    response = await http.client.request(method, f"/api{path}", json={})
    assert response.status_code == 405 and "GET" in response.headers["allow"]


@pytest.mark.parametrize(
    ("seconds", "label"), [(0, "0s"), (45, "45s"), (185, "3m05s"), (3723, "1h02m03s"), (360_000, "100h00m00s")]
)
def test_ages_as_people_read_them(seconds: int, label: str) -> None:
    assert age_label(seconds) == label
