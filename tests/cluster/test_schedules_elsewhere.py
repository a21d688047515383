"""Schedules through other nodes than those that host them: every route, and a backfill of a thousand (control-plane 11)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

SCHEDULES = 6  # of ids that live on either node
GOOD: dict[str, Any] = {
    "spec": {"cron_expressions": ["0 0 29 2 *"]},
    "action": {"workflow_type": "nobody-runs-it", "task_queue": "nobody"},
    "overlap_policy": "allow_all",
}


async def call(client: httpx.AsyncClient, method: str, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    answer = await client.request(method, f"/api/schedules{path}", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_every_route_on_any_node(cluster: MakeCluster) -> None:
    nodes = cluster(2).nodes
    async with contextlib.AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(node.client()) for node in nodes]

        async def life(name: str) -> None:
            await call(one, "POST", "", {**GOOD, "schedule_id": name}, 201)
            await call(two, "POST", "", {**GOOD, "schedule_id": name}, 409)
            await call(two, "PUT", f"/{name}", {"note": "changed"})
            assert (await call(one, "GET", f"/{name}"))["note"] == "changed"
            fired = await call(two, "POST", f"/{name}/trigger", {})
            assert fired["outcome"] == "triggered"
            assert (await one.get(f"/api/workflows/{fired['workflow_id']}")).status_code == 200
            await call(one, "POST", f"/{name}/pause", {})
            assert (await call(two, "POST", f"/{name}/trigger", {}))["reason"] == "status_not_triggerable"
            await call(two, "POST", f"/{name}/resume", {})
            assert (await call(one, "GET", f"/{name}"))["fires_count"] == 1
            await call(two, "DELETE", f"/{name}")
            await call(one, "GET", f"/{name}", status=404)
            events = (await call(two, "GET", f"/{name}/history"))["events"]
            assert [event["sequence"] for event in events] == list(range(1, 8))

        await asyncio.gather(*(life(f"s-{number}") for number in range(SCHEDULES)))


async def test_a_thousand_occurrences_by_either_node(cluster: MakeCluster) -> None:
    nodes = cluster(2).nodes
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(node.client()) for node in nodes]
        await call(clients[0], "POST", "", {**GOOD, "schedule_id": "many", "spec": {"cron_expressions": ["* * 29 2 *"]}}, 201)
        for number, client in enumerate(clients):
            span = {"start_time": f"2028-02-29T0{number}:00:00Z", "end_time": f"2028-02-29T{number + 16}:40:00Z"}
            answer = await call(client, "POST", "/many/backfill", span)
            assert answer["fires_attempted"] == 1000
            assert {each["outcome"] for each in answer["results"]} == {"started"}
            assert len({each["workflow_id"] for each in answer["results"]}) == 1000
        assert (await call(clients[0], "GET", "/many"))["fires_count"] == 2000
