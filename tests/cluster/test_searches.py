"""Searches take nothing from the rest of a node: its lease, health, commits and single reads go on beside them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from tests.conftest import MakeCluster
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

RUN, WAIT, MORE = 3, 5, 22
SEARCHES = {"DW_DB_SEARCH_POOL_SIZE": str(RUN), "DW_DB_SEARCH_QUEUE": str(WAIT), "DW_DB_SEARCH_TIMEOUT_SECONDS": "4"}
SOON = 3.0  # far less than what a search may take, far more than anything else does


async def answered(client: httpx.AsyncClient, path: str, within: float = SOON) -> httpx.Response:
    async with asyncio.timeout(within):
        return await client.get(path)


async def test_searches_that_hang_cost_a_node_nothing(cluster: MakeCluster) -> None:
    node = cluster(1, env=SEARCHES)[0]
    lock = await asyncpg.connect(node.place.dsn)
    async with node.client(limits=httpx.Limits(max_connections=100)) as client:
        started = {"workflow_type": "t", "task_queue": "nobody"}
        assert (await client.post("/api/workflows", json={**started, "workflow_id": "w"})).status_code == 201
        async with lock.transaction():
            # Of what this test asks for, only the list of workers reads this table.
            await lock.execute("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
            searches = [asyncio.create_task(client.get("/api/workers")) for _ in range(RUN + WAIT + MORE)]
            await asyncio.sleep(0.5)
            refused = [task.result() for task in searches if task.done()]
            assert len(refused) == MORE
            for number in range(20):
                for path in ("/api/health", "/api/ready", "/api/workflows/w", "/api/workflows"):
                    response = await answered(client, path)
                    assert response.status_code == 200, (path, response.text)
                async with asyncio.timeout(SOON):
                    response = await client.post("/api/workflows", json={**started, "workflow_id": f"w{number}"})
                assert response.status_code == 201, response.text
                await asyncio.sleep(0.2)
            slow = await asyncio.gather(*[task for task in searches if not task.done()])
            late = [task.result() for task in searches if task.result() not in refused]
            assert len(slow) <= len(late) == RUN + WAIT
        reasons: dict[Any, int] = {}
        for response in (*refused, *late):
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            reasons[response.json()["reason"]] = reasons.get(response.json()["reason"], 0) + 1
        # Those that waited may get their turn in the moment their time is over.
        assert reasons["search_timeout"] >= RUN
        assert reasons["search_capacity_exhausted"] >= MORE
        assert len(reasons) == 2
        assert (await answered(client, "/api/workers")).status_code == 200
    await lock.close()
    log = node.log_file.read_text()
    assert "lease of this node ended" not in log
    assert "Traceback" not in log


async def test_health_and_readiness_answer_in_time_when_postgres_hangs(
    own_services: TestServices, cluster: MakeCluster
) -> None:
    node = cluster(1, place=own_services.deployment())[0]
    assert own_services.postgres.pid is not None
    postmaster = psutil.Process(own_services.postgres.pid)
    async with node.client(limits=httpx.Limits(max_connections=200)) as client:
        frozen = [postmaster.pid, *[child.pid for child in postmaster.children()]]
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            for _ in range(4):
                began = time.monotonic()
                paths = ["/api/health", "/api/ready"] * 40
                responses = await asyncio.gather(*[client.get(path) for path in paths])
                assert time.monotonic() - began < 2.0 + SOON / 2, "configuration-and-security 8.1: two seconds"
                assert {response.status_code for response in responses} == {503}
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            while (await client.get("/api/ready")).status_code != 200 or (await client.get("/api/health")).status_code != 200:
                await asyncio.sleep(0.1)
