"""The request fixtures of task queues: our server accepts each, and the SDK reads each answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.request_fixtures import CLIENTS, RequestFixtures, fixture

pytestmark = pytest.mark.sdk


def holds(shown: dict[str, Any], expected: dict[str, Any], path: str = "") -> None:
    """Every key of the fixture's answer is in ours, at every depth."""
    for name, value in expected.items():
        assert name in shown, f"{path}.{name}"
        if isinstance(value, dict):
            holds(shown[name], value, f"{path}.{name}")


@pytest.mark.parametrize("client", CLIENTS)
async def test_list(desk: RequestFixtures, client: str) -> None:
    listing = fixture("task-queue-list")
    names = listing["semantic_body"]["task_queue_names"]
    for name in names:
        await desk.register(worker_id=f"worker-{name}", task_queue=name)
    await desk.leased()
    if client == "cli":
        found = await desk.send(listing)
        assert found["namespace"] == desk.sdk.namespace
        assert [item["name"] for item in found["task_queues"]] == ["external-workflows", *names]
        holds(found["task_queues"][1], listing["response_body"]["task_queues"][0])
        stats = found["task_queues"][0]["stats"]
        assert stats["workflow_tasks"]["leased_count"] == 1
    else:
        roster = await desk.sdk.list_task_queues(**listing["sdk_python"]["args"])
        assert [queue.name for queue in roster.task_queues] == ["external-workflows", *names]
        assert {queue.namespace for queue in roster.task_queues} == {roster.namespace} == {desk.sdk.namespace}
        assert roster.task_queues[1].stats is not None
        assert roster.task_queues[1].stats["pollers"]["active_count"] == 1


@pytest.mark.parametrize("client", CLIENTS)
async def test_describe(desk: RequestFixtures, client: str) -> None:
    show = fixture("task-queue-describe")
    _, task = await desk.leased()
    await desk.register(worker_id="worker-beta", task_queue="external-workflows")
    name = task["task_queue"]
    if client == "cli":
        found = await desk.send(show, path=f"/task-queues/{name}")
        holds(found, show["response_body"])
        lease, poller = found["current_leases"][0], found["pollers"][0]
        assert found["name"] == name and found["namespace"] == desk.sdk.namespace
    else:
        queue = await desk.sdk.describe_task_queue(**{**show["sdk_python"]["args"], "name": name})
        assert queue.name == name and queue.namespace == desk.sdk.namespace
        assert queue.current_leases is not None and queue.pollers is not None
        assert {each["worker_id"] for each in queue.pollers} == {"polyglot-worker-231", "worker-beta"}
        lease, poller = queue.current_leases[0], queue.pollers[0]
    assert set(show["response_body"]["current_leases"][0]) <= set(lease)
    assert set(show["response_body"]["pollers"][0]) <= set(poller)
    assert (lease["task_id"], lease["task_type"], lease["is_expired"]) == (task["task_id"], "workflow", False)
    assert lease["workflow_task_attempt"] == 1
