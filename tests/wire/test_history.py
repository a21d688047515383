"""The history a worker is given: pages, compression, and a snapshot that does not move."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from tests.wire.caller import Caller, reason_of, schedule

STEPS = 60


async def long_task(caller: Caller, **poll: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A worker holding the second workflow task of a run, after a batch of many activities of which one has ended."""
    worker = await caller.register()
    run = await caller.start()
    assert (await caller.complete(await caller.poll(worker), *[schedule()] * STEPS)).status_code == 200
    await _finish_one(caller, worker)
    return worker, run, await caller.poll(worker, **poll)


async def _finish_one(caller: Caller, worker: str) -> None:
    activity = await caller.poll(worker, "activity")
    assert (await caller.activity_call("complete", activity, result=1)).status_code == 200


async def pages(caller: Caller, task: dict[str, Any], size: int, **fields: Any) -> list[dict[str, Any]]:
    """All events of a task: the page that came with it, and the rest."""
    events = events_of(task)
    token = task["next_history_page_token"]
    while token is not None:
        answer = await caller.workflow_call("history", task, next_history_page_token=token, history_page_size=size, **fields)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert page["total_history_events"] == task["total_history_events"]
        found = events_of(page)
        token = page["next_history_page_token"]
        assert len(found) == size or token is None
        events += found
    return events


def events_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a page, unpacked."""
    packed = page.get("history_events_compressed")
    if packed is None:
        return list(page["history_events"])
    assert page["history_events"] == []
    data = base64.b64decode(packed)
    plain = gzip.decompress(data) if page["history_events_encoding"] == "gzip" else zlib.decompress(data, -15)
    return list(json.loads(plain))


def comparable(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What both planes show of events."""
    return [
        (event["sequence"], event["event_type"], event["payload"], event.get("recorded_at") or event.get("timestamp"))
        for event in events
    ]


@pytest.mark.parametrize("size", [1, 7, 31, 62, 63, 64, 1000])
async def test_pages_join_into_the_whole_history(caller: Caller, size: int) -> None:
    _, run, task = await long_task(caller, history_page_size=size)
    assert task["total_history_events"] == task["last_history_sequence"] == 2 + STEPS + 2
    assert len(task["history_events"]) == min(size, 64)
    assert (task["next_history_page_token"] is None) is (size >= 64)
    events = await pages(caller, task, size)
    assert comparable(events) == comparable(await caller.history(run))
    assert all(event["namespace"] == "default" and event["id"] for event in events)


@pytest.mark.parametrize(
    ("accepted", "size", "encoding"),
    [
        ("gzip", 60, "gzip"),
        ("deflate", 60, "deflate"),
        ("gzip", 50, "gzip"),
        ("gzip", 49, None),
        ("zstd", 60, None),
        ("deflate, gzip", 60, "gzip"),
    ],
)
async def test_compression_of_pages(caller: Caller, accepted: str, size: int, encoding: str | None) -> None:
    _, run, task = await long_task(caller, history_page_size=size, accept_history_encoding=accepted)
    if encoding == "gzip":
        assert task["history_events_encoding"] in ("gzip", "deflate")
    else:
        assert task.get("history_events_encoding") == encoding
    events = await pages(caller, task, size, accept_history_encoding=accepted)
    assert comparable(events) == comparable(await caller.history(run))
    whole = await caller.workflow_call(
        "history", task, next_history_page_token="MA==", history_page_size=1000, accept_history_encoding=accepted
    )
    assert comparable(events_of(whole.json())) == comparable(events)
    assert ("history_events_compressed" in whole.json()) is (accepted != "zstd")


async def test_a_snapshot_does_not_move(caller: Caller) -> None:
    worker, run, task = await long_task(caller, history_page_size=10)
    for _ in range(3):
        await _finish_one(caller, worker)
    assert len(await caller.history(run)) > task["total_history_events"]
    events = await pages(caller, task, 10)
    assert [event["sequence"] for event in events] == list(range(1, task["total_history_events"] + 1))
    assert [event["event_type"] for event in events][-2:] == ["ActivityStarted", "ActivityCompleted"]
    # The next task shows what came meanwhile.
    assert (await caller.complete(task, {"type": "start_timer", "delay_seconds": 600})).status_code == 200
    following = await caller.poll(worker)
    assert comparable(await pages(caller, following, 500)) == comparable(await caller.history(run))


async def test_tokens_at_the_end_and_unreadable_ones(caller: Caller) -> None:
    _, _, task = await long_task(caller)
    for last in (task["total_history_events"], 10_000):
        token = base64.b64encode(str(last).encode()).decode()
        page = (await caller.workflow_call("history", task, next_history_page_token=token)).json()
        assert (page["history_events"], page["next_history_page_token"]) == ([], None)
    for token in ("!!", "bm9wZQ==", base64.b64encode(b"-1").decode()):
        answer = await caller.workflow_call("history", task, next_history_page_token=token)
        assert reason_of(answer) == (400, "invalid_page_token")
    answer = await caller.workflow_call("history", {**task, "lease_owner": "other"}, next_history_page_token="!!")
    assert reason_of(answer) == (409, "lease_owner_mismatch")
    for size in (0, 1001, "x"):
        answer = await caller.workflow_call("history", task, next_history_page_token="MA==", history_page_size=size)
        assert reason_of(answer) == (422, "validation_failed")


async def test_pages_of_the_control_plane(caller: Caller) -> None:
    _, run, _ = await long_task(caller)
    whole = await caller.history(run)
    path = f"/api/workflows/{run['workflow_id']}/runs/{run['run_id']}/history"
    for size in (1, 13, 64, 1000):
        events: list[dict[str, Any]] = []
        token: str | None = ""
        while token is not None:
            answer = (await caller.client.get(path, params={"page_size": size, "next_page_token": token})).json()
            events += answer["events"]
            token = answer["next_page_token"]
        assert events == whole
