"""Fills a database with closed runs that are old enough to be pruned, history and marks included, by SQL alone."""

from __future__ import annotations

import asyncpg
import msgspec

DAYS_OLD = 5
_AT_ONCE = 20_000
_STATEMENT_SECONDS = 900
_COMMITS = 4  # that recorded events, per run: as the standard workflow
_HISTORY_BYTES = 900  # of each

_STATE = {
    "namespace": "default",
    "workflow_id": "w" * 24,
    "run_id": "0" * 26,
    "workflow_type": "bench.echo",
    "task_queue": "q" * 16,
    "started_at": 1,
    "status": "completed",
    "closed_reason": "completed",
    "closed_at": 2,
    "last_sequence": 9,
    "view": {"settled": b"0" * 300},
}

_RUNS = """
INSERT INTO runs (
    run_id, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility,
    started_at, memo, version, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence, published_sequence,
    search_attributes, state
)
SELECT
    '0100000000' || key || '0', key, shard, $3, 'expired-' || md5(g::text), 1, 'bench.echo', 'expired', NULL, NULL,
    $4::int8 + g, '{}', 5, 'completed', 'completed', $4::int8 + g + 50000, $4::int8 + g + 50000, NULL, 9, 9, '{}', $5
FROM (
    SELECT g, g % 64 AS shard,
        substr('01', g % 64 / 32 + 1, 1) || substr('0123456789abcdefghjkmnpqrstvwxyz', g % 32 + 1, 1)
            || lpad(g::text, 13, '0') AS key
    FROM generate_series($1::int4, $2::int4) AS g
) AS n
"""
_INSTANCES = """
INSERT INTO instances (workflow_id, namespace, workflow_type, shard, current_run_id, run_count)
SELECT workflow_id, namespace, workflow_type, shard, run_id, 1 FROM runs WHERE run_id LIKE '0100000000%'
"""
_MARKS = "INSERT INTO run_marks SELECT run_id, shard, NULL, false FROM runs WHERE run_id LIKE '0100000000%'"
_HISTORY = f"""
INSERT INTO history (run_id, first_sequence, last_sequence, body)
SELECT run_id, 2 * n - 1, 2 * n, decode(repeat(md5(run_id || n), {_HISTORY_BYTES // 16}), 'hex')
FROM runs, generate_series(1, {_COMMITS}) AS n WHERE run_id LIKE '0100000000%'
"""


async def fill(connection: asyncpg.Connection, namespace: str, runs: int, now: int) -> None:
    """Make `runs` runs that closed `DAYS_OLD` days before `now` (microseconds)."""
    state = msgspec.msgpack.encode(_STATE)
    at = now - DAYS_OLD * 86_400 * 1_000_000
    await connection.execute("SET synchronous_commit = off")
    for first in range(1, runs + 1, _AT_ONCE):
        upto = min(first + _AT_ONCE - 1, runs)
        await connection.execute(_RUNS, first, upto, namespace, at, state, timeout=_STATEMENT_SECONDS)
    for sql in (_INSTANCES, _MARKS, _HISTORY):
        await connection.execute(sql, timeout=_STATEMENT_SECONDS)
    for table in ("runs", "run_marks", "run_status", "history", "instances"):
        await connection.execute(f"VACUUM (ANALYZE) {table}", timeout=_STATEMENT_SECONDS)
