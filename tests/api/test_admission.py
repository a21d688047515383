"""`admission` of task queues over HTTP: worker slots, caps and what is left of them, queries that wait (control-plane 7.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.api.driver import Http
from tests.support.server import ServerProcess
from tests.support.services import TestServices

CAPS = {
    "DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "2",
    "DW_ACTIVITY_TASK_MAX_DISPATCHES_PER_MINUTE_PER_NAMESPACE": "1000",
    "DW_TASK_QUEUE_ADMISSION_OVERRIDES": '{"default:narrow": {"workflow_tasks": {"max_active_leases": 1}}}',
    "DW_WORKER_POLL_TIMEOUT": "1",
}


@pytest.fixture(scope="module")
def capped(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("capped"), env=CAPS)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
async def narrow(capped: ServerProcess) -> AsyncIterator[Http]:
    async with capped.client() as client:
        yield Http(client)


async def admission(http: Http, kind: str = "workflow") -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"/task-queues/{http.queue}"))["admission"][f"{kind}_tasks"]
    return found


async def test_without_caps(http: Http) -> None:
    found = await admission(http)
    assert (found["status"], found["server_lock_required"], found["server_lock_supported"]) == (
        "no_active_workers",
        False,
        True,
    )
    assert found["server_max_active_leases_per_queue"] is None and found["server_remaining_active_lease_capacity"] is None
    await http.register(max_concurrent_workflow_tasks=2)
    await http.start()
    await http.start()
    assert (await http.poll()) is not None
    await asyncio.sleep(1.2)  # leases are read once a second
    found = await admission(http)
    slots = ("active_worker_count", "configured_slot_count", "leased_count", "ready_count", "available_slot_count", "status")
    assert [found[name] for name in slots] == [1, 2, 1, 1, 1, "accepting"]
    assert (await http.poll()) is not None
    await asyncio.sleep(1.2)
    found = await admission(http)
    assert [found[name] for name in slots] == [1, 2, 2, 0, 0, "saturated"]
    queries = (await http.get(f"/task-queues/{http.queue}"))["admission"]["query_tasks"]
    assert queries == {
        "budget_source": "server.query_tasks.max_pending_per_queue",
        "max_pending_per_queue": 1024,
        "approximate_pending_count": 0,
        "remaining_pending_capacity": 1024,
        "lock_required": True,
        "lock_supported": True,
        "status": "accepting",
    }


async def test_caps_and_what_is_left_of_them(narrow: Http) -> None:
    http = narrow
    await http.register()
    for _ in range(3):
        await http.start()
    first, second = await http.poll(), await http.poll()
    assert first is not None and second is not None
    assert await http.poll() is None, "two leases are the cap"
    found = await admission(http)
    assert found["server_budget_source"] == "server.admission.workflow_tasks.max_active_leases_per_queue"
    leases = ("server_max_active_leases_per_queue", "server_active_lease_count", "server_remaining_active_lease_capacity")
    assert [found[name] for name in leases] == [2, 2, 0]
    assert (found["status"], found["server_lock_required"]) == ("throttled", True)
    await http.complete(first, {"type": "complete_workflow", "result": "done"})
    found = await admission(http)
    assert [found[name] for name in leases] == [2, 1, 1] and found["status"] == "accepting"
    assert await http.poll() is not None
    dispatches = await admission(http, "activity")
    assert dispatches["server_max_dispatches_per_minute_per_namespace"] == 1000
    assert dispatches["server_namespace_dispatch_count_this_minute"] == 0
    (listed,) = [each for each in (await http.get("/task-queues"))["task_queues"] if each["name"] == http.queue]
    assert listed["admission"]["workflow_tasks"]["server_active_lease_count"] == 2


async def test_an_override_stands_above_the_variable(narrow: Http) -> None:
    narrow.queue = "narrow"
    found = await admission(narrow)
    assert found["server_max_active_leases_per_queue"] == 1
    assert found["server_budget_source"] == "server.admission.queue_overrides"


async def test_queries_that_wait_are_counted(http: Http) -> None:
    await http.register()
    await http.waiting("asked")
    asking = asyncio.create_task(http.client.post("/api/workflows/asked/query/state", json={}))
    try:
        async with asyncio.timeout(30):
            while True:
                found = (await http.get(f"/task-queues/{http.queue}"))["admission"]["query_tasks"]
                if found["approximate_pending_count"] == 1:
                    break
                await asyncio.sleep(0.05)
        assert found["remaining_pending_capacity"] == 1023
    finally:
        await asking
