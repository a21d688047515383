"""Messages to a batch of a hundred workflows while a node is killed: signals with waits, updates, queries.

Signals are applied once and in order, updates once whatever was repeated, queries are answered and leave no trace.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench.payloads import decode_stored
from tests.cluster.scripted import Script, Step, View, complete, envelope, wait
from tests.cluster.senders import (
    REFUSED,
    SAMPLE,
    Senders,
    Updaters,
)
from tests.cluster.two_node_cluster import COUNT, LEASES
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

NOISE = ("RepairRequested", "StartAccepted")  # leases that ran out, starts that were repeated


# -- signals -----------------------------------------------------------------------------------------------------------


class Signals(Script):
    """Waits for the signals, then waits in vain until a wait times out."""

    workflow_types = ("features.signals",)

    def decide(self, view: View) -> list[Step]:
        seen = view.signals
        if view.wait_timed_out:
            return [complete(seen)]
        return [wait("rest", 1) if len(set(seen)) == Senders.quota else wait("all")]


async def test_signals_and_waits(cluster: MakeCluster) -> None:
    async with Senders(cluster(2, env=LEASES), Signals()) as arena:
        await arena.fight(reports=7)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            seen = run.result
            arena.check_signals(number, seen)
            # One that was sent once more may have come after the last task was shown what there was.
            assert run.signals[: len(seen)] == seen, (seen, run.signals)
            ends = ("ConditionWaitSatisfied", "ConditionWaitTimedOut")
            assert {kind: run.kinds.count(kind) for kind in ends} == dict.fromkeys(ends, 1), run.kinds


# -- updates -----------------------------------------------------------------------------------------------------------


class Updates(Script):
    """Waits until three updates are applied; the third of four is refused by its handler."""

    workflow_types = ("features.updates",)

    def decide(self, view: View) -> list[Step]:
        applied = [decode_stored(payload["arguments"])[0] for payload in view.payloads("UpdateApplied")]
        return [complete(applied) if len(applied) == 3 else wait("applied")]

    def decide_update(self, view: View, update_id: str) -> Step:
        (value,) = decode_stored(view.update(update_id)["arguments"])
        if value == REFUSED:
            failure = {"message": "update handler failed: no", "exception_type": "ValueError", "non_retryable": True}
            return {"type": "fail_update", "update_id": update_id, **failure}
        return {"type": "complete_update", "update_id": update_id, "result": envelope(value * 10)}


async def test_updates(cluster: MakeCluster) -> None:
    async with Updaters(cluster(2, env=LEASES), Updates()) as arena:
        await arena.fight(reports=6)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            assert run.result == [0, 1, 3], run.kinds
            known = [payload["update_id"] for payload in run.payloads("UpdateAccepted")]
            assert known == [arena.ids[number, value] for value in range(4)]
            applied = [payload["update_id"] for payload in run.payloads("UpdateApplied")]
            assert applied == [update_id for value, update_id in enumerate(known) if value != REFUSED]
            failed = [payload["update_id"] for payload in run.payloads("UpdateCompleted") if "failure_id" in payload]
            assert failed == [known[REFUSED]]
        for number in SAMPLE:  # repeated after the end, each is still what it was
            for value in range(4):
                assert (await arena.update(number, value, "completed")).body["update_id"] == arena.ids[number, value]
        again = await arena.finish()
        assert {key: chain[0].kinds for key, chain in again.items()} == {key: chain[0].kinds for key, chain in runs.items()}


# -- queries -----------------------------------------------------------------------------------------------------------


class Queries(Script):
    """Waits for one signal."""

    workflow_types = ("features.queries",)
    queries = True

    def decide(self, view: View) -> list[Step]:
        return [complete("done") if view.signals else wait("signal")]

    def answer(self, view: View) -> Any:
        return [view.workflow_id, view.task["query_name"], len(set(view.signals))]


class Askers(Senders):
    """An arena whose workflows are asked three times and then sent the signal that ends them."""

    quota = 1

    async def accompany(self, number: int) -> None:
        for name in ("first", "second", "third"):
            assert await self.ask(number, name) == [self.workflow_id(number), name, 0]
            await asyncio.sleep(self.random.uniform(0.0, 0.5))
        await super().accompany(number)

    async def ask(self, number: int, name: str) -> Any:
        """Query a workflow until it is answered."""
        reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/query/{name}", {"input": []})
        assert reply.status == 200, reply
        return reply.body["result"]


async def test_queries(cluster: MakeCluster) -> None:
    async with Askers(cluster(2, env=LEASES), Queries()) as arena:
        await arena.fight(reports=5)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in SAMPLE:
            assert await arena.ask(number, "late") == [arena.workflow_id(number), "late", 1]
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            received = ["SignalReceived"] * len(run.signals)
            plain = [kind for kind in run.kinds if kind not in NOISE]
            assert 1 <= len(received) <= arena.tries[number, 0]
            ends = ["ConditionWaitSatisfied", "WorkflowCompleted"]
            assert sorted(plain) == sorted(["WorkflowStarted", "ConditionWaitOpened", *received, *ends]), run.kinds
