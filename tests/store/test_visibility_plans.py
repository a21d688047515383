"""The plans of lists and searches on a filled database: none reads all runs, each enters where the fewest are."""

from __future__ import annotations

import asyncpg
import pytest

from actors.visibility.meaning import condition_of
from actors.visibility.values import date_time
from bench.filling import SPREAD_MICROS, fill
from store.connections.pool import PLANNER
from store.connections.pools import SEARCH_SESSION
from store.migrate import migrate
from store.visibility.conditions import All, Condition, InBucket, Text
from store.visibility.listing import Position, count_sql, listing_sql
from tests.support.services import TestServices

RUNS = 20_000
NEWEST = 1_777_000_000_000_000
DAY = 86_400 * 1_000_000
MIDDLE = NEWEST - SPREAD_MICROS // 2
RANGE = f'StartTime BETWEEN "{date_time(MIDDLE)}" AND "{date_time(MIDDLE + DAY)}"'
CLOSED = f'CloseTime BETWEEN "{date_time(MIDDLE)}" AND "{date_time(MIDDLE + DAY // 24)}"'

# What is asked, and an index of the plan.
CASES: list[tuple[str, str]] = [
    ("", "runs_listing"),
    ("type:filled.type19", "runs_type"),
    ("type:no such", "runs_type"),
    ("status:running", "run_status_bucket"),
    ("status:failed", "run_status_bucket"),
    ("status:completed", "runs_listing"),
    ("type:filled.type5 status:failed", "run_status_bucket"),
    ('WorkflowType = "filled.type7" AND Customer = "cust-77"', "runs_search_attributes"),
    ('Customer = "cust-77"', "runs_search_attributes"),
    ('Customer IN ("cust-1", "cust-2")', "runs_search_attributes"),
    ('Customer = "cust-1" OR Customer = "cust-2" AND Status = "failed"', "runs_search_attributes"),
    ('Customer = "cust-77" AND Amount > 5', "runs_search_attributes"),
    ("Amount = 77", "runs_search_attributes"),
    ('Region = "region-3"', "runs_listing"),
    ('Tags = "tag-7" AND Customer = "cust-7"', "runs_search_attributes"),
    ("Amount BETWEEN 10 AND 20", "runs_listing"),
    ('Region STARTS_WITH "region-3"', "runs_listing"),
    (f'Due > "{date_time(MIDDLE)}"', "runs_listing"),
    ("Amount IS NULL", "runs_listing"),
    ('NOT Region = "region-3"', "runs_listing"),
    (RANGE, "runs_listing"),
    (f'{RANGE} AND WorkflowType = "filled.type9"', "runs_type"),
    (f'{RANGE} AND Status = "running"', "run_status_bucket"),
    (CLOSED, "run_status_closed"),
    (f'CloseTime > "{date_time(NEWEST)}"', "run_status_closed"),
    ('Status = "cancelled"', "run_status_bucket"),
    ('WorkflowId = "filled-c4ca4238a0b923820dcc509a6f75849b"', "runs_workflow_id"),
    ('WorkflowId STARTS_WITH "filled-c4ca"', "runs_workflow_id"),
    ('RunId = "01filled00000000000000077r"', "runs_pkey"),
    ('BusinessKey = "order-76"', "runs_business_key"),
    ('TaskQueue = "nobody"', "runs_task_queue"),
    ('BuildId = "build-1"', "runs_compatibility"),
    ("no such text", "runs_listing"),
]


@pytest.fixture(scope="module")
def filled(services: TestServices) -> str:
    """A database of its own with runs in it, not filled yet."""
    return services.empty_database()


def condition(text: str) -> Condition | None:
    """A query, or the filters of the list route as words."""
    if not text:
        return None
    if not text.startswith(("type:", "status:")):
        return condition_of(text, {})
    parts: list[Condition] = []
    for word in text.replace("no such", "none").split():
        name, _, value = word.partition(":")
        parts.append(Text("workflow_type", "=", value) if name == "type" else InBucket(value))
    return All(tuple(parts))


async def _plan(connection: asyncpg.Connection, sql: str, args: list[object]) -> tuple[float, str]:
    plan = "\n".join(found[0] for found in await connection.fetch(f"EXPLAIN {sql}", *args))
    return float(plan.split("..")[1].split(" ")[0]), plan


async def test_no_search_reads_all_runs(filled: str) -> None:
    """The cheaper of the two ways is taken, as `store.visibility.listing` does."""
    await migrate(filled)
    await fill(filled, "default", RUNS, NEWEST)
    connection = await asyncpg.connect(filled, server_settings={**PLANNER, **SEARCH_SESSION})
    wrong = []
    try:
        for text, index in CASES:
            for after in (None, Position(MIDDLE, "x")):
                ways = [listing_sql("default", condition(text), after, 51, by_status=by_status) for by_status in (False, True)]
                plans = [await _plan(connection, *way) for way in ways]
                if "status" not in index:
                    plans = plans[:1]
                _, plan = min(plans)
                if "Seq Scan" in plan or (after is None and index not in plan):
                    wrong.append(f"{text}: not by {index}\n{plan}")
            _, plan = await _plan(connection, *count_sql("default", condition(text)))
            if "Seq Scan" in plan:
                wrong.append(f"count, {text}\n{plan}")
    finally:
        await connection.close()
    assert not wrong, "\n\n".join(wrong)
