"""Pages of schedules and of their audit history: in order, bounded, and read by an index (control-plane 11)."""

from __future__ import annotations

import asyncpg
import pytest

from store import schedules
from store.connections.pool import PLANNER, Database
from store.connections.pools import SEARCH_SESSION
from store.schedules import Position

FILL = """
INSERT INTO schedules (schedule_key, shard, namespace, schedule_id, version, status, created_at, updated_at, last_sequence,
    published_sequence, state, definition)
SELECT 'k' || lpad(g::text, 5, '0'), g % 64, 'd' || g % 2, 's' || g, 1, CASE WHEN g % 10 = 0 THEN 'deleted' ELSE 'active' END,
    g / 4, g, 1, 1, '\\x00', decode(repeat('ab', 100), 'hex')
FROM generate_series(1, 400) g;
INSERT INTO schedule_events (schedule_key, sequence, event_id, event_type, payload, recorded_at)
SELECT 'k00001', g, 'e' || g, 'T', '{}', g FROM generate_series(1, 5) g;
ANALYZE
"""


async def test_pages_in_order(db: Database) -> None:
    await db.execute(FILL)
    expected = sorted((-(g // 4), f"k{g:05}") for g in range(1, 401, 2))
    whole = await schedules.page(db, "d1", None, 1000, 1 << 30)
    assert [(-row.created_at, row.schedule_key) for row in whole] == expected
    found, after = [], None
    while page := await schedules.page(db, "d1", after, 7, 1 << 30):
        found += page
        after = Position(page[-1].created_at, page[-1].schedule_key)
    assert found == whole
    assert all(row.status == "active" for row in await schedules.page(db, "d0", None, 1000, 1 << 30))


@pytest.mark.parametrize(("most", "count"), [(1, 1), (101, 1), (102, 2), (1000, 10), (10_100, 100)])
async def test_no_more_than_so_many_bytes(db: Database, most: int, count: int) -> None:
    await db.execute(FILL)
    assert len(await schedules.page(db, "d1", None, 1000, most)) == count


async def test_audit_events_by_key(db: Database) -> None:
    await db.execute(FILL)
    for after, limit, expected in ((0, 9, [1, 2, 3, 4, 5]), (2, 2, [3, 4]), (5, 9, []), (99, 9, [])):
        found = await schedules.audit(db, "k00001", after, limit, 1 << 30)
        assert found is not None and [event.sequence for event in found] == expected
    for most, count in ((1, 1), (2, 1), (3, 2), (9, 5)):
        found = await schedules.audit(db, "k00001", 0, 9, most)
        assert found is not None and len(found) == count
    assert await schedules.audit(db, "k00002", 0, 9, 9) == []
    assert await schedules.audit(db, "none", 0, 9, 9) is None
    row = await schedules.get(db, "k00010")
    assert row is not None and row.status == "deleted" and await schedules.get(db, "none") is None


async def test_a_page_is_read_by_the_index_of_the_list(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings={**PLANNER, **SEARCH_SESSION})
    try:
        await connection.execute(FILL.replace("400", "5000"))
        rows = await connection.fetch(f"EXPLAIN (COSTS OFF) {schedules.PAGE}", "d1", 1000, "k00500", 50, 1 << 24)
        plan = "\n".join(row[0] for row in rows)
        assert "schedules_listing" in plan and "Seq Scan" not in plan, plan
    finally:
        await connection.close()
