"""The server against the pure core: the same operations, the same histories and answers, through restarts and evictions.

One seed by default; DW_TEST_SEED chooses another, DW_TEST_SCALE multiplies the number of operations.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from node.config import Config
from node.embedded.process import spawn
from node.settings import engine_rules
from tests.cluster.client import ClusterClient
from tests.differential.driver import Driver
from tests.differential.model import RunOracle
from tests.differential.session import Session
from tests.support.server import DEFAULTS, ServerProcess
from tests.support.services import Deployment, clean_environment

SEED = int(os.environ.get("DW_TEST_SEED", "4"))
SCALE = int(os.environ.get("DW_TEST_SCALE", "1"))
OPERATIONS = 350
LIMIT_SECONDS = 300.0

ENVIRONMENT = {
    "DW_WORKFLOW_TASK_TIMEOUT": "5",
    "DW_ACTIVITY_TASK_TIMEOUT": "5",
    "DW_WORKER_POLL_TIMEOUT": "1",
    "DW_WORKER_STALE_AFTER_SECONDS": "3600",
    "DW_V2_TASK_REPAIR_REDISPATCH_AFTER_SECONDS": "1",
    "DW_V2_LIMIT_PENDING_TIMERS": "6",
}

pytestmark = [pytest.mark.cluster, pytest.mark.proof]


class SmallCache(ServerProcess):
    """A node that keeps a few runs in memory and evicts the others all the time."""

    def start(self, *, wait: bool = True) -> ServerProcess:
        assert not self.running
        command = [sys.executable, "-m", "tests.differential.small_cache", "serve", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--node-id", self.node_id]
        environment = clean_environment({**DEFAULTS, **self.place.environment(), **ENVIRONMENT})
        with self.log_file.open("ab") as log:
            self._process = spawn(command, death_signal=signal.SIGKILL, output=log, env=environment)
        return self.wait_ready() if wait else self


@asynccontextmanager
async def two_nodes(place: Deployment, log_dir: Path) -> AsyncIterator[list[ServerProcess]]:
    """Two ready nodes, the second with a small cache."""
    nodes = [
        ServerProcess(place, log_dir, node_id="large", env=ENVIRONMENT),
        SmallCache(place, log_dir, node_id="small"),
    ]
    try:
        for node in nodes:
            node.start(wait=False)
        for node in nodes:
            await node.ready()
        yield nodes
    finally:
        for node in nodes:
            if node.running:
                node.signal(signal.SIGTERM)
        for node in nodes:
            await asyncio.to_thread(node.stop)


async def test_server_and_core_agree(place: Deployment, tmp_path: Path) -> None:
    rules = engine_rules(Config.read(clean_environment({**ENVIRONMENT, **place.environment()})), 64)
    async with two_nodes(place, tmp_path) as nodes:
        client = ClusterClient(nodes)
        session = Session(Driver(client, RunOracle(rules), Random(SEED)), nodes)
        begun = time.monotonic()
        try:
            await session.run(OPERATIONS * SCALE, LIMIT_SECONDS * SCALE)
            assert not session.missing, f"never succeeded: {sorted(session.missing)}"
        finally:
            print(f"\nseed {SEED}: {session.operations} operations in {time.monotonic() - begun:.0f} s")
            print("\n".join(f"{count:6} {name}" for name, count in sorted(session.counts.items())))
            await session.stop()
            client.close()
