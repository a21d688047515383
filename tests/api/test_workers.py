"""Worker registrations: register, heartbeat, fingerprint rule, list, describe, delete."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from actors.workers.registry import WorkerRegistry
from api.http.times import now_micros
from store import workers
from store.connections.pool import Database
from tests.api.conftest import CONTROL, WORKER, Api
from tests.support.defaults import STALE_AFTER_SECONDS, make_auth, make_settings

OPEN = make_settings(auth=make_auth(driver="none"))
HEADERS = {**CONTROL, **WORKER}

MINIMAL: dict[str, Any] = {"worker_id": "van-1", "task_queue": "parcels", "runtime": "python"}


async def register(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/api/worker/register", json={**MINIMAL, **fields})


async def test_register_list_describe_delete(api: Api) -> None:
    async with api(OPEN, HEADERS) as client:
        response = await register(
            client,
            sdk_version="durable-workflow-python/0.4.84",
            supported_workflow_types=["parcels.deliver", " ", " x "],
            max_concurrent_workflow_tasks=10,
            task_slots={"workflow_available": 99, "activity_available": -3},
            process_metrics={"cpu_percent": 1.5, "host": "a"},
            workflow_definition_fingerprints={"parcels.deliver": " sha ", "": "x", "y": " "},
            unknown_field=1,
        )
        body = response.json()
        assert response.status_code == 201
        assert (body["worker_id"], body["registered"], body["status"]) == ("van-1", True, "active")
        assert (body["heartbeat_interval_seconds"], body["stale_after_seconds"]) == (20, 60)
        assert body["protocol_version"] == "1.0"
        item = (await client.get("/api/workers/van-1")).json()
        assert item["supported_workflow_types"] == ["parcels.deliver", "x"]
        assert item["supported_activity_types"] == []
        assert item["workflow_definition_fingerprints"] == {"parcels.deliver": "sha"}
        assert item["task_slots"] == {"workflow_available": 10, "activity_available": 0, "session_available": None}
        assert item["process_metrics"] == {"cpu_percent": 1.5, "host": "a"}
        assert (item["max_concurrent_workflow_tasks"], item["max_concurrent_activity_tasks"]) == (10, 100)
        assert item["status"] == "active"
        assert item["registered_at"].endswith("Z")
        listed = (await client.get("/api/workers")).json()
        assert (listed["namespace"], listed["stale_after_seconds"], listed["workers"]) == ("default", 60, [item])
        for query, count in (("task_queue=parcels", 1), ("task_queue=x", 0), ("status=active", 1), ("status=odd", 0)):
            assert len((await client.get(f"/api/workers?{query}")).json()["workers"]) == count
        fleet = (await client.get("/api/cluster/info")).json()["worker_fleet"]
        assert (fleet["active_workers"], fleet["queues"], fleet["workers"][0]["worker_id"]) == (1, ["parcels"], "van-1")
        deleted = await client.delete("/api/workers/van-1")
        assert deleted.json() == {"worker_id": "van-1", "outcome": "deregistered"}
        for response in (await client.delete("/api/workers/van-1"), await client.get("/api/workers/van-1")):
            assert (response.status_code, response.json()["reason"]) == (404, "worker_not_found")
            assert response.json()["message"] == "Worker [van-1] not found in namespace [default]."


async def test_names_with_slashes_and_generated_ids(api: Api) -> None:
    async with api(OPEN, HEADERS) as client:
        assert (await register(client, worker_id="host/1 a")).status_code == 201
        assert (await client.get("/api/workers/host%2F1%20a")).json()["worker_id"] == "host/1 a"
        generated = (await register(client, worker_id=None)).json()["worker_id"]
        assert len(generated) == 26
        assert generated == generated.upper()


async def test_absent_and_empty_type_lists_are_kept_apart(api: Api, db: Database) -> None:
    async with api(OPEN, HEADERS) as client:
        cases: list[tuple[dict[str, Any], frozenset[str] | None, frozenset[str] | None]] = [
            ({}, None, None),
            ({"supported_workflow_types": [], "supported_activity_types": []}, None, None),
            ({"supported_workflow_types": ["a"]}, frozenset({"a"}), None),
            ({"supported_workflow_types": ["a"], "supported_activity_types": []}, frozenset({"a"}), frozenset()),
            ({"supported_workflow_types": [], "supported_activity_types": ["b"]}, frozenset(), frozenset({"b"})),
            ({"supported_workflow_types": [], "supported_activity_types": None}, None, None),
        ]
        for fields, workflow_types, activity_types in cases:
            assert (await register(client, **fields)).status_code == 201
            registration = await WorkerRegistry(db, STALE_AFTER_SECONDS).get("default", "van-1")
            assert registration is not None
            assert registration.workflow_profile.types == workflow_types, fields
            assert registration.activity_profile.types == activity_types, fields


@pytest.mark.parametrize(
    ("runtime", "sdk", "dialect"),
    [
        ("python", "durable-workflow-python/0.4.84", "0.4"),
        ("python", "durable-workflow-python/2.12.0", ""),
        ("php", "durable-workflow-python/0.4.84", ""),
        ("python", None, ""),
    ],
)
async def test_dialect(api: Api, db: Database, runtime: str, sdk: str | None, dialect: str) -> None:
    async with api(OPEN, HEADERS) as client:
        await register(client, runtime=runtime, sdk_version=sdk)
        registration = await WorkerRegistry(db, STALE_AFTER_SECONDS).get("default", "van-1")
        assert registration is not None
        assert registration.workflow_profile.dialect == dialect


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"task_queue": None}, "task_queue"),
        ({"task_queue": " "}, "task_queue"),
        ({"task_queue": "x" * 256}, "task_queue"),
        ({"runtime": None}, "runtime"),
        ({"runtime": "cobol"}, "runtime"),
        ({"worker_id": 5}, "worker_id"),
        ({"worker_id": "x" * 256}, "worker_id"),
        ({"worker_id": "a\0b"}, "worker_id"),
        ({"sdk_version": "x" * 65}, "sdk_version"),
        ({"supported_workflow_types": "a"}, "supported_workflow_types"),
        ({"supported_activity_types": ["a", 2]}, "supported_activity_types.1"),
        ({"max_concurrent_workflow_tasks": 0}, "max_concurrent_workflow_tasks"),
        ({"max_concurrent_activity_tasks": True}, "max_concurrent_activity_tasks"),
        ({"max_concurrent_activity_tasks": 2**40}, "max_concurrent_activity_tasks"),
        ({"workflow_definition_fingerprints": {"a": 1}}, "workflow_definition_fingerprints.a"),
        ({"workflow_definition_fingerprints": {"a": "x" * 256}}, "workflow_definition_fingerprints.a"),
        ({"task_slots": [1]}, "task_slots"),
        ({"task_slots": {"workflow_available": "many"}}, "task_slots.workflow_available"),
        ({"process_metrics": 3}, "process_metrics"),
        ({"process_metrics": {"host": "nul\x00"}}, "process_metrics"),
        ({"heartbeat_interval_seconds": "soon"}, "heartbeat_interval_seconds"),
    ],
)
async def test_bad_registrations_store_nothing(api: Api, db: Database, fields: dict[str, Any], field: str) -> None:
    async with api(OPEN, HEADERS) as client:
        response = await register(client, **fields)
        body = response.json()
        assert (response.status_code, body["reason"]) == (422, "validation_failed"), body
        assert list(body["errors"]) == [field]
        assert body["validation_errors"] == body["errors"]
        assert "server_capabilities" in body
        assert await db.fetchval("SELECT count(*) FROM workers") == 0


async def test_fingerprint_rule(api: Api, db: Database) -> None:
    async with api(OPEN, HEADERS) as client:

        async def stored() -> dict[str, str]:
            item = (await client.get("/api/workers/van-1")).json()
            return dict(item["workflow_definition_fingerprints"])

        await register(client, supported_workflow_types=["a", "b", "c"], workflow_definition_fingerprints={"a": "1", "b": "1"})
        changed = await register(client, task_queue="other", workflow_definition_fingerprints={"b": "2", "a": "2"})
        body = changed.json()
        assert (changed.status_code, body["reason"], body["workflow_type"]) == (409, "workflow_definition_changed", "a")
        assert body["error"]
        assert body["remediation"]
        assert (await client.get("/api/workers/van-1")).json()["task_queue"] == "parcels"
        # Kept for types still advertised, dropped for the others; an absent list keeps all.
        await register(client, supported_workflow_types=["a", "c"], workflow_definition_fingerprints={"c": "1"})
        assert await stored() == {"a": "1", "c": "1"}
        await register(client)
        assert await stored() == {"a": "1", "c": "1"}
        # A stale registration is replaced whole.
        await db.execute("UPDATE workers SET last_heartbeat_at = $1", now_micros() - 61_000_000)
        assert (await client.get("/api/workers/van-1")).json()["status"] == "stale"
        assert (await register(client, workflow_definition_fingerprints={"a": "2"})).status_code == 201
        assert await stored() == {"a": "2"}


async def test_registering_again_keeps_the_first_registration_time(api: Api) -> None:
    async with api(OPEN, HEADERS) as client:
        await register(client)
        first = (await client.get("/api/workers/van-1")).json()
        await register(client, task_queue="other", runtime="go")
        second = (await client.get("/api/workers/van-1")).json()
        assert (second["task_queue"], second["runtime"]) == ("other", "go")
        assert second["registered_at"] == first["registered_at"]
        assert second["updated_at"] > first["updated_at"]


async def test_heartbeat(api: Api) -> None:
    async with api(OPEN, HEADERS) as client:
        unknown = await client.post("/api/worker/heartbeat", json={"worker_id": "van-1"})
        assert (unknown.status_code, unknown.json()["reason"]) == (404, "worker_not_registered")
        assert unknown.json()["worker_id"] == "van-1"
        assert (await client.post("/api/worker/heartbeat", json={})).status_code == 422
        bad = await client.post("/api/worker/heartbeat", json={"worker_id": "van-1", "task_slots": 4})
        assert (bad.status_code, list(bad.json()["errors"])) == (422, ["task_slots"])
        await register(client, max_concurrent_activity_tasks=5, process_metrics={"process_id": 7})
        before = (await client.get("/api/workers/van-1")).json()
        response = await client.post(
            "/api/worker/heartbeat",
            json={"worker_id": "van-1", "task_slots": {"activity_available": 9}, "heartbeat_interval_seconds": 7},
        )
        body = response.json()
        assert response.status_code == 200
        assert (body["acknowledged"], body["heartbeat_interval_seconds"]) == (True, 7)
        assert body["retention"] == {"throttled": False, "processed": 0, "pruned": 0, "skipped": 0, "failed": 0}
        after = (await client.get("/api/workers/van-1")).json()
        assert after["last_heartbeat_at"] > before["last_heartbeat_at"]
        assert after["task_slots"]["activity_available"] == 5
        assert after["process_metrics"] == {"process_id": 7}


async def test_workers_of_other_namespaces_are_invisible(api: Api) -> None:
    async with api(OPEN, HEADERS) as client:
        await client.post("/api/namespaces", json={"name": "lab"})
        await register(client)
        lab = {"X-Namespace": "lab"}
        assert (await client.get("/api/workers", headers=lab)).json()["workers"] == []
        assert (await client.get("/api/workers/van-1", headers=lab)).status_code == 404
        assert (await client.post("/api/worker/heartbeat", json={"worker_id": "van-1"}, headers=lab)).status_code == 404
        assert (await client.delete("/api/workers/van-1", headers=lab)).status_code == 404


async def test_a_contact_noted_by_a_clock_far_ahead_counts_for_nothing(api: Api, db: Database) -> None:
    async with api(OPEN, HEADERS) as client:

        async def status() -> str:
            return str((await client.get("/api/workers/van-1")).json()["status"])

        await register(client)
        assert await status() == "active"
        await db.execute("UPDATE workers SET last_heartbeat_at = $1", now_micros() + 3_600_000_000)
        assert await status() == "stale"
        assert (await client.post("/api/worker/heartbeat", json={"worker_id": "van-1"})).status_code == 200
        assert await status() == "active"
        assert await db.fetchval("SELECT last_heartbeat_at FROM workers") < now_micros()


async def test_poll_contacts_reach_the_store(db: Database) -> None:
    now = now_micros() - 100_000_000
    worker = workers.Worker(
        "default", "w", "q", "go", None, None, None, {}, None, 1, 1, [], None, None, None, "active", now, now, now
    )
    await workers.upsert(db, worker)
    registry = WorkerRegistry(db, STALE_AFTER_SECONDS)
    await registry.start()
    registry.contact("default", "w")
    registry.contact("default", "nobody")
    await registry.stop()
    stored = await workers.get(db, "default", "w")
    assert stored is not None
    assert stored.last_heartbeat_at > now + 90_000_000
