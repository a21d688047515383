"""Real nodes whose clocks are wrong or jump: nothing freezes, nothing fires early, and they say so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.clock import Clock
from node.config import Config
from node.http.server import base_url, bind
from node.server import Node
from node.settings import edge_limits
from node.wiring import assemble
from tests.api.conftest import CONTROL, WORKER
from tests.api.driver import Http
from tests.support.server import DEFAULTS, TOKEN, ServerProcess
from tests.support.services import Deployment

pytestmark = pytest.mark.proof

HOUR = 3600
NANOS = 1_000_000_000
PATIENCE = 30.0
HEADERS = {**CONTROL, **WORKER, "Authorization": f"Bearer {TOKEN}"}


class Wrong:
    """A machine's own clock that is so many seconds ahead."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def __call__(self) -> int:
        return time.time_ns() + int(self.ahead * NANOS)


class Unruled(Clock):
    """The clock of earlier versions: the machine's own."""

    def observe(self, database: int, sent: int) -> None:
        pass


class Shifted(Clock):
    """The clock of a node whose database's clock is so many seconds ahead."""

    ahead = 0.0

    def observe(self, database: int, sent: int) -> None:
        super().observe(database + int(self.ahead * 1_000_000), sent)


@contextlib.asynccontextmanager
async def running(place: Deployment, name: str, clock: Clock) -> AsyncIterator[Http]:
    """A node in this process, by a clock of the test's, and a client of it."""
    config = Config.read({**DEFAULTS, **place.environment(), "DW_NODE_ID": name, "DW_WORKER_POLL_TIMEOUT": "1"})
    bound = bind("127.0.0.1", 0)
    node = Node(assemble(config, base_url(bound), clock), bound, 5, edge_limits(config))
    try:
        await node.start()
        await node.starting
        async with httpx.AsyncClient(base_url=node.url, headers=HEADERS, timeout=30) as client:
            yield Http(client)
    finally:
        await node.stop()


