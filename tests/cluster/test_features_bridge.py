"""Outside events to a hundred workflows while a node is killed: each counts once, however often it is delivered."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bench.payloads import decode_stored
from tests.cluster.scripted import Script, Step, View, complete, envelope, wait
from tests.cluster.two_node_cluster import COUNT, LEASES, TwoNodeCluster
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

SIGNALS, UPDATES, DELIVERIES = 3, 2, 3
PATH = "/api/bridge-adapters/webhook/courier"


class Bridged(Script):
    """Waits for all signals and updates there are, and ends with what it has seen."""

    workflow_types = ("features.bridged",)

    def decide(self, view: View) -> list[Step]:
        applied = [decode_stored(payload["arguments"])[0] for payload in view.payloads("UpdateApplied")]
        ready = len(view.signals) >= SIGNALS and len(applied) >= UPDATES
        return [complete([sorted(view.signals), sorted(applied)]) if ready else wait("all")]

    def decide_update(self, view: View, update_id: str) -> Step:
        return {"type": "complete_update", "update_id": update_id, "result": envelope(1)}


class Courier(TwoNodeCluster):
    """Starts, signals and updates by events alone, each delivered several times at once and over both nodes."""

    def __init__(self, *made: Any) -> None:
        super().__init__(*made)
        self.ids: dict[int, str] = {}
        self.outcomes: dict[str, Counter[str]] = {}

    def workflow_id(self, number: int) -> str:
        return self.ids[number]

    async def deliver(self, key: str, action: str, target: dict[str, Any], value: Any) -> list[dict[str, Any]]:
        """All deliveries of an event; one at most is told that it was accepted."""
        body = {"action": action, "idempotency_key": key, "target": target, "input": [value]}
        replies = await asyncio.gather(*(self.crew.persist(PATH, body) for _ in range(DELIVERIES)))
        found = self.outcomes[key] = Counter(reply.body["outcome"] for reply in replies)
        assert found.keys() <= {"accepted", "duplicate"} and found["accepted"] <= 1, (key, replies)
        if all(reply.tries == 1 for reply in replies):
            assert found["accepted"] == 1, (key, replies)
        return [reply.body for reply in replies]

    async def deliver_again(self, key: str, action: str, target: dict[str, Any], value: Any) -> set[str]:
        """The outcomes of an event that was accepted before."""
        body = {"action": action, "idempotency_key": key, "target": target, "input": [value]}
        replies = await asyncio.gather(*(self.crew.persist(PATH, body) for _ in range(DELIVERIES)))
        return {reply.body["outcome"] for reply in replies}

    async def begin(self, number: int) -> None:
        key = f"{self.crew.queue}.{number}"
        target = {"workflow_type": "features.bridged", "task_queue": self.crew.queue}
        (name,) = {body["workflow_id"] for body in await self.deliver(key, "start_workflow", target, number)}
        self.ids[number] = name

    async def accompany(self, number: int) -> None:
        name = self.ids[number]

        async def event(action: str, field: str, value: int) -> None:
            await asyncio.sleep(self.random.uniform(0.0, 2.0))
            await self.deliver(f"{name}.{field}.{value}", action, {"workflow_id": name, field: "go"}, value)

        signals = [event("signal_workflow", "signal_name", value) for value in range(SIGNALS)]
        updates = [event("update_workflow", "update_name", value) for value in range(UPDATES)]
        await asyncio.gather(*signals, *updates)


async def test_events(cluster: MakeCluster) -> None:
    async with Courier(cluster(2, env=LEASES), Bridged()) as arena:
        await arena.fight(reports=3)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            (run,) = runs[arena.ids[number]]
            assert run.result == [list(range(SIGNALS)), list(range(UPDATES))], run.kinds
            assert sorted(run.signals) == list(range(SIGNALS)), run.kinds
            assert run.kinds.count("UpdateAccepted") == UPDATES, run.kinds
        # Delivered once more after the end, each is still known.
        for number in range(0, COUNT, 10):
            name = arena.ids[number]
            for value in range(SIGNALS):
                target = {"workflow_id": name, "signal_name": "go"}
                again = await arena.deliver_again(f"{name}.signal_name.{value}", "signal_workflow", target, value)
                assert again == {"duplicate"}
        later = await arena.finish()
        assert {key: chain[0].kinds for key, chain in later.items()} == {key: chain[0].kinds for key, chain in runs.items()}
