"""Counts for operators on a filled database: right, and from indexes."""

from __future__ import annotations

from collections import Counter

import asyncpg

from bench.filling import fill
from store.connections.pool import PLANNER, Database
from store.connections.pools import SEARCH_SESSION
from store.migrate import migrate
from store.views import metrics
from tests.support.services import TestServices

RUNS = 20_000
NEWEST = 1_777_000_000_000_000


async def test_counts_and_plans(services: TestServices) -> None:
    url = services.empty_database()
    await migrate(url)
    await fill(url, "default", RUNS, NEWEST)
    connection = await asyncpg.connect(url, server_settings={**PLANNER, **SEARCH_SESSION})
    db = Database(url)
    await db.start()
    try:
        rows = await connection.fetch("SELECT closed_reason, run_id, started_at FROM runs")
        assert await metrics.runs_by_reason(db, "default") == Counter(row["closed_reason"] for row in rows)
        assert await metrics.runs_by_reason(db, "elsewhere") == {}
        still_open = sorted(((row["started_at"], row["run_id"]) for row in rows if row["closed_reason"] is None), reverse=True)
        found: list[tuple[int, str]] = []
        while page := await metrics.open_runs(db, "default", found[-1] if found else None, 37):
            found += [(run.started_at, run.run_id) for run in page]
        assert found == still_open
        assert await metrics.superseded(db, "default") == 0
        await _follow(connection, 5)
        assert await metrics.superseded(db, "default") == 5
        await connection.execute("VACUUM ANALYZE run_status, runs, ready_tasks")
        plans: dict[str, tuple[str, list[object]]] = {
            "runs_by_reason": ("Index Only Scan using run_status_bucket", ["default"]),
            "superseded": ("runs_later", ["default"]),
            "ready_tasks": ("ready_tasks_queue", ["default", NEWEST, NEWEST]),
            "archived": ("run_status_kept", ["default"]),
            "open_runs": ("run_status_bucket", ["default", NEWEST, "x", 100]),
        }
        for name, (index, args) in plans.items():
            lines = await connection.fetch(f"EXPLAIN {metrics.SQL[name]}", *args)
            plan = "\n".join(line[0] for line in lines)
            if name != "ready_tasks":  # an empty table is read as it lies
                assert index in plan and "Seq Scan" not in plan, plan
    finally:
        await db.stop()
        await connection.close()


async def _follow(connection: asyncpg.Connection, number: int) -> None:
    """A second run for some workflow ids."""
    await connection.execute(
        "INSERT INTO runs (run_id, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, started_at,"
        " memo, version, status, last_progress_at, last_sequence, published_sequence, search_attributes, state)"
        " SELECT 'later' || run_id, 'later' || run_key, shard, namespace, workflow_id, 2, workflow_type, task_queue,"
        " started_at + 1, memo, 1, 'waiting', started_at, 1, 1, '{}', state FROM runs"
        " WHERE closed_reason = 'completed' LIMIT $1",
        number,
    )
