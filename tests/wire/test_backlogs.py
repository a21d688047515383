"""Ready tasks that nobody present can take hide nothing and cost nothing (worker-protocol 3.3, 3.4, 4.2)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import psutil
import pytest

from tests.wire.caller import Caller, schedule

IN_FRONT = 2_100
MANY = 100_000
ELIGIBLE = 100
LANES = 10_000
HOUR = 3_600_000_000


async def stand_in_front(
    caller: Caller,
    count: int,
    kind: str = "workflow",
    *,
    types: int = 1,
    marker: str | None = None,
    delay: int = -HOUR,
    type_name: str = "unserved",
) -> None:
    """Rows on the caller's queue that come before all others, as if that many runs had put them there."""
    connection = await asyncpg.connect(caller.server.place.dsn)
    try:
        await connection.execute(
            "INSERT INTO ready_tasks"
            " SELECT 'front-' || $3 || g, 0, 'default', $1, $2, $4 || coalesce(nullif(g % $5, 0)::text, ''), $6, 0, NULL, 1, $7"
            " FROM generate_series(1, $8) g",
            caller.queue,
            kind,
            caller.queue + kind,
            type_name,
            types,
            marker,
            time.time_ns() // 1000 + delay,
            count,
        )
    finally:
        await connection.close()


OBSTACLES: dict[str, dict[str, Any]] = {
    "types nobody serves": {},
    "a thousand types nobody serves": {"types": 1000},
    "a build nobody runs": {"marker": "elsewhere"},
    "tasks not due yet": {"delay": HOUR, "type_name": "job"},
}
WORKERS: dict[str, dict[str, Any]] = {
    "typed": {"supported_workflow_types": ["job", "host"], "supported_activity_types": ["step"], "build_id": "here"},
    "any": {"build_id": "here"},
}
CASES = [
    (name, worker)
    for name in OBSTACLES
    for worker in WORKERS
    if not (worker == "any" and "types" in name)  # such a worker takes them all
]


@pytest.mark.parametrize("present", ["first", "late"])
@pytest.mark.parametrize("kind", ["workflow", "activity"])
@pytest.mark.parametrize(("obstacle", "serves"), CASES)
async def test_the_first_poll_gets_what_stands_behind_tasks_it_may_not_have(
    caller: Caller, obstacle: str, serves: str, kind: str, present: str
) -> None:
    """`present`: whether workers polled before all that, or nobody ever did and the queue is cold."""
    changes = dict(OBSTACLES[obstacle])
    if kind == "activity" and "type_name" in changes:
        changes["type_name"] = "step"
    worker = await caller.register(**WORKERS[serves]) if present == "first" or kind == "activity" else ""
    if present == "first":
        assert await caller.poll_once(worker, kind) is None
    await stand_in_front(caller, IN_FRONT, kind, **changes)
    run = await caller.start(workflow_type="host")
    if kind == "activity":
        assert (await caller.complete(await caller.poll(worker), schedule("step"))).status_code == 200
    worker = worker or await caller.register(**WORKERS[serves])
    task = await caller.poll_once(worker, kind)
    assert task is not None and task["run_id"] == run["run_id"]
    assert await caller.poll_once(worker, kind) is None


async def test_a_task_that_comes_while_polls_wait_behind_a_backlog_is_handed_over_at_once(caller: Caller) -> None:
    await stand_in_front(caller, IN_FRONT)
    worker = await caller.register(supported_workflow_types=["job"])
    poll = asyncio.create_task(caller.poll_once(worker))
    await asyncio.sleep(0.3)
    run = await caller.start()
    task = await poll
    assert task is not None and task["run_id"] == run["run_id"]
    dsn = caller.server.place.dsn
    connection = await asyncpg.connect(dsn)
    try:
        assert (
            await connection.fetchval("SELECT count(*) FROM ready_tasks WHERE queue = $1 AND priority > 0", caller.queue) == 0
        )
    finally:
        await connection.close()


async def test_priority_and_age_decide_over_all_types_of_a_worker(caller: Caller) -> None:
    await stand_in_front(caller, IN_FRONT, types=50)
    runs = [
        await caller.start(workflow_type=name, priority=priority)
        for name, priority in [("b", 7), ("a", 7), ("c", 2), ("b", 0), ("a", 7), ("c", 0)]
    ]
    worker = await caller.register(supported_workflow_types=["a", "b", "c"])
    got = [(await caller.poll(worker))["run_id"] for _ in runs]
    assert got == [runs[index]["run_id"] for index in (3, 5, 2, 0, 1, 4)]


class Cost:
    """What the node spends on polls."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.node = psutil.Process(caller.server.pid)

    def cpu(self) -> float:
        times = self.node.cpu_times()
        return times.user + times.system

    async def of_empty_polls(self, worker: str, count: int) -> float:
        """Node CPU seconds of a poll that finds nothing and is held to its end."""
        before = self.cpu()
        for _ in range(5):
            found = await asyncio.gather(*(self.caller.poll_once(worker) for _ in range(count)))
            assert not any(found)
        return (self.cpu() - before) / (5 * count)

    async def of_tasks(self, worker: str) -> tuple[float, float]:
        """Node CPU seconds of a poll that gets a task, and how long the slowest took."""
        for _ in range(ELIGIBLE):
            await self.caller.start()
        before = self.cpu()
        slowest = 0.0
        tasks = []
        for _ in range(ELIGIBLE):
            began = time.monotonic()
            task = await self.caller.poll_once(worker)
            slowest = max(slowest, time.monotonic() - began)
            assert task is not None
            tasks.append(task)
        spent = self.cpu() - before
        for task in tasks:
            assert (await self.caller.complete(task)).status_code == 200
        return spent / ELIGIBLE, slowest


@pytest.mark.proof
async def test_a_hundred_thousand_tasks_nobody_can_take_cost_a_poll_nothing(caller: Caller) -> None:
    cost = Cost(caller)
    worker = await caller.register(supported_workflow_types=["job", "refund", "ship"], build_id="here")
    await cost.of_tasks(worker)  # warm
    plain_empty = await cost.of_empty_polls(worker, 100)
    plain, _ = await cost.of_tasks(worker)
    memory = cost.node.memory_info().rss
    await stand_in_front(caller, MANY, types=LANES)
    blocked, slowest = await cost.of_tasks(worker)
    blocked_empty = await cost.of_empty_polls(worker, 100)
    grown = (cost.node.memory_info().rss - memory) / 2**20
    print(
        f"\nCPU of a poll: empty {plain_empty * 1e3:.3f} ms, behind {MANY} tasks {blocked_empty * 1e3:.3f} ms; with a task"
        f" {plain * 1e3:.3f} ms and {blocked * 1e3:.3f} ms, slowest {slowest * 1e3:.0f} ms; memory +{grown:.1f} MiB"
    )
    assert slowest < 1.0
    assert blocked_empty <= 2 * plain_empty and blocked <= 2 * plain
    assert grown < 20
