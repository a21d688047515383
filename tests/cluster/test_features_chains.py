"""Continue-as-new in a batch of a hundred workflows while a node is killed: messages go on from run to run."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest

from bench.payloads import decode_stored
from tests.cluster.scripted import Script, Step, View, complete, envelope, timer, wait
from tests.cluster.senders import SAMPLE, Senders, Updaters
from tests.cluster.two_node_cluster import COUNT, LEASES, FinishedRun
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

RUNS = 4


class Chain(Script):
    """Goes on as another run three times, each with what the runs before have seen; the last one waits for the rest."""

    workflow_types = ("features.chain",)
    quota: int

    def decide(self, view: View) -> list[Step]:
        number, left, seen = view.input if len(view.input) > 1 else [view.input[0], RUNS - 1, []]
        if not view.resolutions:
            return [timer(0)]
        seen = seen + self.news(view)
        if left > 0:
            return [{"type": "continue_as_new", "arguments": envelope([number, left - 1, seen]), "queue": self.queue}]
        return [complete([number, seen]) if len(set(seen)) == self.quota else wait("rest")]

    def news(self, view: View) -> list[Any]:
        """What this run has seen."""
        raise NotImplementedError


def check_chain(chain: list[FinishedRun], number: int) -> list[Any]:
    """Four runs, each begun by the one before; what they have seen."""
    assert [run.kinds[-1] for run in chain] == ["WorkflowContinuedAsNew"] * (RUNS - 1) + ["WorkflowCompleted"], chain
    for old, new in itertools.pairwise(chain):
        (started,) = new.payloads("WorkflowStarted")
        assert started["continued_from_run_id"] == old.item["run_id"]
    found, seen = chain[-1].result
    assert found == number
    return list(seen)


class Signalled(Chain):
    """Collects signals."""

    quota = Senders.quota

    def news(self, view: View) -> list[Any]:
        return view.signals


async def test_signals_to_chains_of_runs(cluster: MakeCluster) -> None:
    async with Senders(cluster(2, env=LEASES), Signalled()) as arena:
        await arena.fight(reports=9)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            chain = runs[arena.workflow_id(number)]
            arena.check_signals(number, check_chain(chain, number))
            # One that is handed over keeps its id and is recorded again; no other is accepted twice.
            accepted = Counter(payload["signal_id"] for run in chain for payload in run.payloads("SignalReceived"))
            assert Senders.quota <= len(accepted) <= sum(arena.tries[number, value] for value in range(Senders.quota))


class Updated(Chain):
    """Collects updates."""

    quota = Updaters.quota

    def news(self, view: View) -> list[Any]:
        return [decode_stored(payload["arguments"])[0] for payload in view.payloads("UpdateApplied")]

    def decide_update(self, view: View, update_id: str) -> Step:
        (value,) = decode_stored(view.update(update_id)["arguments"])
        return {"type": "complete_update", "update_id": update_id, "result": envelope(value * 10)}


class ChainUpdaters(Updaters):
    """Nothing is refused here."""

    refused = -1


async def test_updates_to_chains_of_runs(cluster: MakeCluster) -> None:
    async with ChainUpdaters(cluster(2, env=LEASES), Updated()) as arena:
        await arena.fight(reports=9)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            chain = runs[arena.workflow_id(number)]
            assert check_chain(chain, number) == list(range(Updaters.quota))
            applied = [payload["update_id"] for run in chain for payload in run.payloads("UpdateApplied")]
            assert applied == [arena.ids[number, value] for value in range(Updaters.quota)]
            ended = Counter(payload["update_id"] for run in chain for payload in run.payloads("UpdateCompleted"))
            assert ended == Counter(applied), [run.kinds for run in chain]
        # Repeated after the end, each is what it was, whichever run accepted and whichever applied it.
        for number in SAMPLE:
            for value in range(Updaters.quota):
                assert (await arena.update(number, value, "completed")).body["update_id"] == arena.ids[number, value]
