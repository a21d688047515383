"""Run and execution timeouts in a batch of a hundred workflows while a node is killed: nothing ends early, nothing twice.

A run that is overdue ends by itself, also one whose deadline passed while its node was dead; one that is not goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from bench.payloads import decode
from tests.cluster.scripted import Crew, Script, Step, View, activity, child, complete, envelope, timer, wait
from tests.cluster.two_node_cluster import COUNT, DEADLINE_SECONDS, LEASES, FinishedRun, TwoNodeCluster
from tests.conftest import MakeCluster

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

BEAT_SECONDS = 0.5
MODES = ("quick", "patient", "activity", "timer", "signal", "chain", "parent", "family")
KINDS: tuple[tuple[str, ...], ...] = (("run",), ("execution",), ("run", "execution"))
PATIENCE = {"run_timeout_seconds": 300, "execution_timeout_seconds": 600}
# What stands in the history of a run that waited at its deadline, and how it ends there.
WAITS = {
    "activity": ("ActivityScheduled", "ActivityCancelled"),
    "timer": ("TimerScheduled", "TimerCancelled"),
    "signal": ("TimerScheduled", "TimerCancelled"),  # the timeout of the wait
    "family": ("ChildWorkflowScheduled", "ParentClosePolicyApplied"),
}


def mode_of(number: int) -> str:
    """What the workflow of this number does."""
    return MODES[number % len(MODES)]


def kinds_of(number: int) -> tuple[str, ...]:
    """Which deadlines it, or its child, has."""
    return ("execution",) if mode_of(number) == "chain" else KINDS[number // len(MODES) % len(KINDS)]


def seconds_of(number: int) -> int:
    """After how many seconds they pass."""
    turn = number // len(MODES)
    return 1 + (turn + turn // len(KINDS)) % 3


def limits_of(number: int) -> dict[str, int]:
    """The fields that say so."""
    return {f"{kind}_timeout_seconds": seconds_of(number) for kind in kinds_of(number)}


class Overdue(Script):
    """Workflows that wait for what does not come, but for some that end in time."""

    workflow_types = ("features.overdue", "features.waiter")
    activity_types = ("features.endless", "features.echo")

    def __init__(self) -> None:
        self.stops: Counter[str] = Counter()

    def decide(self, view: View) -> list[Step]:
        (number,) = view.input
        done = view.resolutions
        if view.workflow_type == "features.waiter":
            return [wait("never")]
        match mode_of(number):
            case "quick" | "patient" if not done:
                return [activity("features.echo", [number], self.queue)]
            case "patient" if len(done) == 1:
                return [timer(1)]
            case "quick" | "patient":
                return [complete(number)]
            case "activity":
                return [activity("features.endless", [number], self.queue)]
            case "timer":
                return [timer(600)]
            case "signal":
                return [wait("never", 600)]
            case "chain":
                again = {"type": "continue_as_new", "arguments": envelope([number]), "queue": self.queue}
                return [again if done else timer(1)]
            case "parent" if done:
                (failed,) = view.payloads("ChildRunFailed")
                return [complete([failed["failure_category"], failed["closed_reason"], failed["message"]])]
            case "parent":
                retries = {"retry_policy": {"max_attempts": 2, "backoff_seconds": [0]}} if number % 16 > 8 else {}
                return [child("features.waiter", [number], self.queue, **limits_of(number), **retries)]
            case _:
                return [child("features.waiter", [number], self.queue, parent_close_policy="terminate")]

    async def perform(self, crew: Crew, task: dict[str, Any]) -> Any:
        if task["activity_type"] == "features.echo":
            return decode(task["arguments"]["blob"])
        while True:
            answer = await crew.heartbeat(task)
            if not answer["can_continue"]:
                self.stops[answer["reason"]] += 1
                return None
            await asyncio.sleep(BEAT_SECONDS)


class Deadlined(TwoNodeCluster):
    """An arena whose workflows are started with deadlines; the node is killed before most of these."""

    async def fight(self, reports: float) -> None:
        gate = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            mode = mode_of(number)
            body = {
                "workflow_id": self.workflow_id(number),
                "workflow_type": self.crew.script.workflow_types[0],
                "task_queue": self.crew.queue,
                "duplicate_policy": "use-existing",
                "input": envelope([number]),
                **(PATIENCE if mode in ("patient", "parent") else limits_of(number)),
            }
            async with gate:
                reply = await self.crew.persist("/api/workflows", body)
                # One that is repeated may find its run closed already.
                assert reply.status in (200, 201) or (reply.status == 409 and reply.tries > 1), reply
            if mode == "signal":
                await self._signal(number)

        moment = int(self.random.uniform(0.6, 1.0) * reports * self.count)
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(self._strike(moment))
            for number in range(self.count):
                group.create_task(one(number))

    async def _signal(self, number: int) -> None:
        await asyncio.sleep(self.random.uniform(0.0, 2.0))
        path = f"/api/workflows/{self.workflow_id(number)}/signal/news"
        reply = await self.crew.persist(path, {"input": envelope([number])})
        assert reply.status == 202 or (reply.status == 409 and reply.body["reason"] == "run_not_active"), reply

    async def _strike(self, moment: int) -> None:
        while self.crew.reports < moment:
            await asyncio.sleep(0.002)
        await asyncio.sleep(self.random.uniform(0.0, 2.0))
        await super()._strike(0)


def check_overdue(run: FinishedRun, kinds: tuple[str, ...], seconds: int, begun: datetime | None = None) -> None:
    """A run that ended by its deadline, not before it: two events of one failure, then only what follows from the end.

    `begun`: when its execution began, if that was not with this run.
    """
    kind = kinds[-1]
    types = run.kinds
    place = types.index("WorkflowTimedOut")
    failed, timed_out = (event["payload"] for event in run.events[place - 1 : place + 1])
    assert (types.count("WorkflowTimedOut"), types[place - 1]) == (1, "WorkflowFailed"), types
    assert set(types[place + 1 :]) <= {"ParentClosePolicyApplied"}, types
    told = (run.status, timed_out["timeout_kind"], timed_out["failure_category"])
    assert told == ("failed", f"{kind}_timeout", "timeout"), timed_out
    assert failed["failure_id"] == timed_out["failure_id"] and failed["message"] == timed_out["message"], (failed, timed_out)
    due = (begun or began(run)) + timedelta(seconds=seconds)
    assert _time(run.events[place]["timestamp"]) >= due, (due, run.events[place])
    (started,) = run.payloads("WorkflowStarted")
    for each in ("run", "execution"):
        key = f"{each}_deadline_at"
        assert started.get(key) == timed_out.get(key) and (key in timed_out) == (each in kinds), (started, timed_out)
    shown = timed_out[f"{kind}_deadline_at"]
    assert _time(shown) == due.replace(microsecond=0), (shown, due)
    assert timed_out["message"] == f"Workflow {kind} deadline expired at {shown}.", timed_out


def began(run: FinishedRun) -> datetime:
    """When a run started."""
    (started,) = run.payloads("WorkflowStarted")
    return _time(started["timestamp"])


def ended(run: FinishedRun) -> datetime:
    """When a run completed or went on as another."""
    (place,) = [place for place, kind in enumerate(run.kinds) if kind in ("WorkflowCompleted", "WorkflowContinuedAsNew")]
    return _time(run.events[place]["timestamp"])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def check_chain(chain: list[FinishedRun], seconds: int) -> None:
    """Every run but the last went on in time; all have the deadline of the first."""
    begun = began(chain[0])
    assert [run.kinds.count("WorkflowContinuedAsNew") for run in chain] == [1] * (len(chain) - 1) + [0], chain
    assert all(ended(run) < begun + timedelta(seconds=seconds) for run in chain[:-1])
    check_overdue(chain[-1], ("execution",), seconds, begun)


def check_parent(parent: FinishedRun, runs: dict[str, list[FinishedRun]], number: int) -> None:
    """A child that timed out, at its last try, is a failure its parent hears of once."""
    (called,) = parent.payloads("ChildWorkflowScheduled")
    chain = runs[called["child_workflow_instance_id"]]
    kinds, seconds = kinds_of(number), seconds_of(number)
    retried = number % 16 > 8 and "execution" not in kinds  # none is tried again after the deadline of all tries
    assert len(chain) == 1 + retried, chain
    for run in chain:
        check_overdue(run, kinds, seconds)
    (timed_out,) = chain[-1].payloads("WorkflowTimedOut")
    assert parent.result == ["timeout", "timed_out", timed_out["message"]], parent.kinds
    (failed,) = parent.payloads("ChildRunFailed")
    assert failed["child_workflow_run_id"] == chain[-1].item["run_id"], (failed, chain)
    assert parent.kinds.count("ChildRunStarted") == len(chain), parent.kinds


def check_wait(run: FinishedRun, runs: dict[str, list[FinishedRun]], mode: str) -> bool:
    """Whether the run had begun to wait by its deadline; what it waited for ended with it."""
    opened, withdrawn = WAITS[mode]
    waited = opened in run.kinds
    assert run.kinds.count(withdrawn) == waited, run.kinds
    # A wait that a signal opens again supersedes itself, its timer goes without a word.
    assert run.kinds.count(opened) == (run.kinds.count("ConditionWaitOpened") if mode == "signal" else waited), run.kinds
    if mode == "family" and waited:
        (called,) = run.payloads(opened)
        (waiter,) = runs[called["child_workflow_instance_id"]]
        assert waiter.status == "terminated" and waiter.kinds.count("TerminateRequested") == 1, waiter.kinds
    return waited


async def test_run_and_execution_timeouts(cluster: MakeCluster) -> None:
    script = Overdue()
    async with Deadlined(cluster(2, env=LEASES), script) as arena:
        # One in four is sure to get to its end and takes two reports or more: half a report per workflow.
        await arena.fight(reports=0.5)
        runs = await arena.finish()
        waited: Counter[str] = Counter()
        for number in range(COUNT):
            chain = runs[arena.workflow_id(number)]
            mode, kinds, seconds = mode_of(number), kinds_of(number), seconds_of(number)
            if mode == "chain":
                check_chain(chain, seconds)
                continue
            (run,) = chain
            if mode == "parent":
                check_parent(run, runs, number)
            elif mode == "patient":
                assert run.result == number
            elif mode == "quick" and run.status == "completed":
                assert run.result == number
                assert ended(run) < began(run) + timedelta(seconds=seconds), run.events
            else:
                check_overdue(run, kinds, seconds)
                if mode in WAITS:
                    waited[mode] += check_wait(run, runs, mode)
        assert all(waited[mode] for mode in WAITS), waited
        # A heartbeat tells a worker that its run is over; one that lost its lease meanwhile is told that.
        assert script.stops["activity_cancelled"], script.stops
        assert set(script.stops) <= {"activity_cancelled", "stale_attempt", "run_closed", "task_not_leased"}, script.stops
