"""Scripted workflows on two nodes: faults, a node killed in the middle, and what must hold of every run afterwards."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import secrets
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import asyncpg
import orjson

from bench.payloads import decode_stored
from tests.cluster.events import EventWatch
from tests.cluster.faults import cut_off_commits, take_each_other_for_dead
from tests.cluster.scripted import RESOLUTIONS, Crew, Event, Script, envelope, is_wait_timer, kinds
from tests.support.server import Cluster

COUNT = 100
LEASES = {"DW_WORKFLOW_TASK_TIMEOUT": "3", "DW_ACTIVITY_TASK_TIMEOUT": "3", "DW_QUERY_TASK_TIMEOUT": "5"}
DEADLINE_SECONDS = 150.0
LONGEST_OUTAGE_SECONDS = 4.0  # on both sides of the lease of a node, which is 3 s
UPSETS = 2  # smaller faults on the way to the kill
ENDINGS = ("WorkflowCompleted", "WorkflowContinuedAsNew", "WorkflowCancelled", "WorkflowTerminated", "WorkflowFailed")
OPENINGS = ("ActivityScheduled", "TimerScheduled", "ChildWorkflowScheduled", "ConditionWaitOpened")


class FinishedRun(NamedTuple):
    """A run after the end: its item in the list, and its history."""

    item: dict[str, Any]
    events: list[Event]

    @property
    def workflow_id(self) -> str:
        found: str = self.item["workflow_id"]
        return found

    @property
    def status(self) -> str:
        found: str = self.item["status"]
        return found

    @property
    def kinds(self) -> list[str]:
        """The types of its events."""
        return kinds(self.events)

    def payloads(self, *types: str) -> list[dict[str, Any]]:
        """Payloads of the events of these types."""
        return [event["payload"] for event in self.events if event["event_type"] in types]

    @property
    def result(self) -> Any:
        """What a completed run returned."""
        (payload,) = self.payloads("WorkflowCompleted")
        return decode_stored(payload["output"])

    @property
    def signals(self) -> list[Any]:
        """The first argument of every signal it received."""
        return [decode_stored(payload["arguments"])[0] for payload in self.payloads("SignalReceived")]


class TwoNodeCluster:
    """Starts the workflows of a script, kills and restarts a node meanwhile, and collects the runs, inside `async with`."""

    def __init__(self, made: Cluster, script: Script, count: int = COUNT) -> None:
        self.made = made
        self.crew = Crew(made.nodes, script)
        self.watch = EventWatch(made.place)
        self.count = count
        seed = os.environ.get("DW_TEST_SEED") or secrets.token_hex(4)
        self.random = random.Random(seed)
        print(f"DW_TEST_SEED={seed}")

    async def __aenter__(self) -> Self:
        await self.watch.__aenter__()
        await self.crew.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.watch.__aexit__()
        await self.crew.__aexit__()

    def workflow_id(self, number: int) -> str:
        """The id of the workflow of this number."""
        return f"{self.crew.queue}.{number}"

    async def fight(self, reports: float) -> None:
        """Start all workflows and see each through, while faults come and a node is killed and started again.

        `reports`: how many outcomes there are at least per workflow; the moment of the kill is chosen among them.
        """
        gate = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with gate:
                await self.begin(number)
            await self.accompany(number)

        moment = int(self.random.uniform(0.1, 0.8) * self.count * reports)
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(self._strike(moment))
            for number in range(self.count):
                group.create_task(one(number))

    async def begin(self, number: int) -> None:
        """Start what this number stands for."""
        body = {
            "workflow_id": self.workflow_id(number),
            "workflow_type": self.crew.script.workflow_types[0],
            "task_queue": self.crew.queue,
            "duplicate_policy": "use-existing",
            "input": envelope([number]),
        }
        reply = await self.crew.persist("/api/workflows", body)
        assert reply.status in (200, 201), reply

    async def accompany(self, number: int) -> None:
        """What is done to a workflow from outside after its start."""

    async def called(self, number: int) -> None:
        """Wait until a workflow has called its children."""
        workflow_id = self.workflow_id(number)
        run_id = (await self._get(f"/api/workflows/{workflow_id}"))["run_id"]
        while True:
            history = await self._get(f"/api/workflows/{workflow_id}/runs/{run_id}/history")
            if "ChildWorkflowScheduled" in kinds(history["events"]):
                return
            await asyncio.sleep(0.2)

    async def _get(self, path: str) -> dict[str, Any]:
        while True:
            reply = await self.crew.client.get(path)
            if reply.status == 200:
                return reply.body
            assert reply.status == 0 or reply.status >= 500, reply

    async def _strike(self, moment: int) -> None:
        connection = await asyncpg.connect(self.made.place.dsn)
        try:
            for part in range(1, UPSETS + 1):
                await self._reported(moment * part // (UPSETS + 1))
                await self.random.choice((take_each_other_for_dead, cut_off_commits))(connection)
        finally:
            await connection.close()
        await self._reported(moment)
        victim = self.random.choice(self.made.nodes)
        victim.kill()
        await asyncio.sleep(self.random.uniform(0.0, LONGEST_OUTAGE_SECONDS))
        victim.start(wait=False)
        await victim.ready()

    async def _reported(self, count: int) -> None:
        """Until there are so many outcomes."""
        while self.crew.reports < count:
            await asyncio.sleep(0.002)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def finish(self) -> dict[str, list[FinishedRun]]:
        """Wait for the end of every run and check what holds of any; workflow id -> its runs, oldest first."""
        crew = self.crew
        await self._all_closed()
        await crew.idle()
        assert not crew.refused, crew.refused[:5]
        items = await self._list("")
        gate = asyncio.Semaphore(16)

        async def load(item: dict[str, Any]) -> FinishedRun:
            async with gate:
                reply = await crew.client.get(f"/api/workflows/{item['workflow_id']}/runs/{item['run_id']}/history")
            assert reply.status == 200, reply
            return FinishedRun(item, reply.body["events"])

        runs = await asyncio.gather(*(load(item) for item in items))
        for run in runs:
            check_history(run)
            check_recorded(run, crew.recorded.get(run.item["run_id"], set()))
        lengths = {run.item["run_id"]: len(run.events) for run in runs}
        await self.watch.wait_for(lengths)
        self.watch.check_order(lengths)
        for run in runs:
            streamed = {sequence: orjson.loads(data)["event_type"] for sequence, data in self.watch.seen[run.item["run_id"]]}
            assert list(streamed.values()) == run.kinds, (streamed, run.kinds)
        found: dict[str, list[FinishedRun]] = {}
        for run in reversed(runs):  # the list has the newest first
            found.setdefault(run.workflow_id, []).append(run)
        for chain in found.values():
            check_chain(chain)
        for (workflow_id, kind), sent in crew.sent.items():
            if kind in _RECORDED_AS:  # a query leaves no trace
                check_commands(kind, sent, found[workflow_id])
        return found

    async def _all_closed(self) -> None:
        """No open run and no message on its way, in one look: a message may begin another run."""
        connection = await asyncpg.connect(self.made.place.dsn)
        sql = "SELECT (SELECT count(*) FROM runs WHERE closed_at IS NULL), (SELECT count(*) FROM mailbox)"
        left: tuple[int, ...] = ()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while any(left := tuple(await connection.fetchrow(sql))):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            stuck = (await self._list("&status=running") or [{"workflow_id": "-", "run_id": "-"}])[0]
            reply = await self.crew.client.get(f"/api/workflows/{stuck['workflow_id']}/runs/{stuck['run_id']}/history")
            shown = kinds(reply.body.get("events", []))
            text = f"after {DEADLINE_SECONDS} s there are {left} open runs and messages, such as {stuck}: {shown}"
            raise AssertionError(f"{text}; {self.crew.answers}") from None
        finally:
            await connection.close()

    async def _list(self, query: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            reply = await self.crew.client.get(f"/api/workflows?page_size=200{query}{token}")
            assert reply.status == 200, reply
            items += reply.body["workflows"]
            if not reply.body["next_page_token"]:
                return items
            token = f"&next_page_token={reply.body['next_page_token']}"


def check_history(run: FinishedRun) -> None:
    """The invariants of a closed run (engine-semantics 14): no gap, one beginning, one end, one resolution a step."""
    events, types = run.events, run.kinds
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1)), types
    times = [event["timestamp"] for event in events]
    assert times == sorted(times), times
    assert types.count("WorkflowStarted") == 1 and "WorkflowStarted" in types[:2], types
    assert sum(types.count(ending) for ending in ENDINGS) == 1, types
    opened: list[int] = []
    resolved: Counter[int] = Counter()
    attempts: dict[int, int] = {}
    for event in events:
        kind, payload = event["event_type"], event["payload"]
        step = payload.get("sequence", 0)
        if kind in OPENINGS and not (kind == "TimerScheduled" and is_wait_timer(event)):
            opened.append(step)
        elif kind in RESOLUTIONS and not is_wait_timer(event):
            assert step in opened, (step, types)
            resolved[step] += 1
        elif kind == "ActivityStarted":
            assert payload["attempt_number"] > attempts.get(step, 0) and not resolved[step], types
            attempts[step] = payload["attempt_number"]
    assert opened == sorted(set(opened)), (opened, types)
    assert not resolved or max(resolved.values()) == 1, (resolved, types)
    accepted = Counter(payload["update_id"] for payload in run.payloads("UpdateAccepted"))
    ended = Counter(payload["update_id"] for payload in run.payloads("UpdateCompleted"))
    assert set(accepted.values()) <= {1} and (accepted == ended or "WorkflowContinuedAsNew" in types), types


def check_recorded(run: FinishedRun, attempts: Iterable[str]) -> None:
    """An outcome that was answered as recorded stands in history."""
    outcomes = run.payloads("ActivityCompleted", "ActivityFailed", "ActivityRetryScheduled")
    known = {payload.get(key) for payload in outcomes for key in ("activity_attempt_id", "retry_after_attempt_id")}
    assert set(attempts) <= known, (run.workflow_id, run.kinds)


_RECORDED_AS = {
    "start": ("StartAccepted", "StartRejected"),
    "signal": ("SignalReceived",),
    "update": ("UpdateAccepted", "UpdateRejected"),
    "cancel": ("CancelRequested",),
    "terminate": ("TerminateRequested",),
    "repair": ("RepairRequested",),
    "archive": ("ArchiveRequested",),
}


def check_commands(kind: str, sent: int, chain: list[FinishedRun]) -> None:
    """No command stands in history more often than it was sent, however often nodes repeated it among themselves.

    One that moves on to the next run keeps its id. What the server repairs by itself, no command asked for.
    """
    events = [payload for run in chain for payload in run.payloads(*_RECORDED_AS[kind])]
    recorded = {payload["workflow_command_id"] for payload in events if "workflow_command_id" in payload}
    assert len(recorded) <= sent, (kind, sent, chain[0].workflow_id, recorded)


def check_chain(chain: list[FinishedRun]) -> None:
    """Runs of one workflow id follow each other by name."""
    for old, new in itertools.pairwise(chain):
        assert old.status in ("completed", "failed"), chain
        for payload in old.payloads("WorkflowContinuedAsNew"):
            assert payload["continued_to_run_id"] == new.item["run_id"], (old.item, new.item)