async def task_of(http: Http, kind: str = "workflow", seconds: float = PATIENCE) -> dict[str, Any]:
    """The next task, however many polls it takes."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        task: dict[str, Any] | None = await http.poll(kind)
        if task is not None:
            return task
    raise AssertionError(f"no {kind} task within {seconds} s")


async def finish(http: Http, task: dict[str, Any]) -> None:
    await http.complete(task, {"type": "complete_workflow", "result": "done"})


async def times_of(http: Http, workflow_id: str, run_id: str) -> list[datetime]:
    """The recorded times of a run, which must be in order."""
    events = (await http.get(f"/workflows/{workflow_id}/runs/{run_id}/history"))["events"]
    times = [datetime.fromisoformat(event["timestamp"]) for event in events]
    assert times == sorted(times)
    return times


async def until_ready(http: Http, skewed: bool) -> dict[str, Any]:
    """Readiness, once it names a skewed clock or does no longer; it is ready all the time."""
    for _ in range(300):
        body = await http.get("/ready")
        assert body["status"] == "ready"
        if ("clock" in body["checks"]) == skewed:
            return body
        await asyncio.sleep(0.1)
    raise AssertionError(body)


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
async def test_a_node_goes_by_the_databases_clock(place: Deployment, ahead: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dw.actors")
    wrong = Wrong(ahead)
    async with running(place, "one", Clock(5.0, wrong)) as http:
        await http.register()
        run_id = await http.waiting("w-1", {"type": "start_timer", "delay_seconds": 1})
        began = time.monotonic()
        task = await task_of(http)
        assert time.monotonic() - began < PATIENCE / 2
        lease = datetime.fromisoformat(task["lease_expires_at"])
        assert 0 < (lease - datetime.now(UTC)).total_seconds() <= 60
        await finish(http, task)
        for at in await times_of(http, "w-1", run_id):
            assert abs((datetime.now(UTC) - at).total_seconds()) < PATIENCE
        workers = (await http.get("/workers"))["workers"]
        assert [worker["status"] for worker in workers] == ["active"]
        named = (await until_ready(http, skewed=True))["checks"]["clock"]
        assert named["status"] == "ok" and round(named["skew_seconds"]) == ahead
        wrong.ahead = 0
        await until_ready(http, skewed=False)
    said = [record.getMessage() for record in caplog.records if vars(record).get("action", "").startswith("clock.")]
    assert len(said) == 2 and "3600.0 s" in said[0] and "agrees" in said[1], said


async def test_a_jump_of_a_nodes_clock_fires_no_timer(place: Deployment) -> None:
    wrong = Wrong(0)
    async with running(place, "one", Clock(5.0, wrong)) as http:
        await http.register()
        run_id = await http.waiting("w-1", {"type": "start_timer", "delay_seconds": 4})
        began = time.monotonic()
        wrong.ahead = HOUR
        await task_of(http)
        assert time.monotonic() - began >= 3.5, "fired early"
        events = (await http.get(f"/workflows/w-1/runs/{run_id}/history"))["events"]
        fired = next(event for event in events if event["event_type"] == "TimerFired")
        at = datetime.fromisoformat(fired["timestamp"])
        assert at >= datetime.fromisoformat(fired["payload"]["fire_at"])
        assert abs((datetime.now(UTC) - at).total_seconds()) < PATIENCE


async def touched_by_a_wrong_clock(http: Http) -> dict[str, str]:
    """Runs in every state of waiting; all of their times are an hour ahead."""
    await http.register()
    timed = await http.waiting("timed", {"type": "start_timer", "delay_seconds": 2})
    signalled = await http.waiting("signalled")
    timeout = await http.waiting("timeout", {"type": "open_condition_wait", "condition_key": "go", "timeout_seconds": 2})
    retried = await http.waiting(
        "retried",
        {"type": "schedule_activity", "activity_type": "work", "retry_policy": {"max_attempts": 2, "backoff_seconds": [1]}},
    )
    attempt = await task_of(http, "activity")
    body = {"activity_attempt_id": attempt["activity_attempt_id"], "lease_owner": http.worker, "failure": {"message": "no"}}
    await http.post(f"/worker/activity-tasks/{attempt['task_id']}/fail", 200, **body)
    ready = (await http.start(workflow_id="ready"))["run_id"]
    return {"timed": timed, "signalled": signalled, "timeout": timeout, "retried": retried, "ready": ready}


async def all_go_on(http: Http, run_ids: dict[str, str]) -> None:
    """They come to their ends as if nothing had been wrong, in a small part of that hour."""
    await http.register()
    await http.post("/workflows/signalled/signal/go", 202, input=[])
    left = set(run_ids)
    attempt = await task_of(http, "activity")
    done = {"activity_attempt_id": attempt["activity_attempt_id"], "lease_owner": http.worker, "result": "done"}
    await http.post(f"/worker/activity-tasks/{attempt['task_id']}/complete", 200, **done)
    while left:
        task = await task_of(http)
        await finish(http, task)
        left.discard(task["workflow_id"])
    for workflow_id, run_id in run_ids.items():
        await times_of(http, workflow_id, run_id)


async def test_runs_of_an_earlier_clock_that_was_ahead_go_on(place: Deployment) -> None:
    async with running(place, "old", Unruled(5.0, Wrong(HOUR))) as http:
        queue, worker = http.queue, http.worker
        run_ids = await touched_by_a_wrong_clock(http)
        times = await times_of(http, "ready", run_ids["ready"])
        assert (times[0] - datetime.now(UTC)).total_seconds() > HOUR - PATIENCE, "the test needs a wrong clock"
    async with running(place, "new", Clock()) as http:
        http.queue, http.worker = queue, worker
        await all_go_on(http, run_ids)


async def test_runs_go_on_when_the_databases_clock_was_ahead(place: Deployment) -> None:
    clock = Shifted()
    clock.ahead = HOUR
    async with running(place, "one", clock) as http:
        run_ids = await touched_by_a_wrong_clock(http)
        clock.ahead = 0.0
        await all_go_on(http, run_ids)


def faketime() -> str | None:
    """The library of Debian's `faketime` that changes the time of whole processes."""
    found = [os.environ.get("DW_TEST_FAKETIME", ""), *map(str, Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))]
    return next((path for path in found if path and Path(path).exists()), None)


@pytest.mark.skipif(faketime() is None, reason="needs the Debian package faketime, or DW_TEST_FAKETIME=<libfaketimeMT.so.1>")
async def test_a_process_whose_machine_is_an_hour_ahead(place: Deployment, tmp_path: Path) -> None:
    env = {"LD_PRELOAD": faketime() or "", "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    server = ServerProcess(place, tmp_path, env=env).start()
    try:
        async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=30) as client:
            http = Http(client)
            await http.register()
            run_id = await http.waiting("w-1", {"type": "start_timer", "delay_seconds": 1})
            await finish(http, await task_of(http))
            for at in await times_of(http, "w-1", run_id):
                assert abs((datetime.now(UTC) - at).total_seconds()) < PATIENCE
            await until_ready(http, skewed=True)
    finally:
        server.kill()
    assert len(re.findall("the clock of this machine is 3600", server.log_file.read_text())) == 1
