"""A hundred standalone activities while a node is killed: one outcome each, no workflow task ever, ids that are used again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bench.payloads import decode
from tests.cluster.scripted import Crew, Failed, Script, Step, View, envelope
from tests.cluster.two_node_cluster import COUNT, LEASES, TwoNodeCluster
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

BEAT_SECONDS = 0.3
GOOD, RETRIED, FAILED, CANCELLED, AGAIN = range(5)  # what becomes of a number, by its rest
ENDS = {GOOD: "completed", RETRIED: "completed", FAILED: "failed", CANCELLED: "cancelled", AGAIN: "completed"}


class Alone(Script):
    """Activities of five fates. Its workers would take workflow tasks of host runs, if there were any."""

    workflow_types = ("dw.standalone_activity",)
    activity_types = ("features.alone",)

    def decide(self, view: View) -> list[Step]:
        raise AssertionError(f"a workflow task of a host run: {view.workflow_id}")

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        (number,) = decode(task["arguments"]["blob"])
        fate = number % 5
        if fate == FAILED or (fate == RETRIED and task["attempt_number"] == 1):
            raise Failed("declined", "Declined")
        while fate == CANCELLED:
            if not (await crew.heartbeat(task))["can_continue"]:
                return None
            await asyncio.sleep(BEAT_SECONDS)
        return number * 10


class Alones(TwoNodeCluster):
    """Starts activities instead of workflows; `tries`: how often each was asked for, `starts` how often it should run."""

    def __init__(self, *made: Any) -> None:
        super().__init__(*made)
        self.tries: Counter[int] = Counter()
        self.starts: Counter[int] = Counter()

    async def begin(self, number: int) -> None:
        fate = number % 5
        body = {
            "activity_type": "features.alone",
            "task_queue": self.crew.queue,
            "activity_id": self.workflow_id(number),
            "input": envelope([number]),
            # An attempt is lost with the node that answers its poll, and tried again when its time is over.
            "start_to_close_timeout_seconds": 60 if fate == CANCELLED else 4,
            "retry_policy": {"max_attempts": 1 if fate == FAILED else 20},
        }
        reply = await self.crew.persist("/api/activities", body)
        assert reply.status == 201 or (reply.status == 409 and reply.tries > 1), reply
        self.tries[number] += reply.tries
        self.starts[number] += 1

    async def closed(self, number: int) -> dict[str, Any]:
        """The activity as it is described once it has ended."""
        while (shown := await self._get(f"/api/activities/{self.workflow_id(number)}"))["status"] == "running":
            await asyncio.sleep(0.2)
        return shown

    async def accompany(self, number: int) -> None:
        if number % 5 == CANCELLED:
            await asyncio.sleep(self.random.uniform(0.0, 3.0))
            reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/cancel", {})
            assert reply.status == 200 or (reply.status == 409 and reply.tries > 1), reply
        if number % 5 == AGAIN:
            await self.closed(number)
            await self.begin(number)
        shown = await self.closed(number)
        assert shown["status"] == ENDS[number % 5], shown


async def test_standalone_activities(cluster: MakeCluster) -> None:
    async with Alones(cluster(2, env=LEASES), Alone()) as arena:
        await arena.fight(reports=0.8)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            chain = runs[arena.workflow_id(number)]
            # A start that was asked for again after its answer was lost may have met a closed run.
            assert arena.starts[number] <= len(chain) <= arena.tries[number], number
            for run in chain:
                check(run.kinds, number % 5)
                assert run.status == ENDS[number % 5], run.kinds
                if run.status == "completed":
                    assert run.result == number * 10
        listed = await arena.crew.client.get("/api/activities?page_size=200")
        assert listed.body["activity_count"] == sum(len(chain) for chain in runs.values())


def check(kinds: list[str], fate: int) -> None:
    """One beginning, one outcome, and the end right behind it."""
    assert kinds[:3] == ["StartAccepted", "WorkflowStarted", "ActivityScheduled"], kinds
    kinds = [kind for kind in kinds if kind not in ("StartRejected", "ActivityHeartbeatRecorded")]
    if fate == CANCELLED:
        assert kinds[-3:] == ["CancelRequested", "ActivityCancelled", "WorkflowCancelled"], kinds
        return
    ending = {FAILED: [["ActivityFailed", "WorkflowFailed"], ["ActivityTimedOut", "WorkflowFailed", "WorkflowTimedOut"]]}
    for end in ending.get(fate, [["ActivityCompleted", "WorkflowCompleted"]]):
        if kinds[-len(end) :] == end:
            assert kinds.count(end[0]) == 1, kinds
            return
    raise AssertionError(kinds)
