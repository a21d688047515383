"""How long a run stands still when something happens to the node that hosts it: workflows in flight, faults, and the time from
each fault to the next completed task of every run that the node had.

Clients send nothing to a node that is dead or frozen, as a load balancer would do, and give up at once what is in flight there:
what is measured is the cluster's time, not theirs.
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from actors.run import ids
from bench.http import HttpError
from bench.payloads import encode
from tests.cluster.client import BACKOFF_SECONDS, ClusterClient, Reply, request_bytes
from tests.cluster.harness import ACTIVITY_TYPE, Load
from tests.cluster.two_node_cluster import LEASES
from tests.support.proxy import Links
from tests.support.server import ServerProcess
from tests.support.services import TestServices

NODES = 3
OPEN_RUNS = 45
CYCLES = 8  # activities of a workflow
PATIENCE_SECONDS = 30.0

KILL, FREEZE, STALL_POSTGRES, STALL_NATS, RESTART = "kill", "freeze", "stalled Postgres", "stalled NATS", "Postgres restart"
MIXED = (KILL, FREEZE, FREEZE, STALL_POSTGRES, STALL_NATS, RESTART)


class AvoidingClient(ClusterClient):
    """Knows which nodes not to ask."""

    def __init__(self, nodes: Iterable[ServerProcess]) -> None:
        super().__init__(list(nodes))
        self._avoided: set[str] = set()
        self._asked: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)

    def avoid(self, node: ServerProcess) -> None:
        """Send nothing there, and wait for nothing."""
        self._avoided.add(node.url)
        for asked in self._asked[node.url]:
            asked.cancel()

    def trust(self, node: ServerProcess) -> None:
        """It may be asked again."""
        self._avoided.discard(node.url)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None, plane: str, at: ServerProcess | None) -> Reply:
        reply = Reply(0, {})
        for number in range(1, 4):
            if number > 1:
                await asyncio.sleep(BACKOFF_SECONDS)
            self._turn += 1
            nodes = [node for node in self.nodes if node.url not in self._avoided]
            node = nodes[self._turn % len(nodes)]
            asked = asyncio.ensure_future(self._pool(node).request(request_bytes(node, method, path, body, plane)))
            self._asked[node.url].add(asked)
            try:
                done, _ = await asyncio.wait({asked}, timeout=PATIENCE_SECONDS)
                if not done or asked.cancelled():
                    continue
                response = asked.result()
            except HttpError:
                continue
            finally:
                asked.cancel()
                self._asked[node.url].discard(asked)
            reply = Reply(response.status, orjson.loads(response.body) if response.body else {}, number)
            if response.status < 500:
                return reply
            self.trouble[str(response.status)] += 1
        return reply


class Cycles(Load):
    """Workflows of several activities, one after the other; a new one begins when one ends."""

    def __init__(self, nodes: list[ServerProcess], chance: random.Random) -> None:
        super().__init__(nodes, pollers=16, workers=3, persistent=True)
        self.avoiding = AvoidingClient(nodes)
        self.client = self.avoiding
        self.open: set[str] = set()
        self._chance = chance
        self._ended: dict[str, asyncio.Event] = {}

    async def keep_going(self) -> None:
        """One workflow after the other."""
        while True:
            before = set(self.acknowledged)
            await self._start_one(None)
            for workflow_id in set(self.acknowledged) - before:
                if self.acknowledged[workflow_id] not in self._ended:
                    await self._see_through(workflow_id, self.acknowledged[workflow_id])

    async def _see_through(self, workflow_id: str, run_id: str) -> None:
        ended = self._ended[run_id] = asyncio.Event()
        self.open.add(run_id)
        while not ended.is_set():
            try:
                async with asyncio.timeout(10):
                    await ended.wait()
            except TimeoutError:
                reply = await self.client.get(f"/api/workflows/{workflow_id}/runs/{run_id}")
                if reply.status == 200 and reply.body["status"] != "running":
                    break
        self.open.discard(run_id)

    async def _decide(self, task: dict[str, Any]) -> None:
        done = sum(event["event_type"] == "ActivityCompleted" for event in task["history_events"])
        if done < CYCLES:
            step = {
                "type": "schedule_activity",
                "activity_type": ACTIVITY_TYPE,
                "arguments": task["arguments"],
                "queue": self.queue,
            }
        else:
            step = {"type": "complete_workflow", "result": {"codec": "avro", "blob": encode(done)}}
        body = {
            "lease_owner": task["lease_owner"],
            "workflow_task_attempt": task["workflow_task_attempt"],
            "commands": [step],
        }
        await self._report(task, f"/api/worker/workflow-tasks/{task['task_id']}/complete", body, "workflow task completed")
        if done >= CYCLES and task["run_id"] in self._ended:
            self._ended[task["run_id"]].set()

    async def _perform(self, task: dict[str, Any]) -> None:
        self._activity_seconds = self._chance.uniform(0.05, 0.5)
        await super()._perform(task)


@dataclass(frozen=True)
class Fault:
    """What happened, when (`time.monotonic()`, and `time.time()`), and which open runs the node hosted that it happened to."""

    kind: str
    at: float
    wall: float
    node_id: str
    hosted: frozenset[str]


class Trouble:
    """Nodes, load and faults, inside `async with`."""

    def __init__(self, services: TestServices, directory: Path, seed: str) -> None:
        self.services = services
        self.chance = random.Random(seed)
        self.faults: list[Fault] = []
        self.nodes: list[ServerProcess] = []
        self.place = services.deployment()
        self._directory = directory
        self._links: list[Links] = []
        self._hit: set[str] = set()
        self._down: list[tuple[float, float]] = []  # when there was no Postgres
        self._wounds: list[asyncio.Task[None]] = []
        self._starters: list[asyncio.Task[None]] = []
        self.load: Cycles

    async def __aenter__(self) -> Trouble:
        for number in range(NODES):
            sockets = self.services.directory / f"l{number}"
            sockets.mkdir()
            links = Links(self.place, sockets)
            await links.__aenter__()
            self._links.append(links)
            node = ServerProcess(links.place, self._directory, node_id=f"node-{number + 1}", env=LEASES)
            self.nodes.append(node)
            node.start(wait=False)
        for node in self.nodes:
            await node.ready()
        await asyncio.sleep(3)
        self.load = Cycles(self.nodes, self.chance)
        await self.load.__aenter__()
        self._starters = [asyncio.create_task(self.load.keep_going()) for _ in range(OPEN_RUNS)]
        await asyncio.sleep(5)
        return self

    async def __aexit__(self, *error: object) -> None:
        for wound in self._wounds:
            wound.cancel()
        await asyncio.gather(*self._wounds, return_exceptions=True)
        for links in self._links:
            links.postgres.resume()
            links.nats.resume()
        for starter in self._starters:
            starter.cancel()
        await asyncio.gather(*self._starters, return_exceptions=True)
        try:
            await self.load.__aexit__(*error)
        finally:
            for node in self.nodes:
                if node.running:
                    node.signal(signal.SIGCONT)
                    node.kill()
            for links in self._links:
                await links.__aexit__(*error)

    async def strike(self, kinds: tuple[str, ...], count: int, pause: tuple[float, float] = (4.0, 8.0)) -> None:
        """So many faults, the next perhaps while the last one lasts; one node at least has none of its own."""
        rounds: list[str] = []
        for _ in range(count):
            if not rounds:
                rounds = list(kinds)
                self.chance.shuffle(rounds)
            await self._strike(rounds.pop())
            await asyncio.sleep(self.chance.uniform(*pause))
        await asyncio.gather(*self._wounds)
        await asyncio.sleep(8)

    async def _strike(self, kind: str) -> None:
        while len(self._hit) >= NODES - 1:
            await asyncio.sleep(0.1)
        well = [number for number, node in enumerate(self.nodes) if node.node_id not in self._hit]
        number = self.chance.choice(well)
        node = self.nodes[number]
        hosted = await self._hosted(None if kind == RESTART else node.node_id)
        wounds: dict[str, Callable[[int], Awaitable[None]]] = {
            KILL: self._kill,
            FREEZE: self._freeze,
            STALL_POSTGRES: self._stall_postgres,
            STALL_NATS: self._stall_nats,
            RESTART: self._restart,
        }
        self.faults.append(Fault(kind, time.monotonic(), time.time(), "all" if kind == RESTART else node.node_id, hosted))
        if kind != RESTART:
            self._hit.add(node.node_id)

        async def wound() -> None:
            try:
                await wounds[kind](number)
            finally:
                if kind != RESTART:
                    self._hit.discard(node.node_id)

        self._wounds.append(asyncio.create_task(wound()))

    async def _hosted(self, node_id: str | None) -> frozenset[str]:
        if node_id is None:
            return frozenset(self.load.open)
        while True:
            try:
                connection = await asyncpg.connect(self.place.dsn)
                rows = await connection.fetch("SELECT shard FROM shards WHERE node_id = $1", node_id)
                await connection.close()
                break
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # it is being restarted
                await asyncio.sleep(0.1)
        held = {row[0] for row in rows}
        return frozenset(run_id for run_id in self.load.open if ids.shard_of_id(run_id) in held)

    async def _kill(self, number: int) -> None:
        node = self.nodes[number]
        self.load.avoiding.avoid(node)
        node.kill()
        await asyncio.sleep(self.chance.uniform(0.5, 6))
        node.start(wait=False)
        await node.ready()
        self.load.avoiding.trust(node)

    async def _freeze(self, number: int) -> None:
        node = self.nodes[number]
        self.load.avoiding.avoid(node)
        node.signal(signal.SIGSTOP)
        await asyncio.sleep(self.chance.uniform(2, 15))
        node.signal(signal.SIGCONT)
        self.load.avoiding.trust(node)

    async def _stall_postgres(self, number: int) -> None:
        link = self._links[number].postgres
        link.stall()
        await asyncio.sleep(self.chance.uniform(2, 15))
        link.resume()

    async def _stall_nats(self, number: int) -> None:
        link = self._links[number].nats
        link.stall()
        await asyncio.sleep(self.chance.uniform(2, 15))
        link.resume()

    async def _restart(self, _number: int) -> None:
        postgres = self.services.postgres
        began = time.monotonic()
        await asyncio.to_thread(self.chance.choice((postgres.stop, postgres.kill)))
        await asyncio.sleep(self.chance.uniform(0, 2))
        await asyncio.to_thread(postgres.start)
        self._down.append((began, time.monotonic()))
        print(f"Postgres was away for {time.monotonic() - began:.2f} s")

    # -- what came of it ---------------------------------------------------------------------------------------------------

    async def measured(self) -> dict[str, list[float]]:
        """Seconds from each fault to the next completed task of each run it hit, by kind of fault.

        Those without Postgres are left out: how long it takes to start is not the nodes' doing.
        """
        done: defaultdict[str, list[float]] = defaultdict(list)
        for step in self.load.progress:
            if step.what.endswith("completed"):
                done[step.run_id].append(step.at)
        connection = await asyncpg.connect(self.place.dsn)
        try:
            closed = dict(await connection.fetch("SELECT run_id, closed_at FROM runs WHERE closed_at IS NOT NULL"))
        finally:
            await connection.close()
        found: defaultdict[str, list[float]] = defaultdict(list)
        for fault in self.faults:
            worst = []
            for run_id in fault.hosted:
                later = [at for at in done[run_id] if at > fault.at]
                if run_id in closed:  # by a report whose answer was lost, perhaps
                    later.append(max(closed[run_id] / 1e6 - fault.wall, 0.0) + fault.at)
                next_task = min(later, default=fault.at + PATIENCE_SECONDS)
                away = sum(max(min(next_task, end) - max(fault.at, begin), 0.0) for begin, end in self._down)
                found[fault.kind].append(next_task - fault.at - away)
                worst.append((round(found[fault.kind][-1], 2), run_id))
            worst.sort(reverse=True)
            print(
                f"{fault.wall:.2f} {fault.kind} {fault.node_id}: {len(fault.hosted)} runs, {[seconds for seconds, _ in worst]}"
            )
            for seconds, run_id in worst[:3]:
                steps = [f"{step.at - fault.at:.2f} {step.what}" for step in self.load.progress if step.run_id == run_id]
                near = [step for step in steps if -1.5 < float(step.split()[0]) < seconds + 0.2]
                print(f"    {run_id} shard {ids.shard_of_id(run_id)}: {near}")
        return found


def percentile(seconds: list[float], part: float) -> float:
    """The value below which this part of all lies."""
    return sorted(seconds)[min(int(len(seconds) * part), len(seconds) - 1)]


def shown(found: dict[str, list[float]]) -> str:
    """p50, p95 and the most, by kind and of all."""
    rows = {**found, "all": [one for each in found.values() for one in each]}
    return "\n".join(
        f"{kind}: {len(each)} runs, p50 {statistics.median(each):.2f}, p95 {percentile(each, 0.95):.2f}, most {max(each):.2f} s"
        for kind, each in rows.items()
        if each
    )
