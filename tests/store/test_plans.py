"""Statements are planned once, often on an empty database: the plans must be right for a full one too."""

from __future__ import annotations

import re

import asyncpg
import pytest

from store import ready_tasks
from store.commit import group, schedule_writes, statement
from store.connections.pool import PLANNER
from store.connections.pools import SEARCH_SESSION
from store.sql import beside
from store.views import task_queues
from store.visibility.conditions import All, Condition, InBucket, Part
from store.visibility.listing import Position, listing_sql

FILL = """
INSERT INTO runs
SELECT 'r' || g, 'k' || g, g % 64, 'd', 'w' || g, 1, 'T', 'q', NULL, NULL, g, '', 1, 's', NULL, NULL, g, g, 1, 0, '{}', ''
FROM generate_series(1, 5000) g;
INSERT INTO run_marks SELECT 'r' || g, g % 64, g, true FROM generate_series(1, 5000) g;
INSERT INTO instances SELECT 'w' || g, 'd', 'T', 1, 'r', 1 FROM generate_series(1, 5000) g;
INSERT INTO ready_tasks SELECT 't' || g, 1, 'd', 'q', 'k', 't', NULL, 1, NULL, 1, g FROM generate_series(1, 5000) g;
INSERT INTO admission_permits SELECT 's' || g % 50, g, 'r', 't', 1 FROM generate_series(1, 5000) g;
INSERT INTO mailbox SELECT 'm' || g, 1, 'd', 'w', NULL, '' FROM generate_series(1, 5000) g;
INSERT INTO schedules SELECT 's' || g, 3, 'd', 's' || g, 1, 'active', g, g, g, 1, 0, '', '' FROM generate_series(1, 5000) g;
INSERT INTO schedule_events SELECT 's' || g, 1, 'e' || g, 't', '', g FROM generate_series(1, 5000) g;
ANALYZE
"""


@pytest.mark.parametrize("size", ["new", "0", "3", "5000"])
async def test_no_part_of_a_commit_of_schedules_reads_a_whole_table(dsn: str, size: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings=group.SESSION)
    try:
        if size != "new":
            await connection.execute(FILL.replace("5000", size))
        sql = schedule_writes.statement()
        arrays = max(int(number) for number in re.findall(r"\$(\d+)", sql))
        await connection.execute(f"PREPARE schedules_commit AS {sql}")
        empty = ", ".join(["'{}'"] * arrays)
        rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE schedules_commit({empty})")
        plan = "\n".join(row[0] for row in rows)
        assert not re.search(r"Seq Scan|Hash|Merge|Materialize", plan), plan
        for node in re.findall(r"Index (?:Only )?Scan[^\n]*\n([^\n]*)", plan):
            assert "Index Cond" in node, plan
    finally:
        await connection.close()


@pytest.mark.parametrize("size", ["new", "0", "3", "5000"])
async def test_no_part_of_a_commit_reads_a_whole_table(dsn: str, size: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings=group.SESSION)
    try:
        if size != "new":
            await connection.execute(FILL.replace("5000", size))
        for creates in (False, True):
            for mails in (False, True):
                sql = statement.statement(creates, mails, mails, mails, mails)
                arrays = max(int(number) for number in re.findall(r"\$(\d+)", sql))
                name = f"commit_{creates}_{mails}"
                await connection.execute(f"PREPARE {name} AS {sql}")
                empty = ", ".join(["'{}'"] * arrays)
                rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {name}({empty})")
                plan = "\n".join(row[0] for row in rows)
                assert not re.search(r"Seq Scan|Hash|Merge|Materialize", plan), plan
                for node in re.findall(r"Index (?:Only )?Scan[^\n]*\n([^\n]*)", plan):
                    assert "Index Cond" in node, plan
    finally:
        await connection.close()


