"""The helpers other tests rest on: clusters on a place of their own, nodes that can be killed and started again."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from tests.conftest import MakeCluster
from tests.support.server import ServerProcess
from tests.support.services import TestServices

pytestmark = pytest.mark.proof


def test_the_shared_server_answers(server: ServerProcess) -> None:
    assert server.is_ready()
    assert httpx.get(f"{server.url}/api/cluster/info").status_code == 401


async def test_its_client_may_use_both_planes(server: ServerProcess) -> None:
    async with server.client() as client:
        assert (await client.get("/api/cluster/info")).json()["server_id"] == server.node_id
        assert (await client.get("/api/workflows/none")).status_code == 404
        answer = await client.post("/api/worker/heartbeat", json={"worker_id": "nobody"})
        assert "X-Durable-Workflow-Protocol-Version" in answer.headers
        assert answer.status_code not in (401, 403)


async def test_a_cluster_shares_the_shards_and_takes_those_of_a_killed_node(cluster: MakeCluster) -> None:
    nodes = cluster(2)
    connection = await asyncpg.connect(nodes.place.dsn)
    try:

        async def owners() -> set[str]:
            rows = await connection.fetch("select distinct node_id from shards where node_id is not null")
            return {row["node_id"] for row in rows}

        assert await _eventually(owners, {"node-1", "node-2"})
        nodes[0].kill()
        assert not nodes[0].running
        assert await _eventually(owners, {"node-2"})
        nodes[0].start(wait=False)
        await nodes[0].ready()
        assert await _eventually(owners, {"node-1", "node-2"})
    finally:
        await connection.close()


def test_places_are_separate(services: TestServices) -> None:
    first, second = services.deployment(), services.deployment()
    assert first.dsn != second.dsn
    assert first.prefix != second.prefix


async def _eventually(read: object, expected: set[str], seconds: float = 15.0) -> bool:
    import asyncio

    assert callable(read)
    for _ in range(int(seconds / 0.05)):
        if await read() == expected:
            return True
        await asyncio.sleep(0.05)
    return False
