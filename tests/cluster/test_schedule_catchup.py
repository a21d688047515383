"""Occurrences missed while no node ran: those inside `catchup_window_seconds` fire in order, each once (operations 1.3)."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.services import Deployment

pytestmark = [pytest.mark.cluster, pytest.mark.proof]

WINDOWS = {"whole": 3600, "short": 2, "none": 0}
OUTAGE_SECONDS = 6.0


async def occurrences(client: httpx.AsyncClient, schedule_id: str) -> list[int]:
    """The occurrences that started a run, as seconds of the clock, in the order in which they fired.

    The audit history has them in the order in which their runs, which are of many shards, were confirmed.
    """
    found: dict[int, int] = {}  # by the number of the fire
    after = 0
    while True:
        path = f"/api/schedules/{schedule_id}/history?limit=500&after_sequence={after}"
        page: dict[str, Any] = (await client.get(path)).json()
        for event in page["events"]:
            if event["event_type"] == "ScheduleTriggered":
                payload = event["payload"]
                assert payload["trigger_number"] not in found, "a number is given once"
                found[payload["trigger_number"]] = int(datetime.fromisoformat(payload["occurrence_time"]).timestamp())
        if not page["has_more"]:
            return [found[number] for number in sorted(found)]
        after = page["next_cursor"]


async def until_fired(client: httpx.AsyncClient, after: dict[str, int], more: int) -> dict[str, list[int]]:
    """Wait until each schedule has fired for so many occurrences behind the one named."""
    async with asyncio.timeout(120):
        while True:
            found = {name: await occurrences(client, name) for name in WINDOWS}
            if all(sum(second > after.get(name, 0) for second in seconds) >= more for name, seconds in found.items()):
                return found
            await asyncio.sleep(0.1)


async def test_an_outage_over_several_occurrences(place: Deployment, tmp_path: Path) -> None:
    server = ServerProcess(place, tmp_path).start()
    try:
        async with server.client() as client:
            for name, window in WINDOWS.items():
                body = {
                    "schedule_id": name,
                    "spec": {"intervals": [{"every": "PT1S"}]},
                    "action": {"workflow_type": "nobody-runs-it", "task_queue": "nobody"},
                    "overlap_policy": "allow_all",
                    "catchup_window_seconds": window,
                }
                assert (await client.post("/api/schedules", json=body)).status_code == 201
                shown = (await client.get(f"/api/schedules/{name}")).json()
                assert shown.get("catchup_window_seconds", 0) == window
            await until_fired(client, {}, 2)
            server.kill()
        await asyncio.sleep(OUTAGE_SECONDS)
        server.start()
        async with server.client() as client:
            back = {name: max(await occurrences(client, name)) for name in WINDOWS}
            found = await until_fired(client, back, 3)
    finally:
        server.stop()
    for name, seconds in found.items():
        assert seconds == sorted(set(seconds)), (name, seconds)
    gaps = {name: max(after - before for before, after in itertools.pairwise(seconds)) for name, seconds in found.items()}
    assert gaps["whole"] == 1, found
    assert OUTAGE_SECONDS - 3 <= gaps["short"] < gaps["none"] + 1 and gaps["none"] >= OUTAGE_SECONDS - 1, gaps