@pytest.mark.parametrize("bucket", [None, "running"])
@pytest.mark.parametrize("query", [None, "w49"])
@pytest.mark.parametrize("size", ["new", "5000"])
async def test_a_page_of_runs_is_read_from_its_position_on(dsn: str, size: str, query: str | None, bucket: str | None) -> None:
    """The index leads to the position, and gives the order: what lies before is not read, what lies behind not sorted whole."""
    mode = SEARCH_SESSION if bucket and size != "new" else {"plan_cache_mode": "force_generic_plan"}
    connection = await asyncpg.connect(dsn, server_settings={**PLANNER, **mode})
    try:
        if size != "new":
            await connection.execute(FILL)
        parts: list[Condition] = [
            each for each in (InBucket(bucket) if bucket else None, Part(query) if query else None) if each
        ]
        sql, _ = listing_sql("d", All(tuple(parts)), Position(2500, "r2500"), 51, by_status=bucket is not None)
        await connection.execute(f"PREPARE page AS {sql}")
        given = [f"'{each}'" for each in (bucket, query) if each]
        values = ", ".join(["'d'", *given, "2500", "'r2500'", "51"])
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE page({values})"))
        assert "Seq Scan" not in plan, plan
        if bucket:
            entered = r"Index Only Scan using run_status_bucket .*\n\s*Index Cond: .*in_namespace = .*bucket = .*began_at <= "
            assert size == "new" or re.search(entered, plan), plan
        else:
            assert "Index Scan using runs_listing" in plan, plan
            assert re.search(r"Index Cond: \(\(namespace = \$1\) AND \(started_at <= \$\d\)\)", plan), plan
            assert re.search(r"Incremental Sort\n.*\n\s*Presorted Key: started_at", plan), plan
    finally:
        await connection.close()


ROWS = """
TRUNCATE ready_tasks;
INSERT INTO ready_tasks
SELECT 't' || g, 1, 'd', 'q' || g % 3, 'k', 't' || g % 7, CASE g % 4 WHEN 0 THEN 'blue' END, g % 5,
    CASE g % 3 WHEN 0 THEN 'c' || g % 50 END, 1, g
FROM generate_series(1, 20000) g;
ANALYZE ready_tasks
"""


@pytest.mark.parametrize("size", ["new", "3", "20000"])
@pytest.mark.parametrize(("column", "resumed"), [("lane", False), ("lane", True), ("pool", False), ("pool", True), ("", False)])
async def test_ready_tasks_are_read_by_index_alone(dsn: str, column: str, resumed: bool, size: str) -> None:
    """Every step enters an index with all it looks for, also with a plan made when the table was empty."""
    connection = await asyncpg.connect(dsn, server_settings={**PLANNER, "plan_cache_mode": "force_generic_plan"})
    try:
        if size != "new":
            await connection.execute(ROWS.replace("20000", size))
        sql = ready_tasks.claimable_sql(column, resumed=resumed) if column else ready_tasks.READY_SQL
        values = "'d', 'q1', 'k', 10" if not column else "'d', 'q1', 'k', ARRAY['', 'blue'], 10, 10, 100"
        kinds = "text, text, text, int8" if not column else "text, text, text, text[], int8, int8, int8"
        if resumed:
            values, kinds = f"{values}, 2, 'c'", f"{kinds}, int4, text"
        if column == "lane":
            values, kinds = f"{values}, ARRAY['t1', 't2']", f"{kinds}, text[]"
        await connection.execute(f"PREPARE look ({kinds}) AS {sql}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE look({values})"))
        assert "Seq Scan" not in plan, plan
        found = re.findall(r"Index (?:Only )?Scan using (\w+) on ready_tasks[^\n]*\n\s*Index Cond: ([^\n]*)", plan)
        assert len(found) == plan.count(" on ready_tasks") and {name for name, _ in found} == {
            f"ready_tasks_{column or 'pool'}"
        }
        assert all(re.search(r"\b(lane|marker|pool) = ", condition) for _, condition in found), plan
        sorted_there = re.search(r"Sort\n(?:[^\n]* Key: [^\n]*\n)+[^\n]*Index[^\n]* on ready_tasks", plan)
        assert not sorted_there, "the order comes from the index"
    finally:
        await connection.close()


@pytest.mark.parametrize("size", ["new", "5000"])
async def test_views_of_task_queues_read_by_index(dsn: str, size: str) -> None:
    """Leases by the open runs of a namespace, ready tasks of one queue by its pools."""
    mode = {} if size != "new" else {"plan_cache_mode": "force_generic_plan"}
    connection = await asyncpg.connect(dsn, server_settings={**PLANNER, **SEARCH_SESSION, **mode})
    try:
        if size != "new":
            await connection.execute(FILL)
        parts = beside(task_queues.__file__)
        await connection.execute(f"PREPARE leases AS {parts['leases']}")
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN (COSTS OFF) EXECUTE leases('x')"))
        assert "Index Only Scan using run_status_bucket" in plan or "using run_status_bucket" in plan, plan
        assert "Seq Scan on runs" not in plan and "Seq Scan on run_marks" not in plan, plan
        await connection.execute(f"PREPARE ready (text, int8, int8, text) AS {parts['ready_in_queue']}")
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN (COSTS OFF) EXECUTE ready('x', 1, 1, 'q')"))
        assert "ready_tasks_pool" in plan and "Seq Scan" not in plan, plan
    finally:
        await connection.close()
