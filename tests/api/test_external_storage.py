"""Payloads outside the database over HTTP: policies, references wherever a payload may stand, the storage test.

Contract: control-plane 4, operations 8, worker-protocol 9.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.payload_storage.location import object_key
from actors.payload_storage.reference import SCHEMA
from tests.api.conftest import CONTROL, Api
from tests.api.driver import Http
from tests.support import object_stores
from tests.support.defaults import make_auth, make_settings

DATA = b"AAJ7AA=="
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "of day"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def block(folder: Path) -> None:
    """A file stands where the folder should be."""
    folder.write_text("x")


async def lab(http: Http, name: str, folder: Path) -> None:
    """From here on the client works in a namespace of its own that stores in a folder."""
    await http.post("/namespaces", 201, name=name)
    http.client.headers["X-Namespace"] = name
    policy = {"driver": "local", "config": {"uri": folder.as_uri()}}
    await http.call("PUT", f"/namespaces/{name}/external-storage", 200, policy)


def envelope(folder: Path, codec: str = "avro", **changes: Any) -> dict[str, Any]:
    """A reference to a payload in the folder."""
    uri = f"{folder.as_uri()}/{object_key(codec, SHA)}"
    reference = {"schema": SCHEMA, "uri": uri, "sha256": SHA, "size_bytes": len(DATA), "codec": codec, **changes}
    return {"codec": codec, "external_storage": reference}


async def test_policies(http: Http) -> None:
    await http.post("/namespaces", 201, name="Policies")
    path = "/namespaces/policies/external-storage"
    sent = {
        "driver": "s3",
        "threshold_bytes": 65536,
        "config": {
            "disk": "d",
            "bucket": "b",
            "prefix": "p/",
            "region": None,
            "endpoint": "",
            "secret": "x",
            "auth_profile": "a",
        },
    }
    body = await http.call("PUT", path, 200, sent)
    config = {"disk": "d", "bucket": "b", "prefix": "p/", "auth_profile": "a"}
    expected = {"driver": "s3", "enabled": True, "threshold_bytes": 65536, "config": config}
    assert body["name"] == "policies" and body["external_payload_storage"] == expected
    assert (await http.get("/namespaces/policies"))["external_payload_storage"] == expected
    body = await http.call("PUT", path, 200, {"driver": "local", "enabled": False})
    assert body["external_payload_storage"] == {"driver": "local", "enabled": False, "threshold_bytes": 2_097_152}
    assert (await http.call("PUT", "/namespaces/none/external-storage", 404, {}))["reason"] == "namespace_not_found"


BAD_POLICIES = [
    ({}, "driver"),
    ({"driver": "ftp"}, "driver"),
    ({"driver": 7}, "driver"),
    ({"driver": "s3", "enabled": "maybe"}, "enabled"),
    ({"driver": "s3", "threshold_bytes": 0}, "threshold_bytes"),
    ({"driver": "s3", "threshold_bytes": "x"}, "threshold_bytes"),
    ({"driver": "s3", "config": "x"}, "config"),
    ({"driver": "s3", "config": {"uri": "u" * 2049}}, "config.uri"),
    ({"driver": "s3", "config": {"bucket": "b" * 256}}, "config.bucket"),
    ({"driver": "s3", "config": {"disk": 7}}, "config.disk"),
    ({"driver": "s3", "config": {"prefix": "p" * 1025}}, "config.prefix"),
    ({"driver": "s3", "config": {"region": "r" * 129}}, "config.region"),
    ({"driver": "s3", "config": {"endpoint": "e" * 2049}}, "config.endpoint"),
    ({"driver": "s3", "config": {"auth_profile": "a" * 256}}, "config.auth_profile"),
]


async def test_bad_policies_change_nothing(http: Http) -> None:
    await http.post("/namespaces", 201, name="bad-policies")
    for sent, field in BAD_POLICIES:
        body = await http.call("PUT", "/namespaces/bad-policies/external-storage", 422, sent)
        assert list(body["errors"]) == [field], sent
    assert (await http.get("/namespaces/bad-policies"))["external_payload_storage"] is None


async def test_references_travel_unchanged(http: Http, folder: Path) -> None:
    await lab(http, "travel", folder)
    await http.register()
    reference = envelope(folder, expires_at="2099-01-01T00:00:00Z", note="kept as it is")
    run_id = (await http.start(workflow_id="t", input=reference))["run_id"]
    task = await http.poll()
    assert task["arguments"] == reference
    wait = {"type": "open_condition_wait", "condition_key": "k"}
    await http.complete(
        task,
        {"type": "schedule_activity", "activity_type": "a", "arguments": reference},
        {"type": "record_side_effect", "result": reference},
        wait,
    )
    activity = await http.poll("activity")
    assert activity["arguments"] == reference
    body = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker, "result": reference}
    await http.post(f"/worker/activity-tasks/{activity['task_id']}/complete", 200, **body)
    await http.post("/workflows/t/signal/s", 202, input=reference)
    await http.complete(await http.poll(), wait)
    task = await http.poll()
    await http.complete(task, {"type": "complete_workflow", "result": reference})
    events = {event["event_type"]: event["payload"] for event in await http.events("t", run_id)}
    assert events["WorkflowStarted"]["arguments"] == reference
    assert events["ActivityScheduled"]["activity"]["arguments"] == reference
    assert events["ActivityCompleted"]["result"] == reference
    assert events["SideEffectRecorded"]["result"] == reference
    assert events["SignalReceived"]["arguments"] == reference
    assert events["WorkflowCompleted"]["output"] == reference
    shown = await http.get("/workflows/t")
    assert shown["input_envelope"] == shown["output_envelope"] == reference and shown["input"] is None
    bundle = await http.get(f"/workflows/t/runs/{run_id}/history/export")
    entries = {entry["path"]: entry for entry in bundle["payload_manifest"]["entries"]}
    assert entries["payloads.arguments.data"]["diagnostic"] == "external_storage_reference"


async def test_references_that_are_refused_record_nothing(http: Http, folder: Path) -> None:
    await lab(http, "refusing", folder)
    await http.register()
    outside = envelope(folder, uri="file:///etc/passwd")
    for sent, field in (
        (outside, "input.external_storage.uri"),
        (envelope(folder, sha256="ab"), "input.external_storage.sha256"),
        (envelope(folder, size_bytes=-1), "input.external_storage.size_bytes"),
        (envelope(folder, schema="x"), "input.external_storage.schema"),
        (envelope(folder, codec="json") | {"codec": "avro"}, "input.external_storage.codec"),
        (envelope(folder, expires_at="2001-01-01T00:00:00Z"), "input.external_storage.expires_at"),
        ({"codec": "avro", "external_storage": 7}, "input.external_storage"),
    ):
        body = await http.start(422, workflow_id="refused", input=sent)
        assert list(body["errors"]) == [field], sent
    await http.call("GET", "/workflows/refused", 404)
    run_id = (await http.start(workflow_id="open"))["run_id"]
    task = await http.poll()
    body = await http.complete(task, {"type": "complete_workflow", "result": outside}, status=422)
    assert list(body["errors"]) == ["commands.0.result.external_storage.uri"]
    assert await http.types("open", run_id) == ["StartAccepted", "WorkflowStarted"]


async def test_without_a_usable_policy_no_reference_is_taken(http: Http, folder: Path) -> None:
    await http.post("/namespaces", 201, name="unusable")
    http.client.headers["X-Namespace"] = "unusable"
    for policy in (
        None,
        {"driver": "local", "enabled": False, "config": {"uri": folder.as_uri()}},
        {"driver": "s3", "config": {"disk": "nobody", "bucket": "b"}},
    ):
        if policy is not None:
            await http.call("PUT", "/namespaces/unusable/external-storage", 200, policy)
        body = await http.start(422, input=envelope(folder))
        assert "external storage driver" in body["errors"]["input.external_storage"][0]


async def test_the_storage_test(http: Http, folder: Path) -> None:
    await lab(http, "tested", folder)
    body = await http.post("/storage/test", 200, small_payload_bytes=64, large_payload_bytes=100_000)
    assert (body["status"], body["namespace"], body["driver"]) == ("passed", "tested", "local")
    for name, letter, size in (("small_payload", b"s", 64), ("large_payload", b"l", 100_000)):
        digest = hashlib.sha256(letter * size).hexdigest()
        assert (body[name]["status"], body[name]["bytes"], body[name]["sha256"]) == ("passed", size, digest)
        assert body[name]["reference_uri"].startswith(folder.as_uri())
    assert not files_in(folder), "nothing stays"
    assert (await http.post("/storage/test", 200))["large_payload"]["bytes"] == 2_097_152
    body = await http.post("/storage/test", 422, driver="s3")
    assert (body["status"], body["reason"]) == ("failed", "storage_driver_unavailable")
    assert body["supported_diagnostic_drivers"] == ["local"]
    for sent, field in (
        ({"driver": "x"}, "driver"),
        ({"small_payload_bytes": 0}, "small_payload_bytes"),
        ({"small_payload_bytes": 1_048_577}, "small_payload_bytes"),
        ({"large_payload_bytes": 16_777_217}, "large_payload_bytes"),
        ({"large_payload_bytes": "x"}, "large_payload_bytes"),
    ):
        assert list((await http.call("POST", "/storage/test", 422, sent))["errors"]) == [field]


async def test_storage_tests_that_fail(http: Http, folder: Path) -> None:
    await http.post("/namespaces", 201, name="failing")
    http.client.headers["X-Namespace"] = "failing"
    body = await http.post("/storage/test", 422)
    assert (body["reason"], body["driver"]) == ("external_storage_not_configured", None)
    path = "/namespaces/failing/external-storage"
    await http.call("PUT", path, 200, {"driver": "local", "enabled": False, "config": {"uri": folder.as_uri()}})
    assert (await http.post("/storage/test", 422))["reason"] == "external_storage_disabled"
    block(folder)
    await http.call("PUT", path, 200, {"driver": "local", "config": {"uri": folder.as_uri()}})
    assert (await http.post("/storage/test", 422))["reason"] == "storage_driver_unavailable"


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[object_stores.ObjectStore]:
    with object_stores.s3(tmp_path) as store:
        yield store


async def test_an_object_store_by_profile(api: Api, bucket: object_stores.ObjectStore) -> None:
    from api.settings import StorageRules

    settings = make_settings(auth=make_auth(driver="none"), storage=StorageRules(None, {"s3": bucket.profile}))
    async with api(settings, CONTROL) as client:
        await client.put("/api/namespaces/default/external-storage", json=bucket.policy("lab"))
        passed = await client.post("/api/storage/test", json={"small_payload_bytes": 9})
        assert passed.status_code == 200, passed.text
        assert passed.json()["small_payload"]["reference_uri"].startswith("s3://payloads/lab/storage-test-small/")
        elsewhere = {**bucket.policy("lab"), "config": {**bucket.config, "bucket": "nowhere"}}
        await client.put("/api/namespaces/default/external-storage", json=elsewhere)
        failed: httpx.Response = await client.post("/api/storage/test", json={})
        assert failed.status_code == 422 and failed.json()["reason"] == "storage_driver_unavailable"
        assert bucket.url not in failed.text and bucket.profile["secret_access_key"] != failed.json()["message"]


async def test_a_schedule_hands_a_reference_on(http: Http, folder: Path) -> None:
    await lab(http, "scheduled-outside", folder)
    spec = {"cron_expressions": ["0 0 29 2 *"]}
    body = {"schedule_id": "s", "spec": spec, "action": {"workflow_type": "order", "input": envelope(folder)}}
    await http.post("/schedules", 201, **body)
    assert (await http.get("/schedules/s"))["action"]["input"] == envelope(folder)
    fired = await http.post("/schedules/s/trigger", 200)
    assert (await http.get(f"/workflows/{fired['workflow_id']}"))["input_envelope"] == envelope(folder)
    refused = await http.call("PUT", "/schedules/s", 422, {"action": {"input": envelope(folder, codec="php")}})
    assert list(refused["errors"]) == ["action.input.codec"]
