"""A node in this process, beside others that may be killed: commands go to its engine, rows are read from the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import asyncpg
import orjson

from actors.clock import Clock
from actors.engine import Engine
from actors.schedule.commands import CreateSchedule
from actors.schedule.presentation import detail
from actors.schedule.replies import Acted
from actors.schedule.state import Definition, ScheduleState, decode
from base.observability.metrics import NO_METRICS
from node.config import Config
from node.http.server import base_url, bind
from node.server import Node
from node.wiring import Parts, assembly_of
from store import schedules
from store.commit.schedule_writes import AuditRow
from tests.support.defaults import EDGE
from tests.support.services import Deployment

EVERY_SECOND = {"intervals": [{"every": "PT1S"}]}
NEVER = {"cron_expressions": ["0 0 30 2 *"]}
ACTION = {"workflow_type": "tick", "task_queue": "ticks", "input": [1]}
PATIENCE_SECONDS = 60


class LiveNode:
    """Inside `async with`. What it is asked for is the engine's, wherever a schedule is hosted."""

    def __init__(self, place: Deployment, node_id: str = "inside", clock: Clock | None = None) -> None:
        environment = {**place.environment(), "DW_AUTH_TOKEN": "t", "DW_SERVER_ID": node_id}
        self.place = place
        config = Config.read(environment, host_name=node_id)
        dsn = config.database.dsn
        assert dsn is not None
        bound = bind("127.0.0.1", 0)
        clock = clock or Clock(config.server.clock_skew_seconds)
        self.parts = Parts(config, dsn, base_url(bound), clock, None, NO_METRICS)
        self._node = Node(assembly_of(self.parts), bound, 5, EDGE)

    async def __aenter__(self) -> Self:
        await self._node.start()
        await asyncio.wait_for(self._node.starting, PATIENCE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._node.stop()

    @property
    def engine(self) -> Engine:
        assert self.parts.engine is not None
        return self.parts.engine

    async def create(self, schedule_id: str, *, paused: bool = False, **definition: Any) -> None:
        whole = Definition(**{"spec": NEVER, "action": ACTION, **definition})
        command = CreateSchedule(self.engine.schedules.new_record_id("default", schedule_id), whole, paused=paused)
        assert await self.engine.schedules.create("default", schedule_id, command) == Acted("created")

    async def state(self, schedule_id: str) -> ScheduleState:
        stored = await schedules.get(self.parts.db, self.engine.schedules.key("default", schedule_id))
        assert stored is not None
        return decode(stored.state, stored.definition)

    async def detail(self, schedule_id: str) -> dict[str, Any]:
        return detail(await self.state(schedule_id))

    async def until(self, schedule_id: str, holds: Callable[[ScheduleState], bool]) -> ScheduleState:
        """Wait until the stored schedule is as told."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(state := await self.state(schedule_id)):
                await asyncio.sleep(0.02)
        return state

    async def fired(self, schedule_id: str, times: int) -> None:
        """Wait until it has fired so often."""
        await self.until(schedule_id, lambda state: state.fires_count >= times)

    async def audit(self, schedule_id: str) -> list[AuditRow]:
        events = await schedules.audit(self.parts.db, self.engine.schedules.key("default", schedule_id), 0, 10_000, 1 << 30)
        assert events is not None
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        return events

    async def triggered(self) -> list[dict[str, Any]]:
        """Payloads of the ScheduleTriggered events in the histories of runs."""
        rows = await self.parts.db.fetch("SELECT body FROM history ORDER BY run_id, first_sequence")
        events = [orjson.loads(line) for row in rows for line in row[0].split(b"\n")]
        return [event["payload"] for event in events if event["event_type"] == "ScheduleTriggered"]

    async def messages(self) -> int:
        """How many there are that nobody has applied."""
        return int(await self.parts.db.fetchval("SELECT count(*) FROM mailbox"))

    async def quiet(self) -> None:
        """Wait until every message was applied."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.messages():
                await asyncio.sleep(0.05)


def once_each(payloads: list[dict[str, Any]]) -> None:
    """No start of a schedule has begun two runs."""
    found = Counter((each["schedule_ulid"], each["trigger_number"], each.get("occurrence_time")) for each in payloads)
    assert not [start for start, times in found.items() if times > 1], found


async def run_rows(place: Deployment) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(place.dsn)
    try:
        rows: list[asyncpg.Record] = await connection.fetch("SELECT run_id, workflow_id, status, closed_reason FROM runs")
        return rows
    finally:
        await connection.close()
