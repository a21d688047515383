"""A node id belongs to one living process: twins, copies of a frozen node, supervisors that were killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bench.payloads import decode_stored
from node.embedded import free_port
from node.embedded.process import spawn
from node.server import REPLACED_EXIT
from node.supervisor import node_command
from tests.cluster.client import ClusterClient
from tests.conftest import MakeCluster
from tests.support.server import DEFAULTS, ServerProcess
from tests.support.services import TestServices, clean_environment

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.proof]

LEASE_SECONDS = 3.0
WORKFLOWS = 12


class Signals:
    """Numbered signals to a few workflows, one after the other each, through some nodes, inside `async with`.

    What was answered 202 at its first try must stand in history once.
    """

    def __init__(self, nodes: list[ServerProcess]) -> None:
        self.client = ClusterClient(nodes)
        self.acknowledged: dict[str, list[int]] = {}
        self.repeated: dict[str, set[int]] = {}
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Signals:
        for number in range(WORKFLOWS):
            workflow_id = f"signalled-{number}"
            body = {
                "workflow_id": workflow_id,
                "workflow_type": "t",
                "task_queue": "nobody",
                "duplicate_policy": "use-existing",
            }
            started = await self.client.post("/api/workflows", body)
            assert started.status in (200, 201), started
            self.acknowledged[workflow_id], self.repeated[workflow_id] = [], set()
        self._running = [asyncio.create_task(self._send(workflow_id)) for workflow_id in self.acknowledged]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._running)
        self.client.close()

    async def _send(self, workflow_id: str) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            reply = await self.client.post(f"/api/workflows/{workflow_id}/signal/tick", {"input": [number]})
            if reply.status == 202:
                self.acknowledged[workflow_id].append(number)
            if reply.status != 202 or reply.tries > 1:
                self.repeated[workflow_id].add(number)
            await asyncio.sleep(0.02)

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    async def more(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.count + count
        async with asyncio.timeout(seconds):
            while self.count < wanted:
                await asyncio.sleep(0.02)

    async def check(self) -> None:
        """Every acknowledged signal stands in history, and once if it was sent once."""
        self._stop.set()
        await asyncio.gather(*self._running)
        assert self.count > 50
        for workflow_id, numbers in self.acknowledged.items():
            shown = await self.client.get(f"/api/workflows/{workflow_id}")
            seen: list[int] = []
            token = ""
            while True:
                path = f"/api/workflows/{workflow_id}/runs/{shown.body['run_id']}/history?page_size=1000{token}"
                page = (await self.client.get(path)).body
                received = [event["payload"] for event in page["events"] if event["event_type"] == "SignalReceived"]
                seen += [decode_stored(payload["arguments"])[0] for payload in received]
                if not page.get("next_page_token"):
                    break
                token = f"&next_page_token={page['next_page_token']}"
            assert set(numbers) <= set(seen), (workflow_id, sorted(set(numbers) - set(seen)))
            twice = [number for number in set(seen) if seen.count(number) > 1 and number not in self.repeated[workflow_id]]
            assert not twice, (workflow_id, twice)


async def test_a_twin_is_refused_and_nothing_is_recorded_twice(cluster: MakeCluster, tmp_path: Path) -> None:
    made = cluster(2)
    twin = ServerProcess(made.place, tmp_path, node_id=made[1].node_id)
    async with Signals(made.nodes) as signals:
        twin.start(wait=False)
        code = await asyncio.to_thread(twin.wait, 30)
        await signals.more(200)
        await signals.check()
    said = twin.log_tail()
    assert code == 1 and f"node id {made[1].node_id} belongs to a living process" in said, said
    assert "Traceback" not in said
    assert all(node.running for node in made.nodes)


async def test_a_frozen_process_that_was_replaced_ends_when_it_thaws(cluster: MakeCluster, tmp_path: Path) -> None:
    made = cluster(2)
    frozen = made[1]
    replacement = ServerProcess(made.place, tmp_path, node_id=frozen.node_id)
    try:
        async with Signals([made[0]]) as signals:
            await signals.more(100)
            frozen.signal(signal.SIGSTOP)
            begun = time.monotonic()
            await asyncio.to_thread(replacement.start)
            assert time.monotonic() - begun > LEASE_SECONDS / 3, "it had to wait for the end of a lease"
            await signals.more(100)
            frozen.signal(signal.SIGCONT)
            assert await asyncio.to_thread(frozen.wait, 20) == REPLACED_EXIT
            await signals.more(100)
            await signals.check()
        said = frozen.log_tail()
        assert f"node id {frozen.node_id} belongs to the process at {replacement.url} now" in said and "Traceback" not in said
        assert replacement.is_ready()
    finally:
        replacement.stop()


async def test_a_killed_supervisor_leaves_no_node_that_answers_for_its_successor(
    services: TestServices, tmp_path: Path
) -> None:
    """One child is frozen when its supervisor dies, so that it lives on beside the next supervisor's child of its name."""
    place, port = services.deployment(), free_port()
    environment = clean_environment({**DEFAULTS, **place.environment(), "DW_NODE_ID": "host"})
    command = node_command("serve", "--host", "127.0.0.1", "--port", str(port), "--processes", "2")
    door = ServerProcess(place, tmp_path, node_id="door")
    log = (tmp_path / "supervised.log").open("ab")

    def supervise() -> subprocess.Popen[bytes]:
        return spawn(command, death_signal=signal.SIGKILL, output=log, env=environment)

    def children(parent: subprocess.Popen[bytes]) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()] or [
            int(pid) for task in Path(f"/proc/{parent.pid}/task").iterdir() for pid in (task / "children").read_text().split()
        ]

    first = supervise()
    second: subprocess.Popen[bytes] | None = None
    frozen = 0
    try:
        await asyncio.to_thread(door.start)
        async with asyncio.timeout(30):
            while len(children(first)) < 2:
                await asyncio.sleep(0.05)
        async with Signals([door]) as signals:
            await signals.more(150)
            frozen = children(first)[0]
            _signal(frozen, signal.SIGSTOP)
            first.kill()
            first.wait()
            second = supervise()
            await signals.more(300)
            _signal(frozen, signal.SIGCONT)
            await signals.more(300)
            await signals.check()
        assert second.poll() is None
    finally:
        for process in (first, second):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(30)
        _signal(frozen, signal.SIGKILL)
        door.stop()
        log.close()


def _signal(pid: int, number: int) -> None:
    if pid:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
