"""Two nodes prune and delete, and one is killed in the middle: nothing is half done, and all of it is done in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from bench.expired import fill
from tests.api.conftest import CONTROL
from tests.support.server import TOKEN, ServerProcess
from tests.support.services import Deployment

pytestmark = pytest.mark.proof

RUNS = 20_000
HEADERS = {**CONTROL, "Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def nodes(place: Deployment, tmp_path: Path) -> Iterator[list[ServerProcess]]:
    made = [ServerProcess(place, tmp_path, node_id=name) for name in ("one", "two")]
    try:
        for node in made:
            node.start()
        yield made
    finally:
        for node in made:
            node.stop()


@pytest.fixture
async def look(place: Deployment) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(place.dsn)
    yield connection
    await connection.close()


async def until(look: asyncpg.Connection, sql: str, seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while not await look.fetchval(sql):
            await asyncio.sleep(0.05)


# Rows that hang on no run, and runs that lack some: in one snapshot.
WHOLE = """
SELECT
    (SELECT count(*) FROM history h WHERE NOT EXISTS (SELECT FROM runs r WHERE r.run_id = h.run_id)),
    (SELECT count(*) FROM run_marks m WHERE NOT EXISTS (SELECT FROM runs r WHERE r.run_id = m.run_id)),
    (SELECT count(*) FROM run_status s WHERE NOT EXISTS (SELECT FROM runs r WHERE r.run_id = s.run_id)),
    (SELECT count(*) FROM runs r WHERE 4 <> (SELECT count(*) FROM history h WHERE h.run_id = r.run_id)),
    (SELECT count(*) FROM runs r JOIN pruned_runs p USING (run_id)),
    (SELECT count(*) FROM instances i WHERE NOT EXISTS (SELECT FROM runs r WHERE r.run_id = i.current_run_id)
        AND NOT EXISTS (SELECT FROM pruned_runs p WHERE p.run_id = i.current_run_id))
"""


async def whole(look: asyncpg.Connection) -> bool:
    return set(await look.fetchrow(WHOLE)) == {0}


async def test_pruning_survives_a_killed_node(nodes: list[ServerProcess], look: asyncpg.Connection) -> None:
    await fill(look, "default", RUNS, time.time_ns() // 1000)
    await look.execute("UPDATE namespaces SET retention_days = 1")
    await until(look, "SELECT count(*) > 2000 FROM pruned_runs")
    nodes[0].kill()
    assert await whole(look)
    async with httpx.AsyncClient(base_url=nodes[1].url, headers=HEADERS, timeout=30) as client:
        # by hand as well, the same runs at the same time
        ids = [row[0] for row in await look.fetch("SELECT run_id FROM runs ORDER BY closed_at LIMIT 100")]
        passes = [client.post("/api/system/retention/pass", json={"run_ids": ids}) for _ in range(3)]
        answers = [answer.json() for answer in await asyncio.gather(*passes)]
        assert all(answer["pruned"] + answer["failed"] == len(ids) for answer in answers)
        deleted: dict[str, int] = {}
        for answer in answers:
            for result in answer["results"]:
                deleted[result["run_id"]] = deleted.get(result["run_id"], 0) + result.get("history_events_deleted", 0)
        assert set(deleted.values()) <= {0, 9}, "each run is counted as deleted once, or went by itself"
    await until(look, "SELECT count(*) = 0 FROM runs")
    assert await whole(look)
    assert await look.fetchval("SELECT count(*) FROM pruned_runs") == RUNS


async def test_a_deletion_survives_a_killed_node(nodes: list[ServerProcess], look: asyncpg.Connection) -> None:
    async with (
        httpx.AsyncClient(base_url=nodes[0].url, headers=HEADERS, timeout=60) as one,
        httpx.AsyncClient(base_url=nodes[1].url, headers=HEADERS, timeout=60) as two,
    ):
        for name in ("doomed", "neighbour"):
            assert (await one.post("/api/namespaces", json={"name": name})).status_code == 201
        assert (await two.get("/api/workflows", headers={"X-Namespace": "doomed"})).status_code == 200
        start = {"workflow_type": "order", "task_queue": "q"}
        for node, workflow_id in ((one, "open-one"), (two, "open-two")):
            for name in ("doomed", "neighbour"):
                body = {**start, "workflow_id": f"{workflow_id}-{name}"}
                assert (await node.post("/api/workflows", json=body, headers={"X-Namespace": name})).status_code == 201
        await fill(look, "doomed", RUNS, time.time_ns() // 1000)
        deletion = asyncio.create_task(one.delete("/api/namespaces/doomed"))
        await until(look, "SELECT count(*) < 19000 FROM runs WHERE namespace = 'doomed'")
        nodes[0].kill()
        with pytest.raises(httpx.HTTPError):
            await deletion
        assert await look.fetchval("SELECT count(*) > 0 FROM runs WHERE namespace = 'doomed'")
        orphans = "SELECT count(*) FROM {} t WHERE NOT EXISTS (SELECT FROM runs r WHERE r.run_id = t.run_id)"
        for table in ("history", "run_marks", "run_status"):
            assert await look.fetchval(orphans.format(table)) == 0, table
        refused = await two.post("/api/workflows", json={**start, "workflow_id": "late"}, headers={"X-Namespace": "doomed"})
        assert refused.json()["reason"] == "namespace_not_found"
        await until(look, "SELECT status = 'deleted' FROM namespaces WHERE name = 'doomed'")
        for table in ("runs", "instances", "pruned_runs", "ready_tasks", "workers", "mailbox", "run_status"):
            assert await look.fetchval(f"SELECT count(*) FROM {table} WHERE namespace = 'doomed'") == 0, table
        assert await look.fetchval("SELECT count(*) FROM runs WHERE namespace = 'neighbour'") == 2
        assert await look.fetchval("SELECT count(*) FROM ready_tasks WHERE namespace = 'neighbour'") == 2
        # what the other node had in memory is worth nothing, and its name can be used again
        assert (await two.post("/api/namespaces", json={"name": "doomed"})).status_code == 201
        listed = (await two.get("/api/workflows", headers={"X-Namespace": "doomed"})).json()
        assert listed["workflows"] == []
