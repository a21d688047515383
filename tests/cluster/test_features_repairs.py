"""Repair and archive in a batch of a hundred workflows while a node is killed.

A repair gets a run going whose task is in backoff and changes nothing else; a closed run is archived once, however often asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bench.payloads import decode, decode_stored
from tests.cluster.client import Reply
from tests.cluster.scripted import Crew, Script, Step, View, activity, complete, envelope, timer, wait
from tests.cluster.two_node_cluster import COUNT, ENDINGS, LEASES, FinishedRun, TwoNodeCluster
from tests.conftest import MakeCluster
from tests.support.server import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

# Backoffs that outlast the test: nothing but a repair gets a run out of one.
BACKOFFS = {"DW_V2_TASK_REPAIR_REDISPATCH_AFTER_SECONDS": "600", "DW_V2_TASK_REPAIR_FAILURE_BACKOFF_MAX_SECONDS": "600"}


class Asking(TwoNodeCluster):
    """An arena that remembers what was asked of each workflow: the answers, and how often each was sent."""

    def __init__(self, made: Cluster, script: Script, count: int = COUNT) -> None:
        super().__init__(made, script, count)
        self.accepted: dict[int, list[Reply]] = {}
        self.tries: Counter[int] = Counter()

    async def ask(self, number: int, command: str) -> Reply:
        """Repair or archive a workflow."""
        reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/{command}", {})
        self.tries[number] += reply.tries
        if reply.status == 200:
            self.accepted.setdefault(number, []).append(reply)
        return reply

    def check_asked(self, number: int, requested: list[dict[str, Any]]) -> None:
        """Every answer has its event, and an event that has no answer is of a try whose answer was lost."""
        accepted = self.accepted.get(number, [])
        outcomes = {payload["workflow_command_id"]: payload["outcome"] for payload in requested}
        answers = {reply.body["command_id"]: reply.body["outcome"] for reply in accepted}
        assert len(outcomes) == len(requested) and len(answers) == len(accepted)
        assert answers.items() <= outcomes.items(), (answers, outcomes)
        assert len(outcomes) <= self.tries[number], (outcomes, self.tries[number])


def refused(reply: Reply, reason: str) -> bool:
    """Whether a command was rejected; by this reason, then."""
    assert reply.status == 200 or (reply.status, reply.body.get("reason")) == (409, reason), reply
    return reply.status == 409


# -- repair ------------------------------------------------------------------------------------------------------------


def commanded(payloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The repairs somebody asked for; leases that ran out are recovered without."""
    return [payload for payload in payloads if "workflow_command_id" in payload]


class Stumbling(Script):
    """One activity. Its tasks before and after that fail until the run was repaired; every fourth workflow never fails,
    and takes its time instead.
    """

    workflow_types = ("features.stumbling",)
    activity_types = ("features.echo",)

    def stumbles(self, view: View) -> bool:
        """Whether the worker cannot execute this task."""
        (number,) = view.input
        repaired = [p for p in commanded(view.payloads("RepairRequested")) if p["outcome"] == "repair_dispatched"]
        return number % 4 > 0 and len(repaired) < (2 if view.resolutions else 1)

    def decide(self, view: View) -> list[Step]:
        (number,) = view.input
        steps = [activity("features.echo", [number], self.queue), *([] if number % 4 else [timer(1)])]
        if len(view.resolutions) < len(steps):
            return steps
        (echoed,) = view.payloads("ActivityCompleted")
        return [complete([number, decode_stored(echoed["result"])])]

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        return decode(task["arguments"]["blob"])


class Clumsy(Crew):
    """Workers that fail workflow tasks; `fell` tells of each workflow when it may be in backoff."""

    def __init__(self, made: Cluster, script: Stumbling) -> None:
        super().__init__(made.nodes, script)
        self._stumbles = script.stumbles
        self.fell: dict[str, asyncio.Event] = {}

    async def _decide(self, task: dict[str, Any]) -> None:
        if not self._stumbles(View(task)):
            await super()._decide(task)
            return
        body = {
            "lease_owner": task["lease_owner"],
            "workflow_task_attempt": task["workflow_task_attempt"],
            "failure": {"message": "cannot replay", "type": "Stumbled"},
        }
        self._note(await self.persist(f"/api/worker/workflow-tasks/{task['task_id']}/fail", body), "fail")
        self.fell.setdefault(task["workflow_id"], asyncio.Event()).set()


class Repairing(Asking):
    """An arena that repairs every workflow, needed or not, until it is closed; odd ones twice at a time."""

    def __init__(self, made: Cluster, script: Stumbling) -> None:
        super().__init__(made, script)
        self.crew: Clumsy = Clumsy(made, script)

    async def accompany(self, number: int) -> None:
        fell = self.crew.fell.setdefault(self.workflow_id(number), asyncio.Event())
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await fell.wait()
            except TimeoutError:
                pass
            fell.clear()
            replies = await asyncio.gather(*(self.ask(number, "repair") for _ in range(1 + number % 2)))
            closed = [refused(reply, "run_not_active") for reply in replies]  # all are looked at
            if any(closed):
                return


