"""Large payloads outside the database with the SDK's own drivers: client, workers, replay (operations 8)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import Client, LocalFilesystemExternalStorage, Replayer, S3ExternalStorage, activity, workflow
from durable_workflow.external_storage import ExternalStorageDriver

from tests.sdk.harness import SdkHarness, events_of, of_type, recorded, result_of
from tests.support import object_stores
from tests.support.object_stores import BUCKET, ObjectStore
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.sdk

LARGE = 10 << 20
THRESHOLD = 64 << 10


@activity.defn(name="storage-double")
async def double(text: str) -> str:
    return f"{text}, and more"


@workflow.defn(name="stores-outside")
class StoresOutside:
    def run(self, ctx: Any, text: str) -> Any:
        longer = yield ctx.schedule_activity("storage-double", [text])
        size = yield ctx.side_effect(lambda: len(longer))
        return {"size": size, "text": longer}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_stores.s3(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="module")
def server(services: TestServices, bucket: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A node that has the credentials of the bucket."""
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT": bucket.url}
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("server"), env=keys)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture(params=["local", "s3"])
async def stored(
    request: pytest.FixtureRequest, server: ServerProcess, bucket: ObjectStore, tmp_path: Path
) -> AsyncIterator[tuple[SdkHarness, ExternalStorageDriver]]:
    """A namespace that stores outside, and a scene in it whose client and workers do so."""
    namespace = f"n{secrets.token_hex(3)}"
    if request.param == "local":
        driver: ExternalStorageDriver = LocalFilesystemExternalStorage(tmp_path / "payloads")
        policy: dict[str, Any] = {"driver": "local", "config": {"uri": (tmp_path / "payloads").as_uri()}}
    else:
        driver = S3ExternalStorage(bucket.s3_client(), bucket=BUCKET, prefix=namespace)
        policy = bucket.policy(namespace)
    async with Client(server.url, token=server.token, namespace="default") as admin:
        await admin.create_namespace(namespace)
        described = await admin.set_namespace_external_storage(namespace, **policy)
        assert described.external_payload_storage is not None
    async with Client(
        server.url,
        token=server.token,
        namespace=namespace,
        external_storage=driver,
        external_storage_threshold_bytes=THRESHOLD,
    ) as client:
        assert (await client.test_external_storage()).status == "passed"
        scene = SdkHarness(client)
        try:
            yield scene, driver
        finally:
            await scene.stop()


async def test_large_payloads_through_history_and_replay(stored: tuple[SdkHarness, ExternalStorageDriver]) -> None:
    scene, driver = stored
    await scene.work([StoresOutside], [double])
    text = secrets.token_hex(LARGE // 2)
    handle = await scene.start("stores-outside", text)
    assert await result_of(handle, 120) == {"size": LARGE + 10, "text": f"{text}, and more"}
    events = await events_of(handle)
    for payload in (
        of_type(events, "WorkflowStarted")[0]["arguments"],
        of_type(events, "ActivityCompleted")[0]["result"],
        of_type(events, "WorkflowCompleted")[0]["output"],
    ):
        reference = payload["external_storage"]
        assert reference["size_bytes"] > LARGE and len(driver.get(reference["uri"])) == reference["size_bytes"]
    assert sum(len(str(event)) for event in events) < THRESHOLD, "the history holds references only"
    replayed = Replayer(workflows=[StoresOutside]).replay({"events": events}, external_storage=driver)
    assert len(replayed.commands) == 1


async def test_another_worker_goes_on_from_what_is_stored(stored: tuple[SdkHarness, ExternalStorageDriver]) -> None:
    """Its first task has the whole history, and nothing of it in memory."""
    scene, _ = stored
    first = await scene.work([StoresOutside])
    text = secrets.token_hex(THRESHOLD)
    handle = await scene.start("stores-outside", text)
    await recorded(handle, "ActivityScheduled")
    await first.stop()
    await scene.work([StoresOutside], [double])
    assert (await result_of(handle, 60))["size"] == 2 * THRESHOLD + 10
