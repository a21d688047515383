"""The benchmark as people run it, in processes of its own, against a small real server: good runs pass, mistakes are found."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bench.options import Options
from bench.runner import run_load
from bench.workloads import WORKLOADS
from tests.bench.running import (
    bench,
)
from tests.bench.toy_server import ToyServer

pytestmark = pytest.mark.proof

SMALL = ("--in-flight", "6", "--workers", "2", "--polls", "2")


async def test_standard_and_latency_on_a_good_server(tmp_path: Path) -> None:
    async with ToyServer() as server:
        code, output, report = await bench(tmp_path, "standard", "latency", *SMALL, "--rate", "40", "--against", server.url)
    assert code == 0, output
    standard, latency = report["workloads"]["standard"], report["workloads"]["latency"]
    assert standard["completed"] > 10
    assert standard["verified_in_all"] == standard["started_in_all"] >= standard["completed"]
    assert standard["times_ms"]["start_to_complete"]["count"] == standard["completed"]
    assert standard["groups"]["load generator"]["cpu_ms_per_workflow"] > 0
    assert abs(standard["groups"]["load generator"]["cpu_seconds"] - standard["generator_cpu_seconds"]) < 0.2
    assert 15 <= latency["completed"] <= 30  # 40 starts/s for 0.6 s
    assert latency["times_ms"]["wake"]["p50"] <= latency["times_ms"]["start_to_complete"]["p50"]
    assert "250" in output


async def test_requests_carry_what_the_contract_asks_for(tmp_path: Path) -> None:
    async with ToyServer() as server:
        await bench(tmp_path, "standard", *SMALL, "--against", server.url, "--token", "secret", "--namespace", "other")
        seen = dict(server.requests)
    assert all(headers["authorization"] == "Bearer secret" and headers["x-namespace"] == "other" for headers in seen.values())
    for path, headers in seen.items():
        worker = path.startswith("/api/worker/")
        assert headers.get("x-durable-workflow-protocol-version") == ("1.1" if worker else None)
        assert headers.get("x-durable-workflow-control-plane-version") == (None if worker else "2")


async def test_two_nodes_share_the_load(tmp_path: Path) -> None:
    """The toy nodes know nothing of each other, so a workflow that crosses them fails: what counts is that both are asked."""
    async with ToyServer() as one, ToyServer() as two:
        await bench(tmp_path, "standard2", *SMALL, "--against", one.url, "--against", two.url)
        for server in (one, two):
            paths = {path for path, _ in server.requests}
            assert {"/api/workflows", "/api/worker/workflow-tasks/poll", "/api/worker/activity-tasks/poll"} <= paths


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("result", "the result is not what the activity was given"),
        ("order", "wrong history"),
        ("twice", "the activity came 2 times"),
        ("refuse", "HTTP 503"),
        ("pages", "page token without need"),
    ],
)
async def test_mistakes_of_the_server_are_found(tmp_path: Path, mistake: str, words: str) -> None:
    async with ToyServer(mistake) as server:
        code, output, report = await bench(tmp_path, "standard", *SMALL, "--against", server.url)
    assert code == 1, output
    assert words in output
    assert report["workloads"]["standard"]["failure_count"] > 0


async def test_idle_polls_are_held_and_renewed(tmp_path: Path) -> None:
    async with ToyServer(hold=1.0) as server:
        code, output, report = await bench(tmp_path, "idle", "--parked", "60", "--against", server.url)
    assert code == 0, output
    idle = report["workloads"]["idle"]
    assert idle["parked"] == 60
    assert idle["window_seconds"] >= 0.9  # a whole hold, as exactly as timers are
    assert idle["times_ms"]["workflow_poll_hold"]["p50"] == pytest.approx(1000, abs=200)
    assert idle["times_ms"]["health"]["count"] >= 2


async def test_a_lost_task_is_found(tmp_path: Path) -> None:
    async with ToyServer("lose") as server:
        code, output, _ = await bench(tmp_path, "standard", *SMALL, "--patience", "1", "--against", server.url)
    assert code == 1
    assert "not complete after 1 s" in output


async def test_unreachable_server(tmp_path: Path) -> None:
    async with ToyServer() as server:
        url = server.url
    code, output, _ = await bench(tmp_path, "standard", "--against", url)
    assert code == 1
    assert "cannot connect" in output


async def test_missed_targets_count_only_when_asked(tmp_path: Path) -> None:
    async with ToyServer(delay=0.01) as server:
        arguments = ("standard", "--in-flight", "1", "--workers", "1", "--polls", "1", "--against", server.url)
        lenient, output, report = await bench(tmp_path, *arguments)
        strict, _, _ = await bench(tmp_path, *arguments, "--strict")
    assert [row["met"] for row in report["rows"] if row["label"] == "completed"] == [False], output
    assert (lenient, strict) == (0, 2)


async def test_cpu_of_the_groups_is_that_of_the_window() -> None:
    """A process that burns a whole core (as far as it gets one) stands in the place of a node, beside the real load."""
    burner = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        async with ToyServer() as server:
            options = Options(urls=(server.url,), warmup=0.2, duration=1.0, in_flight=1, workers=1, polls=1)
            result = await asyncio.to_thread(run_load, "standard", options, {"nodes": [burner.pid]})
    finally:
        burner.kill()
        await burner.wait()
    nodes = result["groups"]["nodes"]
    assert 15 <= nodes["core_percent"] <= 110
    assert nodes["cpu_ms_per_workflow"] == pytest.approx(1000 * nodes["cpu_seconds"] / result["completed"], rel=0.01)
    assert result["machine_busy_percent"] > 10
    rows = {row.label: row for row in WORKLOADS["standard"].rows(result, {})}
    assert rows["CPU nodes"].value == nodes["cpu_ms_per_workflow"]
    assert rows["CPU nodes"].target == "<= 2.5"
