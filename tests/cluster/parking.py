"""Polls that are parked at a node of one's choice."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from tests.cluster.client import ClusterClient, Raw, raw_post
from tests.cluster.harness import ACTIVITY_TYPE, WORKFLOW_TYPE
from tests.support.server import ServerProcess
from tests.support.services import Deployment


async def shards_by_node(place: Deployment) -> dict[str, set[int]]:
    """Who holds which shards, by the table of leases."""
    connection = await asyncpg.connect(place.dsn)
    try:
        rows = await connection.fetch("SELECT node_id, shard FROM shards WHERE node_id IS NOT NULL")
    finally:
        await connection.close()
    held: dict[str, set[int]] = {}
    for node_id, shard in rows:
        held.setdefault(node_id, set()).add(shard)
    return held


async def shares(place: Deployment, count: int, least: int, seconds: float = 20.0) -> dict[str, set[int]]:
    """Wait until `count` nodes hold at least `least` shards each, and all shards are held."""
    deadline = time.monotonic() + seconds
    while True:
        held = await shards_by_node(place)
        if len(held) == count and min(map(len, held.values())) >= least and sum(map(len, held.values())) == 64:
            return held
        assert time.monotonic() < deadline, {node: len(shards) for node, shards in held.items()}
        await asyncio.sleep(0.1)


LONG_POLLS = {"DW_WORKER_POLL_TIMEOUT": "30", "DW_WORKFLOW_TASK_TIMEOUT": "60", "DW_SHUTDOWN_GRACE_SECONDS": "20"}


async def register(client: ClusterClient, queue: str, at: ServerProcess) -> str:
    """A worker for everything in a queue; its id."""
    body = {
        "worker_id": f"{queue}-worker",
        "task_queue": queue,
        "runtime": "python",
        "supported_workflow_types": [WORKFLOW_TYPE],
        "supported_activity_types": [ACTIVITY_TYPE],
    }
    assert (await client.post("/api/worker/register", body, at=at)).status in (200, 201)
    return f"{queue}-worker"


async def park(node: ServerProcess, worker_id: str, queue: str, count: int, kind: str = "workflow") -> list[Raw]:
    """Polls on connections of their own that found nothing yet."""
    body = {"worker_id": worker_id, "task_queue": queue}
    return [await raw_post(node, f"/api/worker/{kind}-tasks/poll", body) for _ in range(count)]
