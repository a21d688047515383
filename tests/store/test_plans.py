"""The commit statement is planned once, often on an empty database: its plan must be right for a full one too."""

from __future__ import annotations

import re

import asyncpg
import pytest

from store import commit, commit_sql

FILL = """
INSERT INTO runs
SELECT 'r' || g, 'k' || g, g % 64, 'd', 'w' || g, 1, 'T', 'q', NULL, NULL, g, '', 1, 's', NULL, NULL, g, g, 1, 0, '{}', ''
FROM generate_series(1, 5000) g;
INSERT INTO run_marks SELECT 'r' || g, g % 64, g, true FROM generate_series(1, 5000) g;
INSERT INTO instances SELECT 'w' || g, 'd', 'T', 1, 'r', 1 FROM generate_series(1, 5000) g;
INSERT INTO ready_tasks SELECT 't' || g, 1, 'd', 'q', 'k', 't', NULL, 1, NULL, 1, g FROM generate_series(1, 5000) g;
INSERT INTO mailbox SELECT 'm' || g, 1, 'd', 'w', NULL, '' FROM generate_series(1, 5000) g;
ANALYZE
"""


@pytest.mark.parametrize("size", ["new", "0", "3", "5000"])
async def test_no_part_of_a_commit_reads_a_whole_table(dsn: str, size: str) -> None:
    connection = await asyncpg.connect(dsn, server_settings=commit.SESSION)
    try:
        if size != "new":
            await connection.execute(FILL.replace("5000", size))
        for creates in (False, True):
            for mails in (False, True):
                sql = commit_sql.statement(creates, mails, mails)
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
