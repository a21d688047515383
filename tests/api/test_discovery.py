"""Health, readiness, cluster info, namespaces."""

from __future__ import annotations

import re
from typing import Any

import pytest
from durable_workflow import Client, Worker, workflow

from api.system.manifests import fixture_digest, manifest
from store.connections.pool import Database
from tests.api.conftest import CONTROL, WORKER, Api
from tests.support.defaults import make_auth, make_settings

OPEN = make_settings(auth=make_auth(driver="none"), server_id="dw-a")
TOKENS = make_settings(auth=make_auth(tokens={"worker": "w", "operator": "o", "admin": "a"}))

NO_VERSION_HEADERS = ("x-durable-workflow-control-plane-version", "x-durable-workflow-protocol-version")


async def test_health_and_ready_need_nothing(api: Api) -> None:
    async with api(TOKENS) as client:
        health = await client.get("/api/health", headers={"X-Namespace": "nowhere"})
        assert health.status_code == 200
        body = health.json()
        assert (body["status"], body["checks"]) == ("serving", {"database": "ok"})
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])
        assert health.headers["cache-control"] == "no-cache, private"
        ready = await client.get("/api/ready")
        assert ready.status_code == 200, ready.text
        assert ready.json()["checks"] == {
            "database": {"status": "ok"},
            "migrations": {"status": "ok"},
            "default_namespace": {"status": "ok", "namespace": "default"},
            "cache": {"status": "ok", "store": "nats"},
            "auth": {"status": "ok", "driver": "token"},
        }
        for response in (health, ready):
            assert not any(name in response.headers for name in NO_VERSION_HEADERS)


async def test_ready_says_what_is_missing(api: Api, db: Database) -> None:
    await db.execute("DELETE FROM namespaces")
    await db.execute("DROP TABLE mailbox")
    async with api(make_settings()) as client:
        response = await client.get("/api/ready")
        checks = response.json()["checks"]
        assert (response.status_code, response.json()["status"]) == (503, "not_ready")
        assert checks["default_namespace"]["status"] == "missing"
        assert "server-bootstrap" in checks["default_namespace"]["remediation"]
        assert checks["migrations"]["missing_tables"] == ["mailbox"]
        assert (checks["auth"]["status"], checks["database"]["status"]) == ("missing", "ok")


async def test_cluster_info(api: Api) -> None:
    async with api(OPEN) as client:
        response = await client.get("/api/cluster/info", headers={"X-Namespace": "nowhere"})
        info = response.json()
        assert response.status_code == 200
        assert not any(name in response.headers for name in NO_VERSION_HEADERS)
        assert info["server_id"] == "dw-a"
        assert info["control_plane"]["version"] == "2"
        assert len(info["control_plane"]["response_contract"]["projected_fields"]) == 37
        assert len(info["control_plane"]["response_contract"]["operations"]) == 14
        assert info["worker_protocol"]["version"] == "1.1"
        assert info["worker_protocol"]["external_executor_config_contract"]["runtime"]["status"] == "not_configured"
        assert info["auth_composition_contract"] == manifest("auth_composition_contract")
        assert info["worker_fleet"]["workers"] == []
        commands = info["worker_protocol"]["server_capabilities"]["supported_workflow_task_commands"]
        assert commands == [
            "complete_workflow",
            "fail_workflow",
            "continue_as_new",
            "schedule_activity",
            "start_timer",
            "start_child_workflow",
            "complete_update",
            "fail_update",
            "record_side_effect",
            "record_version_marker",
            "upsert_search_attributes",
            "open_condition_wait",
        ]
        assert info["worker_protocol"]["server_capabilities"]["query_tasks"] is True
        assert info["capabilities"]["payload_codecs"] == ["avro"]
        assert "package_provenance" not in info
        for path, document in info["client_compatibility"]["required_protocols"]["worker_protocol"].items():
            if isinstance(document, dict):
                published = info["worker_protocol"][path]
                assert document == {"schema": published["schema"], "version": published["version"]}


