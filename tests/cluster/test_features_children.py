"""Children in a batch of a hundred workflows while a node is killed: retries and close policies.

A child is begun once per call and its parent hears of its end once; a parent's end reaches every child, whatever run it is in.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.payloads import decode_stored
from tests.cluster.scripted import Script, Step, View, child, complete, envelope, timer, wait
from tests.cluster.two_node_cluster import COUNT, LEASES, FinishedRun, TwoNodeCluster
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

Runs = dict[str, list[FinishedRun]]


def calls_of(run: FinishedRun, runs: Runs) -> list[list[FinishedRun]]:
    """The runs of each child of a run, by call: begun once, every run of it told to the parent or known by its chain."""
    scheduled = run.payloads("ChildWorkflowScheduled")
    chains = [runs[payload["child_workflow_instance_id"]] for payload in scheduled]
    for payload, chain in zip(scheduled, chains, strict=True):
        assert payload["child_workflow_run_id"] == chain[0].item["run_id"]
        (begun,) = chain[0].payloads("WorkflowStarted")
        assert begun["parent_workflow_run_id"] == run.item["run_id"] and begun["child_call_id"] == payload["child_call_id"]
    assert len({payload["child_workflow_instance_id"] for payload in scheduled}) == len(scheduled)
    return chains


# -- retries -----------------------------------------------------------------------------------------------------------

MODES = {"good": 1, "second": 2, "never": 2}  # how many runs a child of each kind has


class Families(Script):
    """Three children at once: one completes, one at its second try, one never."""

    workflow_types = ("features.parent", "features.child")

    def decide(self, view: View) -> list[Step]:
        if view.workflow_type == "features.child":
            return [self._child(view)]
        done = view.resolutions
        if len(done) < len(MODES):
            (number,) = view.input
            policy = {"max_attempts": 2, "backoff_seconds": [number % 2]}
            return [child("features.child", [number, mode], self.queue, retry_policy=policy) for mode in MODES]
        return [complete([_outcome(event) for event in done])]

    def _child(self, view: View) -> Step:
        number, mode = view.input
        (started,) = view.payloads("WorkflowStarted")
        if mode == "good" or (mode == "second" and started.get("retry_attempt") == 2):
            return complete([number, mode])
        return {"type": "fail_workflow", "message": f"{mode} {number}", "exception_type": "Child"}


def _outcome(event: dict[str, Any]) -> Any:
    payload = event["payload"]
    return decode_stored(payload["result"]) if event["event_type"] == "ChildRunCompleted" else payload["message"]


async def test_children_with_retries(cluster: MakeCluster) -> None:
    async with TwoNodeCluster(cluster(2, env=LEASES), Families()) as arena:
        await arena.fight(reports=7)
        runs = await arena.finish()
        assert len(runs) == COUNT * (1 + len(MODES))
        for number in range(COUNT):
            (parent,) = runs[arena.workflow_id(number)]
            assert parent.result == [[number, "good"], [number, "second"], f"never {number}"], parent.kinds
            chains = calls_of(parent, runs)
            assert [len(chain) for chain in chains] == list(MODES.values()), parent.kinds
            assert parent.kinds.count("ChildRunStarted") == sum(MODES.values()), parent.kinds
            # Each call is resolved by the last of its runs (the resolutions come in any order).
            ended = parent.payloads("ChildRunCompleted", "ChildRunFailed")
            assert {p["child_workflow_run_id"] for p in ended} == {chain[-1].item["run_id"] for chain in chains}
            assert len(ended) == len(MODES)


# -- close policies ----------------------------------------------------------------------------------------------------

LAPS = 12


class Households(Script):
    """A parent whose three children outlive it: one goes on from run to run and is to be terminated, one waits and is to be
    cancelled, one is abandoned. Even parents end in the very transition that begins the children, odd ones are terminated.
    """

    workflow_types = ("features.household", "features.spinner", "features.waiter", "features.loner")

    def decide(self, view: View) -> list[Step]:
        (number,) = view.input
        match view.workflow_type:
            case "features.spinner":
                lap = {"type": "continue_as_new", "arguments": envelope([number - 1]), "queue": self.queue}
                return [lap if number > 0 else wait("never")]
            case "features.waiter":
                return [wait("never")]
            case "features.loner":
                return [complete(number) if view.resolutions else timer(1)]
        children = [
            child("features.spinner", [LAPS], self.queue, parent_close_policy="terminate"),
            child("features.waiter", [number], self.queue, parent_close_policy="request_cancel"),
            child("features.loner", [number], self.queue, parent_close_policy="abandon"),
        ]
        return children if number % 2 else [*children, complete(number)]


class Terminating(TwoNodeCluster):
    """An arena that terminates every odd workflow once its children are called."""

    async def accompany(self, number: int) -> None:
        if number % 2:
            await self.called(number)
            reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/terminate", {"reason": "moved"})
            assert reply.status == 200 or (reply.status == 409 and reply.tries > 1), reply


async def test_parent_close_policies(cluster: MakeCluster) -> None:
    async with Terminating(cluster(2, env=LEASES), Households()) as arena:
        await arena.fight(reports=3)
        runs = await arena.finish()
        assert len(runs) == COUNT * 4
        for number in range(COUNT):
            (parent,) = runs[arena.workflow_id(number)]
            assert parent.status == ("terminated" if number % 2 else "completed"), parent.kinds
            spinner, (waiter,), (loner,) = calls_of(parent, runs)
            assert [run.status for run in spinner] == ["completed"] * (len(spinner) - 1) + ["terminated"], spinner
            assert len(spinner) <= LAPS + 1
            assert waiter.status == "cancelled" and loner.result == number
            policies = [payload["policy"] for payload in parent.payloads("ParentClosePolicyApplied")]
            assert policies == ["terminate", "request_cancel"], parent.kinds
            requested = spinner[-1].kinds.count("TerminateRequested"), waiter.kinds.count("CancelRequested")
            assert requested == (1, 1), (spinner[-1].kinds, waiter.kinds)
