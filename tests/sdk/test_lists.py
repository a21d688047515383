"""The SDK's paging: every item is seen once, whatever happens between two pages (control-plane 5.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.sdk.harness import SdkHarness

pytestmark = pytest.mark.sdk

COUNT = 20


async def _terminate(scene: SdkHarness, workflow_id: str) -> None:
    await scene.client.terminate_workflow(workflow_id)


async def _cancel(scene: SdkHarness, workflow_id: str) -> None:
    await scene.client.cancel_workflow(workflow_id)


async def _start_another(scene: SdkHarness, workflow_id: str) -> None:
    await scene.start("paged-now", workflow_id=f"{workflow_id}-later")


async def _nothing(scene: SdkHarness, workflow_id: str) -> None:
    pass


@pytest.mark.parametrize("status", ["running", None])
@pytest.mark.parametrize("happens", [_terminate, _cancel, _start_another, _nothing])
async def test_paging_shows_everything_once_while_the_world_moves(
    scene: SdkHarness, happens: Callable[[SdkHarness, str], Awaitable[None]], status: str | None
) -> None:
    name = f"{scene.queue}-p"
    ids = [f"{name}-{number}" for number in range(COUNT)]
    for workflow_id in ids:
        await scene.start("paged-now", workflow_id=workflow_id)
    seen: list[str] = []
    token: str | None = None
    while True:
        page = await scene.client.list_workflows(status=status, query=name, page_size=5, next_page_token=token)
        seen += [item.workflow_id for item in page.executions]
        for item in page.executions:
            await happens(scene, item.workflow_id)
        token = page.next_page_token
        if token is None:
            break
    assert seen == ids[::-1]