async def test_repairs(cluster: MakeCluster) -> None:
    async with Repairing(cluster(2, env={**LEASES, **BACKOFFS}), Stumbling()) as arena:
        await arena.fight(reports=3)
        runs = await arena.finish()
        assert len(runs) == COUNT
        seen: Counter[tuple[str, str]] = Counter()
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            assert run.result == [number, [number]], run.kinds
            once = ("ActivityScheduled", "ActivityCompleted", "WorkflowCompleted")
            assert [run.kinds.count(kind) for kind in once] == [1, 1, 1], run.kinds
            assert run.kinds[-1] == "WorkflowCompleted", run.kinds
            requested = commanded(run.payloads("RepairRequested"))
            arena.check_asked(number, requested)
            found = Counter((payload["liveness_state"], payload["outcome"]) for payload in requested)
            seen += found
            dispatched = sum(count for (_, outcome), count in found.items() if outcome == "repair_dispatched")
            assert dispatched >= 2 or number % 4 == 0, requested
            # Whatever is leased or waits for something is left alone.
            assert not {state for state, outcome in found if outcome == "repair_dispatched"} - {
                "workflow_replay_blocked",
                "repair_needed",
            }, found
        # Where no node was in the way, a run was got out of its backoff twice.
        assert seen["workflow_replay_blocked", "repair_dispatched"] > COUNT, seen


# -- archive -----------------------------------------------------------------------------------------------------------

LAPS = 4
CHAINS = 30


class Ending(Script):
    """Waits to be told to end, and ends in one of several ways; with `laps`, goes on from run to run before that."""

    workflow_types = ("features.ending",)

    def __init__(self, ends: tuple[str, ...], laps: int = 0) -> None:
        self.ends = ends
        self.laps = laps

    def end_of(self, number: int) -> str:
        """How the workflow of this number ends."""
        return self.ends[number % len(self.ends)]

    def decide(self, view: View) -> list[Step]:
        number, laps = view.input if len(view.input) > 1 else [view.input[0], self.laps]
        if laps == self.laps and not view.signals:
            return [wait("told")]
        if laps > 0:
            return [{"type": "continue_as_new", "arguments": envelope([number, laps - 1]), "queue": self.queue}]
        if self.end_of(number) == "failed":
            return [{"type": "fail_workflow", "message": f"failed {number}", "exception_type": "Ended"}]
        return [complete(number)]


class Archiving(Asking):
    """An arena that archives every workflow as soon as that goes, and again; odd ones twice at a time."""

    def __init__(self, made: Cluster, script: Ending, count: int = COUNT) -> None:
        super().__init__(made, script, count)
        self.end_of = script.end_of
        self.archived = 0

    async def accompany(self, number: int) -> None:
        assert refused(await self.ask(number, "archive"), "run_not_closed")
        await asyncio.sleep(self.random.uniform(0.0, 2.0))
        await self._end(number)
        while True:
            replies = await asyncio.gather(*(self.ask(number, "archive") for _ in range(1 + number % 2)))
            still_open = [refused(reply, "run_not_closed") for reply in replies]
            if not any(still_open):
                break
            await asyncio.sleep(0.1)
        self.archived += 1
        again = await self.ask(number, "archive")
        assert again.body["outcome"] == "archive_not_needed", (again, self.accepted[number])
        repair = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/repair", {})
        assert refused(repair, "run_not_active")

    async def _end(self, number: int) -> None:
        action = {"cancelled": "cancel", "terminated": "terminate"}.get(self.end_of(number), "signal/end")
        body = {"input": envelope([number])} if action == "signal/end" else {"reason": "enough"}
        reply = await self.crew.persist(f"/api/workflows/{self.workflow_id(number)}/{action}", body)
        assert reply.status in (200, 202) or (reply.status == 409 and reply.tries > 1), reply

    async def _strike(self, moment: int) -> None:
        while self.archived < moment:
            await asyncio.sleep(0.002)
        await super()._strike(0)


def check_archived(run: FinishedRun) -> list[dict[str, Any]]:
    """Archived once and after the end; the requests."""
    (end,) = [place for place, kind in enumerate(run.kinds) if kind in ENDINGS]
    requested = run.payloads("ArchiveRequested")
    after = ["ArchiveRequested", "WorkflowArchived"] + ["ArchiveRequested"] * (len(requested) - 1)
    assert run.kinds[end + 1 :] == after, run.kinds
    outcomes = [payload["outcome"] for payload in requested]
    assert outcomes == ["archived"] + ["archive_not_needed"] * (len(requested) - 1), outcomes
    (archived,) = run.payloads("WorkflowArchived")
    assert archived["archive_command_id"] == requested[0]["workflow_command_id"], run.events[end:]
    return requested


def check_last(arena: Archiving, number: int, last: FinishedRun) -> None:
    """The run that archiving was meant for: as asked, and shown so."""
    assert last.status == arena.end_of(number), last.kinds
    arena.check_asked(number, check_archived(last))
    assert {reply.body["run_id"] for reply in arena.accepted[number]} == {last.item["run_id"]}, arena.accepted[number]


async def test_archives(cluster: MakeCluster) -> None:
    script = Ending(("completed", "failed", "cancelled", "terminated"))
    async with Archiving(cluster(2, env=LEASES), script) as arena:
        await arena.fight(reports=0.8)
        runs = await arena.finish()
        assert len(runs) == COUNT
        for number in range(COUNT):
            (run,) = runs[arena.workflow_id(number)]
            check_last(arena, number, run)
            described = await arena.crew.client.get(f"/api/workflows/{run.workflow_id}")
            actions = described.body["actions"]
            assert (actions["can_archive"], actions["can_repair"]) == (False, False), described


async def test_archives_of_chains_of_runs(cluster: MakeCluster) -> None:
    async with Archiving(cluster(2, env=LEASES), Ending(("completed",), LAPS), CHAINS) as arena:
        await arena.fight(reports=0.8)
        runs = await arena.finish()
        for number in range(CHAINS):
            *before, last = runs[arena.workflow_id(number)]
            # One that went on is not the current run any more: nothing is asked of it.
            assert [run.kinds[-1] for run in before] == ["WorkflowContinuedAsNew"] * LAPS, [run.kinds for run in before]
            check_last(arena, number, last)
