"""Fills a database with runs to search, by SQL alone: no node sees them made, and nothing but lists looks at them.

The runs are spread over thirty days, one in a hundred and one still open, 3 % failed, 0.5 % cancelled. Each has five search
attributes: a keyword of 20,000 customers, one of eight regions, a number, a date-time and a list of two tags of fifty.
"""

from __future__ import annotations

import asyncpg

CUSTOMERS = 20_000
TYPES = 20
SPREAD_MICROS = 30 * 86_400 * 1_000_000
STATE_BYTES = 600
_AT_ONCE = 100_000
_STATEMENT_SECONDS = 900

# $1 to $2: numbers of the runs; $3: how many there will be; $4: the time of the newest; $5: namespace.
_FILL = f"""
INSERT INTO runs (
    run_id, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility,
    started_at, memo, version, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence, published_sequence,
    search_attributes, state
)
SELECT
    '01filled' || lpad(g::text, 17, '0') || 'r', lpad(g::text, 15, '0'), g % 64, $5, 'filled-' || md5(g::text), 1,
    'filled.type' || (sqrt(h % 400)::int % {TYPES}), 'queue-' || h % 10,
    CASE WHEN g % 4 = 0 THEN 'order-' || g END, CASE WHEN h % 100 = 0 THEN 'build-' || h % 3 END,
    at, '{{}}', 5, status, CASE WHEN status <> 'waiting' THEN status END,
    CASE WHEN status <> 'waiting' THEN at + h % 60000000 END, at + h % 60000000, NULL, 9, 9,
    jsonb_build_object(
        'Customer', 'cust-' || h % {CUSTOMERS}, 'Region', 'region-' || (h / 7) % 8, 'Amount', (h / 11) % 10000,
        'Due', to_char(to_timestamp(at / 1000000 + (h / 13) % 864000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'Tags', jsonb_build_array('tag-' || (h / 17) % 50, 'tag-' || (h / 19) % 50)
    ),
    decode(repeat(md5(g::text), {STATE_BYTES // 16}), 'hex')
FROM (
    SELECT g, hashint8(g)::int8 & 2147483647 AS h, $4::int8 - {SPREAD_MICROS} + g * {SPREAD_MICROS} / $3::int8 AS at
    FROM generate_series($1::int8, $2::int8) AS g
) AS n, LATERAL (
    SELECT CASE WHEN g % 101 = 0 THEN 'waiting' WHEN h % 1000 < 30 THEN 'failed' WHEN h % 1000 < 35 THEN 'cancelled'
        ELSE 'completed' END AS status
) AS s
"""


# What triggers do for each run, once for all.
_STATUS = """
INSERT INTO run_status (namespace, bucket, started_at, run_id, ended_at, workflow_type, end_reason)
SELECT namespace, run_bucket(closed_reason), started_at, run_id, closed_at, workflow_type, closed_reason FROM runs
WHERE run_id LIKE '01filled%' AND namespace = $1
"""


async def fill(dsn: str, namespace: str, runs: int, newest: int) -> None:
    """Make `runs` runs, the newest started at `newest` (microseconds), and let the database learn what it holds.

    Nothing else may write runs meanwhile.
    """
    settings = {"synchronous_commit": "off", "gin_pending_list_limit": "65536"}
    connection = await asyncpg.connect(dsn, server_settings=settings)

    async def do(sql: str, *values: object) -> None:
        await connection.execute(sql, *values, timeout=_STATEMENT_SECONDS)

    try:
        await do("ALTER TABLE runs DISABLE TRIGGER USER")
        await do("ALTER INDEX runs_search_attributes SET (fastupdate = on)")
        for first in range(1, runs + 1, _AT_ONCE):
            await do(_FILL, first, min(first + _AT_ONCE - 1, runs), runs, newest, namespace)
        await do(_STATUS, namespace)
        await do("SELECT gin_clean_pending_list('runs_search_attributes')")
        await do("ALTER INDEX runs_search_attributes SET (fastupdate = off)")
        await do("ALTER TABLE runs ENABLE TRIGGER USER")
        await do("VACUUM (ANALYZE) runs")
        await do("VACUUM (ANALYZE) run_status")
    finally:
        await connection.close()