async def test_cluster_info_is_for_every_role_and_its_errors_are_of_the_control_plane(api: Api) -> None:
    async with api(TOKENS) as client:
        for token in ("w", "o", "a"):
            response = await client.get("/api/cluster/info", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == 200
        response = await client.get("/api/cluster/info")
        assert response.status_code == 401
        assert response.headers["x-durable-workflow-control-plane-version"] == "2"


@workflow.defn(name="greet")
class Greet:
    """Exists to be registered."""

    def run(self, ctx: Any) -> Any:
        return None


async def test_the_published_worker_starts_against_this_server(api: Api, db: Database) -> None:
    async with api(OPEN) as http, Client(str(http.base_url)) as client:
        worker = Worker(client, task_queue="q", workflows=[Greet], activities=[], worker_id="w-1")
        await worker._register()
        listed = (await http.get("/api/workers", headers=CONTROL)).json()["workers"]
        assert [item["worker_id"] for item in listed] == ["w-1"]
        assert listed[0]["supported_workflow_types"] == ["greet"]
        assert listed[0]["sdk_version"].startswith("durable-workflow-python/0.4")
        stored = await db.fetchrow("SELECT supported_activity_types, capabilities FROM workers")
        assert stored is not None
        assert tuple(stored) == ([], ["query_tasks"])


@pytest.mark.parametrize("name", ["external_task_input_contract", "external_task_result_contract"])
def test_fixture_digests(name: str) -> None:
    for fixture in manifest(name)["fixtures"].values():
        assert fixture["sha256"] == fixture_digest(fixture["example"])


async def test_namespaces(api: Api) -> None:
    async with api(OPEN, CONTROL) as client:
        created = await client.post(
            "/api/namespaces", json={"name": "Lab", "description": " Trial area ", "retention_days": "14"}
        )
        assert created.status_code == 201, created.text
        lab = created.json()
        assert (lab["name"], lab["description"], lab["retention_days"], lab["status"]) == ("lab", "Trial area", 14, "active")
        assert lab["external_payload_storage"] is None
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", lab["created_at"])
        again = await client.post("/api/namespaces", json={"name": "LAB"})
        assert (again.status_code, again.json()["reason"]) == (409, "namespace_already_exists")
        changed = await client.put("/api/namespaces/LAB", json={"retention_days": 21, "description": None})
        assert (changed.json()["retention_days"], changed.json()["description"]) == (21, "Trial area")
        assert (await client.get("/api/namespaces/lab")).json() == changed.json()
        names = [item["name"] for item in (await client.get("/api/namespaces")).json()["namespaces"]]
        assert names == ["default", "lab"]
        missing = await client.put("/api/namespaces/none", json={"retention_days": 0})
        assert missing.json() == {
            "message": "Namespace [none] not found.",
            "reason": "namespace_not_found",
            "namespace": "none",
        }
        # A namespace is usable at once, also after it was asked for in vain.
        headers = {"X-Namespace": "late"}
        assert (await client.get("/api/workers", headers=headers)).status_code == 404
        assert (await client.post("/api/namespaces", json={"name": "late"})).status_code == 201
        assert (await client.get("/api/workers", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "  "}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "ok", "retention_days": 0}, "retention_days"),
        ({"name": "ok", "retention_days": 366}, "retention_days"),
        ({"name": "ok", "retention_days": True}, "retention_days"),
        ({"name": "ok", "retention_days": 1.5}, "retention_days"),
        ({"name": "ok", "description": "x" * 1001}, "description"),
        ({"name": "ok", "description": "a\0b"}, "description"),
    ],
)
async def test_bad_namespaces_store_nothing(api: Api, db: Database, body: dict[str, object], field: str) -> None:
    async with api(OPEN, CONTROL) as client:
        response = await client.post("/api/namespaces", json=body)
        assert (response.status_code, response.json()["reason"]) == (422, "validation_failed")
        assert list(response.json()["errors"]) == [field]
        assert response.json()["errors"] == response.json()["validation_errors"]
        assert response.json()["message"] == response.json()["errors"][field][0]
        assert await db.fetchval("SELECT count(*) FROM namespaces") == 1


async def test_namespace_writes_are_for_admins(api: Api) -> None:
    async with api(TOKENS, {**CONTROL, "Authorization": "Bearer o"}) as client:
        assert (await client.get("/api/namespaces")).status_code == 200
        assert (await client.post("/api/namespaces", json={"name": "x"})).status_code == 403
        assert (await client.put("/api/namespaces/default", json={})).status_code == 403
        assert (await client.delete("/api/workers/x")).status_code == 403
        assert (await client.post("/api/worker/register", headers=WORKER, json={})).status_code == 403
