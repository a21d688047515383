"""Clients that send signals and updates while nodes are killed, and remember what was acknowledged."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.cluster.client import Reply
from tests.cluster.two_node_cluster import COUNT, TwoNodeCluster

SAMPLE = range(0, COUNT, 5)


class Senders(TwoNodeCluster):
    """An arena whose workflows are sent numbered signals, one after the other.

    `tries`: (workflow, signal) -> how often it was sent. A signal that was sent again after an unknown outcome may be there
    twice (engine-semantics 13); one that was answered at once must not.
    """

    quota = 5

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.tries: dict[tuple[int, int], int] = {}

    async def accompany(self, number: int) -> None:
        for signal in range(self.quota):
            reply = await self.send(number, "tick", signal)
            # Refused only if an earlier try counted, and the workflow ended with it.
            assert reply.status == 202 or (reply.status == 409 and reply.tries > 1), reply
            await asyncio.sleep(self.random.uniform(0.0, 0.5))

    async def send(self, number: int, name: str, value: int) -> Reply:
        """Send a signal until it is answered."""
        reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/signal/{name}", {"input": [value]})
        self.tries[number, value] = reply.tries
        return reply

    def check_signals(self, number: int, seen: list[int]) -> None:
        """The workflow saw each signal, in order, and none more often than it was sent."""
        assert list(dict.fromkeys(seen)) == list(range(self.quota)), seen
        for signal in range(self.quota):
            assert seen.count(signal) <= self.tries[number, signal], (seen, self.tries[number, signal])


REFUSED = 2


class Updaters(TwoNodeCluster):
    """An arena whose workflows are updated four times, each under a request id, every other one waited for.

    `ids`: (workflow, update) -> the id the server gave it. `refused`: the update its handler refuses.
    """

    quota = 4
    refused = REFUSED

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.ids: dict[tuple[int, int], str] = {}

    async def accompany(self, number: int) -> None:
        for value in range(self.quota):
            reply = await self.update(number, value, "completed" if (number + value) % 2 else "accepted")
            self.ids[number, value] = reply.body["update_id"]
            await asyncio.sleep(self.random.uniform(0.0, 0.5))

    async def update(self, number: int, value: int, wait_for: str) -> Reply:
        """Send an update until it has what it waits for."""
        workflow_id = self.workflow_id(number)
        body = {"input": [value], "request_id": f"{workflow_id}-{value}", "wait_for": wait_for, "wait_timeout_seconds": 5}
        while True:
            reply = await self.crew.persist(f"/api/workflows/{workflow_id}/update/put", body)
            if not (reply.status == 202 and reply.body["wait_timed_out"]):
                break
        if wait_for == "completed":
            assert reply.status == (422 if value == self.refused else 200), reply
            assert value == self.refused or reply.body["result"] == value * 10, reply
        assert reply.status in (200, 202, 422), reply
        return reply
