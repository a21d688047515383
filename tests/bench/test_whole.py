"""The benchmark with everything it starts: embedded Postgres and NATS, two nodes, the load, a profile."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.bench.running import bench


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.skipif(importlib.util.find_spec("node.wiring") is None, reason="this tree has no server yet")
@pytest.mark.proof
async def test_two_nodes_run_verified_workflows(tmp_path: Path) -> None:
    code, output, report = await bench(tmp_path, "standard2", "--in-flight", "8", "--duration", "3", "--warmup", "2")
    assert code == 0, output
    result = report["workloads"]["standard2"]
    assert result["completed"] > 0
    assert result["verified_in_all"] == result["started_in_all"]
    assert {name: group["processes"] > 0 for name, group in result["groups"].items()} == {
        "nodes": True,
        "postgres": True,
        "nats": True,
        "load generator": True,
    }
    assert result["groups"]["nodes"]["processes"] >= 2
    assert all(group["cpu_seconds"] > 0 for group in result["groups"].values())
