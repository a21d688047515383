"""DELETE /api/namespaces/{name}: with everything in it, open runs included (control-plane 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from store.connections.pool import Database
from store.upkeep import namespace_removal
from tests.api.driver import Http
from tests.support.server import ServerProcess


@pytest.fixture
async def store(server: ServerProcess) -> AsyncIterator[Database]:
    database = Database(server.place.dsn)
    await database.start()
    yield database
    await database.stop()


async def lab(http: Http, name: str) -> None:
    await http.post("/namespaces", 201, name=name)
    http.client.headers["X-Namespace"] = name


async def left(store: Database, namespace: str) -> dict[str, int]:
    """Rows that are left of a namespace, by table: of every table that has such a column."""
    tables = await store.fetch(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'namespace' AND table_schema = 'public'"
        " AND table_name <> 'republishing'"
    )
    counted = {}
    for (table,) in tables:
        counted[table] = await store.fetchval(f"SELECT count(*) FROM {table} WHERE namespace = $1", namespace)
    return {table: count for table, count in counted.items() if count}


async def test_every_table_with_a_namespace_is_known(store: Database) -> None:
    """A new table with a column `namespace` is a line of `SCOPED`."""
    found = await store.fetch(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'namespace' AND table_schema = 'public'"
    )
    known = {scoped.table for scoped in namespace_removal.SCOPED}
    of_runs = {"runs", "run_status", "instances", "pruned_runs", "schedules"}
    elsewhere = {"republishing"}  # a job that is done soon
    assert {row[0] for row in found} == known | of_runs | elsewhere


async def test_everything_goes(http: Http, store: Database) -> None:
    await lab(http, "doomed")
    await http.register()
    await http.post("/search-attributes", 201, name="Customer", type="keyword")
    await http.post(f"/task-queues/{http.queue}/build-ids/drain", 200, build_id="old")
    nightly = {"spec": {"cron_expressions": ["0 3 * * *"]}, "action": {"workflow_type": "order"}}
    for schedule_id in ("nightly", "gone-before"):
        await http.post("/schedules", 201, schedule_id=schedule_id, **nightly)
    await http.call("DELETE", "/schedules/gone-before", 200)
    await http.waiting("doomed-open", {"type": "schedule_activity", "activity_type": "charge"})
    await http.waiting("doomed-chain", {"type": "continue_as_new"})
    await http.poll()
    await http.start(workflow_id="doomed-ready")
    pruned = (await http.start(workflow_id="doomed-pruned"))["run_id"]
    await http.post("/workflows/doomed-pruned/terminate", 200)
    async with asyncio.timeout(60):
        while (await http.post("/system/retention/pass", 200, run_ids=[pruned]))["pruned"] == 0:
            await asyncio.sleep(0.2)
    # a neighbour with the same things stays
    http.client.headers["X-Namespace"] = "doomed"
    kept = Http(http.client)
    await lab(kept, "neighbour")
    await kept.register()
    neighbour = await kept.waiting("neighbour-open")
    http.client.headers["X-Namespace"] = "doomed"

    body = await http.call("DELETE", "/namespaces/Doomed", 200)
    assert body == {
        "name": "doomed",
        "status": "deleted",
        "deleted": {
            "workflow_runs": 5,
            "workflow_schedules": 1,
            "search_attribute_definitions": 1,
            "workflow_worker_registrations": 1,
        },
    }
    assert await left(store, "doomed") == {}
    assert await store.fetchval("SELECT count(*) FROM schedule_events") == 0
    for table in ("history", "run_marks"):
        orphans = f"SELECT count(*) FROM {table} t WHERE NOT EXISTS (SELECT FROM runs r WHERE r.run_id = t.run_id)"
        assert await store.fetchval(orphans) == 0
    for method, path in (("GET", "/workflows"), ("GET", "/workflows/doomed-open"), ("GET", "/search-attributes")):
        assert (await http.call(method, path, 404))["reason"] == "namespace_not_found"
    assert (await http.start(404, workflow_id="doomed-new"))["reason"] == "namespace_not_found"
    assert (await http.get("/namespaces/doomed", 404))["reason"] == "namespace_not_found"
    assert (await http.call("PUT", "/namespaces/doomed", 404, {"retention_days": 3}))["reason"] == "namespace_not_found"
    assert (await http.call("DELETE", "/namespaces/doomed", 404))["reason"] == "namespace_not_found"
    assert "doomed" not in [item["name"] for item in (await http.get("/namespaces"))["namespaces"]]

    http.client.headers["X-Namespace"] = "neighbour"
    assert (await kept.get("/workflows/neighbour-open"))["run_id"] == neighbour
    # its workflow ids are free for others
    await kept.start(workflow_id="doomed-pruned")
    await kept.start(workflow_id="doomed-open")


async def test_the_name_can_be_used_again(http: Http, store: Database) -> None:
    for _ in range(2):
        await lab(http, "phoenix")
        await http.register()
        await http.waiting("phoenix-run")
        assert [item["workflow_id"] for item in (await http.get("/workflows"))["workflows"]] == ["phoenix-run"]
        await http.call("DELETE", "/namespaces/phoenix", 200)
    assert await left(store, "phoenix") == {}
    made = await http.post("/namespaces", 201, name="phoenix")
    assert (made["description"], made["retention_days"], made["status"]) == (None, 30, "active")
    assert (await http.get("/workflows"))["workflows"] == []


async def test_workers_of_a_deleted_namespace_are_turned_away(http: Http) -> None:
    await lab(http, "left-alone")
    await http.register()
    await http.waiting("left-alone-run", {"type": "schedule_activity", "activity_type": "charge"})
    task = await http.poll("activity")
    await http.call("DELETE", "/namespaces/left-alone", 200)
    body = {"lease_owner": http.worker, "activity_attempt_id": task["activity_attempt_id"], "result": 1}
    for path, sent in (
        (f"/worker/activity-tasks/{task['task_id']}/complete", body),
        ("/worker/heartbeat", {"worker_id": http.worker}),
        ("/worker/workflow-tasks/poll", {"worker_id": http.worker, "task_queue": http.queue}),
    ):
        assert (await http.post(path, 404, **sent))["reason"] == "namespace_not_found"


async def test_the_default_namespace_is_protected(http: Http, store: Database) -> None:
    refused = await http.call("DELETE", "/namespaces/default", 409)
    assert (refused["reason"], refused["namespace"]) == ("default_namespace_protected", "default")
    assert await store.fetchval("SELECT status FROM namespaces WHERE name = 'default'") == "active"


@pytest.mark.parametrize("name", ["never-made", "%00", "a%00b", "x" * 300, "%20", "ä"])
async def test_names_that_are_not_there(http: Http, store: Database, name: str) -> None:
    before = await store.fetchval("SELECT count(*) FROM namespaces")
    assert (await http.call("DELETE", f"/namespaces/{name}", 404))["reason"] in ("namespace_not_found", "not_found")
    assert await store.fetchval("SELECT count(*) FROM namespaces") == before


async def test_an_abandoned_deletion_is_taken_up(http: Http, store: Database) -> None:
    await lab(http, "abandoned")
    await http.register()
    await http.waiting("abandoned-run")
    await store.execute("UPDATE namespaces SET status = 'deleting', updated_at = 0 WHERE name = 'abandoned'")
    async with asyncio.timeout(60):
        while await left(store, "abandoned"):
            await asyncio.sleep(0.2)
        while await store.fetchval("SELECT status FROM namespaces WHERE name = 'abandoned'") != "deleted":
            await asyncio.sleep(0.2)
        # nobody can be let in any more who was before: what such a one left is removed, and the row
        await store.execute("UPDATE namespaces SET updated_at = 0 WHERE name = 'abandoned'")
        while await store.fetchval("SELECT count(*) FROM namespaces WHERE name = 'abandoned'"):
            await asyncio.sleep(0.2)


async def test_operators_may_not(http: Http, server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        response = await client.delete("/api/namespaces/default")
        assert response.status_code == 401
