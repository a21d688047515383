"""Workers of several build ids on the nodes of a cluster: which of them got which task, and when."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.payloads import encode
from tests.cluster.harness import WORKFLOW_TYPE, Load
from tests.support.server import ServerProcess


@dataclass(frozen=True)
class Taken:
    """A task that a worker got: when its poll was sent and answered (`time.monotonic()`), and the build ids of both."""

    sent: float
    received: float
    build_id: str
    marker: str | None
    run_id: str


@dataclass(frozen=True)
class Begun:
    """An acknowledged start: when it was sent and answered."""

    sent: float
    answered: float
    run_id: str


class Fleet(Load):
    """One worker of each build id, with polls on all nodes, and starts of standard workflows whose times are kept."""

    def __init__(self, nodes: Sequence[ServerProcess], builds: Sequence[str], pollers: int = 4) -> None:
        super().__init__(nodes, pollers=pollers, workers=len(builds), persistent=True)
        self.builds = dict(zip(self._worker_ids, builds, strict=True))
        self.taken: list[Taken] = []
        self.begun: dict[str, Begun] = {}
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Fleet:
        await super().__aenter__()
        return self

    def registration(self, worker_id: str) -> dict[str, Any]:
        return {**super().registration(worker_id), "build_id": self.builds[worker_id]}

    async def change(self, operation: str, build_id: str, at: ServerProcess | None = None) -> tuple[float, float]:
        """Drain, resume or promote: when it was sent, and when it was answered."""
        sent = time.monotonic()
        path = f"/api/task-queues/{self.queue}/build-ids/{operation}"
        reply = await self.client.post(path, {"build_id": build_id}, at=at)
        assert reply.status == 200, reply
        return sent, time.monotonic()

    async def begin(self, count: int, per_second: float) -> None:
        """Start workflows at a rate."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._begin_one())
                await asyncio.sleep(1 / per_second)

    async def _begin_one(self) -> None:
        workflow_id = f"{self.queue}.{next(self._numbers)}"
        body = {
            "workflow_id": workflow_id,
            "workflow_type": WORKFLOW_TYPE,
            "task_queue": self.queue,
            "duplicate_policy": "use-existing",
            "input": {"codec": "avro", "blob": encode([workflow_id])},
        }
        sent = time.monotonic()
        reply = await self.client.post("/api/workflows", body)
        while reply.status not in (200, 201):
            assert reply.status == 0 or reply.status >= 500, reply
            reply = await self.client.post("/api/workflows", body)
        self.begun[workflow_id] = Begun(sent, time.monotonic(), reply.body["run_id"])
        self.acknowledged[workflow_id] = reply.body["run_id"]

    async def _poll(self, kind: str, worker_id: str) -> None:
        while True:
            sent = time.monotonic()
            body = {"worker_id": worker_id, "task_queue": self.queue, "poll_request_id": secrets.token_hex(8)}
            reply = await self.client.post(f"/api/worker/{kind}-tasks/poll", body)
            if reply.status != 200:
                if 0 < reply.status < 500:
                    self.refused.append(f"{kind} poll: {reply}")
                await asyncio.sleep(0.2)
                continue
            task = reply.body["task"]
            if task is None:
                continue
            marker = task["compatibility"] if kind == "workflow" else None
            self.taken.append(Taken(sent, time.monotonic(), self.builds[worker_id], marker, task["run_id"]))
            if kind == "workflow":
                await self._decide(task)
            else:
                await self._perform(task)

    async def markers(self) -> dict[str, Any]:
        """The build marker of every acknowledged run, by run id."""

        async def marker(workflow_id: str, run_id: str) -> tuple[str, Any]:
            reply = await self.client.get(f"/api/workflows/{workflow_id}/runs/{run_id}")
            assert reply.status == 200, reply
            return run_id, reply.body["compatibility"]

        return dict(await asyncio.gather(*(marker(*each) for each in self.acknowledged.items())))
