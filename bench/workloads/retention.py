"""Retention: how fast a node prunes beside the standard workflow, and what that leaves behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from bench.board import WrongAnswerError
from bench.client import Client
from bench.expired import fill
from bench.fleet import checked
from bench.http import HttpError, Pool
from bench.programs import EchoProgram
from bench.rows import Result, Row, at_least, at_most, cpu_rows, plain, times_rows
from bench.stage import Stage

PRUNED_PER_SECOND = 2000.0
WAKE_P99_MS = 25.0
_TOP_SECONDS = 10.0
_SETTLE_SECONDS = 12.0  # until every node has looked what is expired
_TABLES = ("runs", "run_marks", "run_status", "history", "ready_tasks", "applied_commands", "instances", "pruned_runs")
_BARE = ("instances", "pruned_runs")
_PASS = 100
_VERIFIED_MICROS = 5_000_000  # by then the load generator has read the history of a run


async def _connected(stage: Stage) -> asyncpg.Connection:
    if not stage.options.dsn:
        raise SystemExit("retention looks into the database: it cannot be run against another server")
    return await asyncpg.connect(stage.options.dsn)


class Retention:
    """The node prunes a backlog by itself, beside an open loop of half the rate that a closed loop reached just before."""

    name = "retention"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options = stage.options
        connection = await _connected(stage)
        await fill(connection, options.namespace, options.expired, time.time_ns() // 1000)
        fleet = stage.fleet(EchoProgram(options.payload_bytes), options.workers)
        client = stage.client(fleet)
        await fleet.register()
        await fleet.park(options.polls)
        stage.background(stage.watch(fleet))
        await asyncio.sleep(options.warmup)
        top = await _top_rate(stage, client)
        stopping = asyncio.Event()
        stage.background(_open_loop(stage, client, top / 2, stopping))
        await connection.execute("UPDATE namespaces SET retention_days = 1 WHERE name = $1", options.namespace)
        await asyncio.sleep(_SETTLE_SECONDS)
        before = await connection.fetchval("SELECT count(*) FROM pruned_runs")
        began = stage.board.clock()
        await stage.window(options.duration)
        seconds = stage.board.clock() - began
        pruned = await connection.fetchval("SELECT count(*) FROM pruned_runs") - before
        left = await connection.fetchval("SELECT count(*) FROM runs WHERE run_id LIKE '0100000000%'")
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        client.close()
        await connection.close()
        return {
            "top_per_second": round(top, 1),
            "pruned_per_second": round(pruned / seconds, 1),
            "expired_left": left,
        }

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        wake = result["times_ms"].get("wake", {})
        return [
            at_least("runs pruned", result["pruned_per_second"], "runs/s", PRUNED_PER_SECOND),
            plain("expired runs left (0: all were pruned before the end)", result["expired_left"], ""),
            plain("top rate before", result["top_per_second"], "workflows/s"),
            plain("completed beside", result["completed_per_second"], "workflows/s"),
            at_most("workflow task wake p99", wake.get("p99"), "ms", WAKE_P99_MS),
            *times_rows(result, {"wake": "workflow task wake", "start_to_complete": "start to complete"}),
            *cpu_rows(result),
        ]


async def _top_rate(stage: Stage, client: Client) -> float:
    """Workflows per second of a closed loop."""
    stopping = asyncio.Event()
    verified, began = stage.board.verified, stage.board.clock()

    async def lane() -> None:
        while not stopping.is_set():
            await client.run_workflow()

    lanes = [asyncio.create_task(lane()) for _ in range(stage.options.in_flight)]
    await asyncio.sleep(_TOP_SECONDS)
    rate = (stage.board.verified - verified) / (stage.board.clock() - began)
    stopping.set()
    await asyncio.gather(*lanes)
    return rate


async def _open_loop(stage: Stage, client: Client, rate: float, stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    began, count = loop.time(), 0
    while not stopping.is_set():
        count += 1
        await asyncio.sleep(max(0.0, began + count / rate - loop.time()))
        stage.launch(client.run_workflow())


class Level:
    """Start, close, prune, again and again: the sizes of the tables level off, but for what is kept of each run."""

    name = "retention-level"
    nodes = 1

    async def run(self, stage: Stage) -> dict[str, Any]:
        options, board = stage.options, stage.board
        connection = await _connected(stage)
        fleet = stage.fleet(EchoProgram(options.payload_bytes), options.workers)
        client = stage.client(fleet)
        pool = Pool(stage.nodes[0].address)
        stopping = asyncio.Event()
        sizes: list[dict[str, int]] = []

        async def lane() -> None:
            while not stopping.is_set():
                if not await client.run_workflow():
                    await asyncio.sleep(0.05)

        async def prune() -> None:
            """All closed runs, as their events get published."""
            reader = await asyncpg.connect(options.dsn)
            while not stopping.is_set():
                rows = await reader.fetch(
                    "SELECT run_id FROM run_status WHERE namespace = $1 AND ended_at < $3 ORDER BY ended_at LIMIT $2",
                    options.namespace,
                    _PASS,
                    time.time_ns() // 1000 - _VERIFIED_MICROS,
                )
                request = stage.nodes[0].wire.retention_pass([row[0] for row in rows])
                try:
                    found = checked(await pool.request(request), 200, "retention pass")
                    board.count("pruned", found["pruned"])
                except (HttpError, WrongAnswerError) as error:
                    board.fail(f"retention pass: {error}")
                await asyncio.sleep(0.02 if len(rows) == _PASS else 0.5)
            await reader.close()

        async def sizing() -> None:
            while True:
                sizes.append(
                    {table: await connection.fetchval(f"SELECT pg_total_relation_size('{table}')") for table in _TABLES}
                )
                await asyncio.sleep(options.duration / 12)

        await fleet.register()
        await fleet.park(options.polls)
        stage.background(stage.watch(fleet))
        for _ in range(options.in_flight // 4):
            stage.launch(lane())
        stage.launch(prune())
        await asyncio.sleep(options.warmup)
        looking = asyncio.create_task(sizing())
        await stage.window(options.duration)
        looking.cancel()
        stopping.set()
        await stage.drain()
        await stage.finish()
        await fleet.stop()
        client.close()
        pool.close()
        bare = await connection.fetchval("SELECT count(*) FROM pruned_runs")
        for table in _BARE:
            await connection.execute(f"VACUUM {table}")
        kept = [await connection.fetchval(f"SELECT pg_total_relation_size('{table}')") for table in _BARE]
        await connection.close()
        return {"sizes": sizes, "bare_runs": bare, "bytes_per_bare_run": round(sum(kept) / max(bare, 1), 1)}

    def rows(self, result: Result, others: dict[str, Result]) -> list[Row]:
        sizes = result["sizes"]
        middle, last = sizes[len(sizes) // 2], sizes[-1]
        rows = [
            plain("completed", result["completed_per_second"], "workflows/s"),
            plain("pruned", round(result["counts"].get("pruned", 0) / result["window_seconds"], 1), "runs/s"),
            plain("bare runs kept", result["bare_runs"], ""),
            plain("one bare run, with its workflow id and all indexes", result["bytes_per_bare_run"], "bytes"),
        ]
        for table in _TABLES:
            mib = round(last[table] / 2**20, 1)
            if table in _BARE:
                rows.append(plain(f"{table} at the end", mib, "MiB"))
            else:  # a few pages more or less are not growth
                grown = round(100 * (last[table] - middle[table]) / max(middle[table], 2**23), 1)
                rows.append(at_most(f"{table}: {mib} MiB at the end, growth in the second half", grown, "%", 10.0))
        return rows
