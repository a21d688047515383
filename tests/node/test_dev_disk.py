"""`dw-server dev` whose NATS ran out of disk: it restarts its NATS when there is space again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import nats
import pytest

from node.embedded.process import pids_where
from tests.support.commands import CONTROL, Dev
from tests.support.disk import small_disk

START = {"workflow_type": "idle", "task_queue": "nobody", "input": []}


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.2)


async def events_in(url: str) -> tuple[int, int]:
    """First sequence and number of events of the stream."""
    client = await nats.connect(url)
    try:
        state = (await client.jetstream().stream_info("dw_events")).state
        return state.first_seq, state.messages
    finally:
        await client.close()


@pytest.mark.proof
def test_dev_restarts_its_nats_that_was_out_of_disk(tmp_path: Path) -> None:
    auth = {"Authorization": "Bearer dev-token", **CONTROL}
    with small_disk(tmp_path / "nats" / "jetstream", 48) as disk, Dev(tmp_path) as dev, httpx.Client(timeout=30) as client:

        def start() -> object:
            assert client.post(f"{dev.url}/api/workflows", headers=auth, json=START).status_code == 201
            return None

        def trouble() -> object:
            return client.get(f"{dev.url}/api/ready").json()["checks"].get("events")

        def servers() -> list[int]:
            return pids_where(lambda argv: argv[0].endswith("nats-server") and str(tmp_path) in " ".join(argv))

        for _ in range(5):
            start()
        until(lambda: not trouble())
        before = servers()
        disk.fill()
        until(lambda: start() or trouble())
        assert client.get(f"{dev.url}/api/ready").status_code == 200, "slower, never wrong"
        disk.free()
        until(lambda: servers() and servers() != before)
        until(lambda: not trouble())
        first, count = asyncio.run(events_in((tmp_path / "nats" / "url").read_text().strip()))
        assert first == 1, "it is the same stream"
        assert count > 10
        code, errors = dev.stop()
        assert code == 0
        assert errors.count("the event stream stands still") == errors.count("the event stream works again") == 1, errors
        assert "Traceback" not in errors and "made anew" not in errors
