"""Cancel and terminate in a batch of a hundred workflows while a node is killed: the end is one, and whatever was open ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bench.payloads import decode
from tests.cluster.scripted import Crew, Script, Step, View, activity, child, complete, timer, wait
from tests.cluster.two_node_cluster import COUNT, LEASES, TwoNodeCluster
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

BEAT_SECONDS = 0.5
ACTIONS = ("cancel", "terminate", None)
ENDS = {"cancel": "cancelled", "terminate": "terminated", None: "completed"}
WORDS = {"cancel": ("CancelRequested", "WorkflowCancelled"), "terminate": ("TerminateRequested", "WorkflowTerminated")}
STOPS = {"run_cancelled", "run_terminated"}


class Stopped(Script):
    """An activity that works until it is told to stop, a timer and a child; every third workflow ends by itself."""

    workflow_types = ("features.stopped", "features.waiter")
    activity_types = ("features.endless", "features.short")

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    def decide(self, view: View) -> list[Step]:
        (number,) = view.input
        if view.workflow_type == "features.waiter":
            return [wait("never")]
        if ACTIONS[number % 3] is None:
            return [complete(number) if view.resolutions else activity("features.short", [number], self.queue)]
        waiter = child("features.waiter", [number], self.queue, parent_close_policy="request_cancel")
        return [activity("features.endless", [number], self.queue), timer(600), waiter]

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        if task["activity_type"] == "features.short":
            return decode(task["arguments"]["blob"])
        while True:
            answer = await crew.heartbeat(task)
            if not answer["can_continue"]:
                assert answer["cancel_requested"] == (answer["reason"] in STOPS), answer
                self.reasons[answer["reason"]] += 1
                return None
            await asyncio.sleep(BEAT_SECONDS)


class Stopping(TwoNodeCluster):
    """An arena that stops two of three workflows some time after their start."""

    async def accompany(self, number: int) -> None:
        action = ACTIONS[number % 3]
        if action is not None:
            await self.called(number)
            await asyncio.sleep(self.random.uniform(0.0, 3.0))
            reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/{action}", {"reason": "enough"})
            assert reply.status == 200 or (reply.status == 409 and reply.tries > 1), reply


async def test_cancel_and_terminate(cluster: MakeCluster) -> None:
    script = Stopped()
    async with Stopping(cluster(2, env=LEASES), script) as arena:
        await arena.fight(reports=1.5)
        runs = await arena.finish()
        waiters = {number for number in range(COUNT) if ACTIONS[number % 3] is not None}
        assert len(runs) == COUNT + len(waiters)
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            action = ACTIONS[number % 3]
            assert run.status == ENDS[action], run.kinds
            if action is None:
                assert run.result == number
                continue
            ends = [*WORDS[action], "ActivityCancelled", "TimerCancelled", "ParentClosePolicyApplied"]
            assert {kind: run.kinds.count(kind) for kind in ends} == dict.fromkeys(ends, 1), run.kinds
            (called,) = run.payloads("ChildWorkflowScheduled")
            (waiter,) = runs[called["child_workflow_instance_id"]]
            assert waiter.status == "cancelled" and waiter.kinds.count("CancelRequested") == 1, waiter.kinds
        # Most attempts were told by a heartbeat; one that lost its lease meanwhile was told that.
        assert sum(script.reasons[reason] for reason in STOPS) > len(waiters) // 2, script.reasons
        assert set(script.reasons) <= STOPS | {"stale_attempt", "run_closed", "task_not_leased"}, script.reasons
