"""The export of a long run: the first byte comes at once, and the node does not hold the whole of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from durable_workflow.history_bundle_verify import verify_bundle_json

from tests.api.driver import Http
from tests.support.server import ServerProcess

EVENTS = 10_000
PAYLOAD_BYTES = 3000
BATCH = 500
MOST_MIB = 40

pytestmark = pytest.mark.proof


def resident_mib(pid: int, key: str) -> float:
    """Memory of a process: VmRSS now, VmHWM at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def forget_highest(pid: int) -> None:
    """From here on the highest memory is that of now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def long_run(http: Http, workflow_id: str) -> str:
    """A run of that many events, an activity of two events among many side effects."""
    await http.register(worker_id=http.worker)
    run_id: str = (await http.start(workflow_id=workflow_id))["run_id"]
    effects = [{"type": "record_side_effect", "result": f"{'x' * PAYLOAD_BYTES}"} for _ in range(BATCH)]
    for _ in range(EVENTS // BATCH):
        await http.complete(await http.poll(), *effects, {"type": "start_timer", "delay_seconds": 0})
    await http.complete(await http.poll(), {"type": "complete_workflow", "result": "done"})
    return run_id


async def test_a_long_run_is_exported_in_little_memory(http: Http, server: ServerProcess) -> None:
    run_id = await long_run(http, "long")
    path = f"/api/workflows/long/runs/{run_id}/history/export"
    forget_highest(server.pid)
    before = resident_mib(server.pid, "VmRSS")
    began = time.monotonic()
    first = 0.0
    slowest = 0.0
    pieces: list[bytes] = []

    async def others() -> None:
        nonlocal slowest
        while True:
            asked = time.monotonic()
            assert (await http.client.get("/api/health")).status_code == 200
            slowest = max(slowest, time.monotonic() - asked)
            await asyncio.sleep(0.005)

    looking = asyncio.create_task(others())
    async with http.client.stream("GET", path) as response:
        assert response.status_code == 200
        async for piece in response.aiter_bytes():
            first = first or time.monotonic() - began
            pieces.append(piece)
    took = time.monotonic() - began
    looking.cancel()
    grown = resident_mib(server.pid, "VmHWM") - before
    text = b"".join(pieces)
    print(f"{len(text) >> 20} MiB in {took:.2f} s, first byte {first * 1000:.0f} ms, memory +{grown:.1f} MiB, "
          f"slowest other request {slowest * 1000:.0f} ms")  # fmt: skip
    report = verify_bundle_json(text.decode())
    assert report["status"] == "ok", report["findings"]
    assert report["bundle"]["history_event_count"] >= EVENTS * 0.99
    assert len(text) > 20 << 20
    assert grown <= MOST_MIB
