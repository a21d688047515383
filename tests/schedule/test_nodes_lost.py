"""Schedules of every overlap policy on three nodes, two of which are killed and started again while all of them fire.

The third node is this process: it closes runs all the time, so that buffers are drained and stops have something to stop.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import asyncpg
import orjson
import pytest

from actors.errors import Unavailable
from actors.run.commands.control import CancelRun
from actors.schedule.commands import PauseSchedule, TriggerSchedule
from actors.schedule.keys import schedule_key
from actors.schedule.replies import Acted
from actors.schedule.state import OVERLAP_POLICIES
from actors.schedules import FireOutcome
from store.errors import StoreUnavailable
from tests.cluster.events import EventWatch
from tests.cluster.faults import cut_off_commits, take_each_other_for_dead
from tests.conftest import MakeCluster
from tests.schedule.live import EVERY_SECOND, LiveNode
from tests.support.defaults import SHARDS
from tests.support.server import Cluster
from tests.support.services import TestServices

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

EACH = 4  # schedules of a policy
OUTAGES_SECONDS = (0.5, 4.0)  # on both sides of the lease of a node


async def test_each_occurrence_fires_once_while_nodes_die(cluster: MakeCluster) -> None:
    made = cluster(2)
    names = [f"{policy}-{number}" for policy in OVERLAP_POLICIES for number in range(EACH)]
    async with LiveNode(made.place) as node, EventWatch(made.place) as watch:
        for name in names:
            await node.create(name, spec=EVERY_SECOND, overlap_policy=name.rpartition("-")[0])
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_close_runs(node, stop))
            group.create_task(_trigger(node, names, stop))
            await _strike(made)
            stop.set()
        for name in names:
            await _pause(node, name)
        await node.quiet()
        # What is buffered stays so while paused.
        lengths = {}
        begun = await _begun(made.place.dsn)
        for name in names:
            state = await node.state(name)
            events = await node.audit(name)
            fires = [event for event in events if event.event_type == "ScheduleTriggered"]
            assert not state.sent and len(fires) == state.fires_count and state.failures_count == 0, state
            assert state.fires_count > 0, name
            told = Counter(event.workflow_run_id for event in fires)
            assert told == Counter(begun[name]), name
            assert max(Counter(begun[name]).values()) == 1
            lengths[schedule_key("default", name, SHARDS)] = len(events)
        await watch.wait_for(lengths)
        watch.check_order(lengths)


async def _begun(dsn: str) -> dict[str, list[str]]:
    """The runs that each schedule has begun, and that no two are for one occurrence of its spec."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT run_id, body FROM history WHERE first_sequence = 1")
    await connection.close()
    found: dict[str, list[str]] = {}
    occurrences: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for line in row["body"].split(b"\n"):
            event = orjson.loads(line)
            if event["event_type"] == "ScheduleTriggered":
                payload = event["payload"]
                found.setdefault(payload["schedule_id"], []).append(row["run_id"])
                if "occurrence_time" in payload:
                    occurrences[payload["schedule_id"], payload["occurrence_time"]] += 1
    assert max(occurrences.values()) == 1, occurrences.most_common(3)
    return found


async def _pause(node: LiveNode, name: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                assert await node.engine.schedules.pause("default", name, PauseSchedule()) == Acted("paused")
                return
            except Unavailable:
                await asyncio.sleep(0.2)


async def _close_runs(node: LiveNode, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            rows = await node.parts.db.fetch("SELECT workflow_id FROM runs WHERE closed_at IS NULL LIMIT 200")
        except StoreUnavailable:
            rows = []
        for row in random.sample(rows, len(rows) // 2):
            try:
                await node.engine.workflows.command("default", row[0], CancelRun())
            except Unavailable:
                pass
        await asyncio.sleep(0.3)


async def _trigger(node: LiveNode, names: list[str], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await node.engine.schedules.trigger("default", random.choice(names), TriggerSchedule())
        except Unavailable:
            pass
        await asyncio.sleep(0.1)


async def _strike(made: Cluster) -> None:
    connection = await asyncpg.connect(made.place.dsn)
    try:
        await asyncio.sleep(3)
        for place, victim in enumerate(made.nodes):
            await (take_each_other_for_dead, cut_off_commits)[place % 2](connection)
            await asyncio.sleep(1.5)
            victim.kill()
            await asyncio.sleep(OUTAGES_SECONDS[place])
            victim.start(wait=False)
            await victim.ready()
            await asyncio.sleep(1.5)
    finally:
        await connection.close()


async def test_without_nats_schedules_fire_and_are_answered(own_services: TestServices, cluster: MakeCluster) -> None:
    place = own_services.deployment()
    cluster(1, place=place)
    names = [f"s-{number}" for number in range(8)]
    async with LiveNode(place) as node:
        for name in names:
            await node.create(name, spec=EVERY_SECOND, overlap_policy="allow_all")
        own_services.nats.stop()
        before = {name: (await node.state(name)).fires_count for name in names}
        for name in names:
            await node.fired(name, before[name] + 2)
        outcomes = [await node.engine.schedules.trigger("default", name, TriggerSchedule()) for name in names]
        assert {outcome.outcome for outcome in outcomes if isinstance(outcome, FireOutcome)} == {"triggered"}
        for name in names:
            await _pause(node, name)
        await node.quiet()
        begun = await _begun(place.dsn)
        for name in names:
            events = await node.audit(name)
            fires = [event.workflow_run_id for event in events if event.event_type == "ScheduleTriggered"]
            assert Counter(fires) == Counter(begun[name])
