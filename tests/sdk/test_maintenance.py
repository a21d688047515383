"""What the SDK guide tells of system maintenance, with real workflows (control-plane 12.3 to 12.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import Client, ServerError, workflow
from durable_workflow.errors import Unauthorized

from tests.sdk.harness import SdkHarness, result_of, scene_on
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.sdk

TOKENS = {"DW_AUTH_WORKER_TOKEN": "w-token", "DW_AUTH_OPERATOR_TOKEN": "o-token", "DW_AUTH_ADMIN_TOKEN": "dev-token"}


@workflow.defn(name="brief")
class Brief:
    def run(self, ctx: Any, value: Any = None) -> Any:
        yield ctx.start_timer(0)
        return value


@pytest.fixture(scope="module")
def server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One with a token for each role."""
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("maintenance"), env=TOKENS)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def scene(server: ServerProcess, tmp_path: Path) -> AsyncIterator[SdkHarness]:
    async with scene_on(server) as made:
        yield made


async def test_the_guide_s_methods(scene: SdkHarness) -> None:
    client = scene.client
    await scene.work([Brief])
    handle = await scene.start("brief", 7)
    assert await result_of(handle) == 7

    status = await client.repair_status()
    assert status["policy"]["scan_strategy"] == "scope_fair_round_robin"
    assert status["candidates"]["total_candidates"] >= 0
    # nothing to do is no failure, and can be asked for again and again
    for _ in range(2):
        report = await client.repair_pass()
        assert (report["repaired_missing_tasks"], report["existing_task_failures"]) == (0, [])
        assert (await client.repair_pass(run_ids=["nobody"], instance_id="never"))["selected_total_candidates"] == 0
        timeouts = await client.activity_timeout_pass(limit=5)
        assert (timeouts["processed"], timeouts["failed"]) == (0, 0)
        retention = await client.retention_pass(limit=5)
        assert (retention["processed"], retention["failed"]) == (0, 0)
    assert (await client.activity_timeout_status())["expired_count"] == 0
    shown = await client.retention_status()
    assert (shown["namespace"], shown["retention_days"], shown["expired_run_ids"]) == ("default", 30, [])


async def test_a_pruned_workflow_is_described_and_not_started_again(scene: SdkHarness) -> None:
    client = scene.client
    await scene.work([Brief])
    handle = await scene.start("brief", 7, workflow_id="pruned-by-sdk")
    await result_of(handle)
    run_id = (await client.describe_workflow("pruned-by-sdk")).run_id
    assert run_id is not None
    for _ in range(100):
        done = await client.retention_pass(run_ids=[run_id])
        if done["pruned"]:
            break

        await asyncio.sleep(0.2)
    assert done["results"][0]["history_events_deleted"] > 0
    described = await client.describe_workflow("pruned-by-sdk")
    assert (described.status, described.run_id) == ("completed", run_id)
    assert "pruned-by-sdk" not in [item.workflow_id for item in (await client.list_workflows()).executions]
    assert (await client.get_history("pruned-by-sdk", run_id))["events"] == []
    with pytest.raises(ServerError) as refused:
        await client.query_workflow("pruned-by-sdk", "anything")
    assert refused.value.status == 409


@pytest.mark.parametrize("token", ["w-token", "o-token"])
async def test_only_admins_may(server: ServerProcess, token: str) -> None:
    async with Client(server.url, token=token, namespace="default") as client:
        for method in (
            client.repair_status,
            client.repair_pass,
            client.retention_status,
            client.retention_pass,
            client.activity_timeout_status,
            client.activity_timeout_pass,
        ):
            with pytest.raises(Unauthorized):
                await method()
        with pytest.raises(Unauthorized):
            await client.delete_namespace("anything")
