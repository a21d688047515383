"""Schedules over HTTP: shapes, refusals, paging, attribution (control-plane 11, operations 1)."""

from __future__ import annotations

import asyncio
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import CONTROL, Api
from tests.api.driver import Http
from tests.api.schedule_bodies import (
    ACTION,
    BACKFILL,
    BAD_BACKFILLS,
    BAD_CREATES,
    BAD_FIELDS,
    BAD_NOTES,
    BAD_TRIGGERS,
    GOOD,
    SPEC,
    written,
)
from tests.support.defaults import make_auth, make_settings
from tests.support.server import ServerProcess
from tests.support.services import TestServices

PATH = "/schedules"
TS0 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00\Z")
HOURLY = {"intervals": [{"every": "PT1H"}]}


async def make(http: Http, schedule_id: str | None = None, **changed: Any) -> str:
    """A schedule that does not fire by itself within a test, unless it is changed so; its id."""
    schedule_id = schedule_id or f"s-{secrets.token_hex(4)}"
    await http.post(PATH, 201, schedule_id=schedule_id, **{**GOOD, **changed})
    return schedule_id


async def audit(http: Http, schedule_id: str) -> list[dict[str, Any]]:
    """The audit events of a schedule, whose sequence is without gaps."""
    events: list[dict[str, Any]] = (await http.get(f"{PATH}/{schedule_id}/history?limit=500"))["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_type"] for event in events]


async def confirmed(http: Http, schedule_id: str, fires: int) -> dict[str, Any]:
    """Wait until that many fires are counted; the schedule then."""
    async with asyncio.timeout(60):
        while True:
            shown = await http.get(f"{PATH}/{schedule_id}")
            if shown["fires_count"] >= fires:
                return shown
            await asyncio.sleep(0.05)


async def test_a_schedule_from_its_creation_to_its_deletion(http: Http) -> None:
    created = await http.post(PATH, 201, schedule_id="nightly", **GOOD)
    assert created == {"schedule_id": "nightly", "outcome": "created", "namespace": "default"}
    shown = await http.get(f"{PATH}/nightly")
    next_fire, created_at = shown["next_fire_at"], shown["created_at"]
    assert TS0.match(next_fire) and TS0.match(created_at) and next_fire.endswith("T03:00:00+00:00")
    same: dict[str, Any] = {
        "schedule_id": "nightly",
        "namespace": "default",
        "spec": SPEC,
        "action": ACTION,
        "overlap_policy": "skip",
        "status": "active",
        "paused": False,
        "note": None,
        "fires_count": 0,
        "failures_count": 0,
        "next_fire_at": next_fire,
        "last_fired_at": None,
        "paused_at": None,
        "jitter_seconds": 0,
        "max_runs": None,
        "remaining_actions": None,
    }
    assert shown == {
        **same,
        "state": {"status": "active", "paused": False, "note": None},
        "info": {
            "next_fire": next_fire,
            "last_fire": None,
            "fires_count": 0,
            "failures_count": 0,
            "recent_actions": [],
            "buffered_actions": [],
            "skipped_trigger_count": 0,
            "last_skip_reason": None,
            "last_skipped_at": None,
        },
        "memo": {},
        "search_attributes": {},
        "created_at": created_at,
        "updated_at": created_at,
        "latest_workflow_instance_id": None,
    }
    listed = [item for item in (await http.get(PATH))["schedules"] if item["schedule_id"] == "nightly"]
    assert listed == [{**same, "workflow_type": "parcels.audit", "next_fire": next_fire, "last_fire": None}]

    for action, body, status in (("pause", {"note": "hold"}, "paused"), ("resume", {}, "active")):
        assert await http.post(f"{PATH}/nightly/{action}", 200, **body) == {"schedule_id": "nightly", "outcome": f"{action}d"}
        shown = await http.get(f"{PATH}/nightly")
        assert shown["state"] == {"status": status, "paused": status == "paused", "note": "hold"}
        assert (shown["paused_at"] is not None) == shown["paused"] == (status == "paused")
    updated = await http.call("PUT", f"{PATH}/nightly", 200, {"note": "trial", "jitter_seconds": 5})
    assert updated == {"schedule_id": "nightly", "outcome": "updated"}
    shown = await http.get(f"{PATH}/nightly")
    assert (shown["note"], shown["jitter_seconds"], shown["spec"]) == ("trial", 5, SPEC)

    assert await http.call("DELETE", f"{PATH}/nightly", 200) == {"schedule_id": "nightly", "outcome": "deleted"}
    gone = {"message": "Schedule [nightly] not found in namespace [default].", "reason": "schedule_not_found"}
    for method, path, body in ONES:
        if path.endswith("/history"):
            continue
        assert await http.call(method, path.replace("{id}", "nightly"), 404, body) == gone, path
    assert "nightly" not in {item["schedule_id"] for item in (await http.get(PATH))["schedules"]}
    events = await audit(http, "nightly")
    assert kinds(events) == [
        "ScheduleCreated",
        "SchedulePaused",
        "ScheduleResumed",
        "ScheduleUpdated",
        "ScheduleDeleted",
    ]
    assert events[1]["payload"]["reason"] == "hold"
    assert events[3]["payload"]["changed_fields"] == ["spec", "action", "jitter_seconds", "note"]
    assert events[4]["payload"]["reason"] == "deleted"


# Every route of one schedule, with a good body.
ONES: list[tuple[str, str, Any]] = [
    ("GET", f"{PATH}/{{id}}", None),
    ("PUT", f"{PATH}/{{id}}", {"note": "n"}),
    ("DELETE", f"{PATH}/{{id}}", None),
    ("GET", f"{PATH}/{{id}}/history", None),
    ("POST", f"{PATH}/{{id}}/pause", {}),
    ("POST", f"{PATH}/{{id}}/resume", {}),
    ("POST", f"{PATH}/{{id}}/trigger", {}),
    ("POST", f"{PATH}/{{id}}/backfill", BACKFILL),
]


@pytest.mark.parametrize("name", ["none", "x" * 129, "%20", "a%20b", "ä", "a%0Ab", "%F0%9F%98%80"])
async def test_ids_that_are_none(http: Http, name: str) -> None:
    for method, path, body in ONES:
        refused = await http.call(method, path.replace("{id}", name), 404, body)
        assert refused["reason"] == "schedule_not_found", path


async def test_created_again(http: Http) -> None:
    again = await make(http)
    refused = await http.post(PATH, 409, schedule_id=again, **GOOD)
    assert (refused["reason"], refused["schedule_id"]) == ("schedule_already_exists", again)
    fired = await http.post(f"{PATH}/{again}/trigger", 200)
    assert (await confirmed(http, again, 1))["latest_workflow_instance_id"] == fired["workflow_id"]
    await http.call("DELETE", f"{PATH}/{again}", 200)
    await make(http, again, note="second")
    shown = await http.get(f"{PATH}/{again}")
    assert (shown["fires_count"], shown["note"], shown["latest_workflow_instance_id"]) == (0, "second", None)
    events = await audit(http, again)
    assert kinds(events) == ["ScheduleCreated", "ScheduleTriggered", "ScheduleDeleted", "ScheduleCreated"]
    assert events[0]["payload"]["schedule"]["id"] != events[3]["payload"]["schedule"]["id"]


async def test_an_id_of_the_servers_own(http: Http) -> None:
    made = (await http.post(PATH, 201, **GOOD))["schedule_id"]
    assert len(made) == 26 and made == made.upper()
    assert (await http.get(f"{PATH}/{made}"))["schedule_id"] == made


async def test_created_paused(http: Http) -> None:
    paused = await make(http, paused=True, note="not yet", max_runs=3)
    shown = await http.get(f"{PATH}/{paused}")
    assert (shown["status"], shown["note"], shown["max_runs"], shown["remaining_actions"]) == ("paused", "not yet", 3, 3)
    assert shown["next_fire_at"] and shown["paused_at"]
    assert kinds(await audit(http, paused)) == ["ScheduleCreated", "SchedulePaused"]
    skipped = await http.post(f"{PATH}/{paused}/trigger", 200)
    assert skipped == {"schedule_id": paused, "outcome": "skipped", "reason": "status_not_triggerable"}
    backfilled = await http.post(f"{PATH}/{paused}/backfill", 200, **BACKFILL)
    assert {(each["outcome"], each["reason"]) for each in backfilled["results"]} == {("skipped", "status_not_triggerable")}
    shown = await http.get(f"{PATH}/{paused}")
    assert (shown["info"]["skipped_trigger_count"], shown["info"]["last_skip_reason"]) == (3, "status_not_triggerable")


async def test_a_list_has_the_newest_first_and_only_those_of_its_namespace(http: Http) -> None:
    for name in ("apart-a", "apart-b"):
        await http.post("/namespaces", 201, name=name)
    own, other = {"X-Namespace": "apart-a"}, {"X-Namespace": "apart-b"}
    assert await http.call("GET", PATH, 200, **own) == {"schedules": [], "next_page_token": None}
    made = [f"n-{number}" for number in range(5)]
    for name in made:
        await http.call("POST", PATH, 201, {**GOOD, "schedule_id": name}, **own)
    await http.call("POST", PATH, 201, {**GOOD, "schedule_id": "n-1", "note": "other"}, **other)
    found = await http.call("GET", PATH, 200, **own)
    assert [item["schedule_id"] for item in found["schedules"]] == made[::-1]
    assert {item["namespace"] for item in found["schedules"]} == {"apart-a"} and found["next_page_token"] is None
    await http.call("DELETE", f"{PATH}/n-1", 200, **own)
    assert (await http.call("GET", f"{PATH}/n-1", 200, **other))["note"] == "other"
    assert len((await http.call("GET", PATH, 200, **own))["schedules"]) == 4
    assert (await http.call("GET", f"{PATH}/n-0", 404, **other))["reason"] == "schedule_not_found"
    assert (await http.call("GET", f"{PATH}/n-0/history", 404, **other))["reason"] == "schedule_not_found"
    fired = await http.call("POST", f"{PATH}/n-0/trigger", 200, {}, **own)
    started = await http.call("GET", f"/workflows/{fired['workflow_id']}", 200, **own)
    assert started["namespace"] == "apart-a"
    await http.call("GET", f"/workflows/{fired['workflow_id']}", 404, **other)


async def test_pages_of_the_list(http: Http) -> None:
    await http.post("/namespaces", 201, name="listed")
    own = {"X-Namespace": "listed"}
    made = [f"n-{number}" for number in range(7)]
    for name in made:
        await http.call("POST", PATH, 201, {**GOOD, "schedule_id": name, "paused": True}, **own)
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        page = await http.call("GET", f"{PATH}?page_size=3&next_page_token={token}", 200, **own)
        found += [item["schedule_id"] for item in page["schedules"]]
        token = page["next_page_token"]
        assert len(page["schedules"]) == 3 or token is None
        if len(found) == 3:  # what comes and goes meanwhile moves nothing
            await http.call("POST", PATH, 201, {**GOOD, "schedule_id": "late"}, **own)
            await http.call("POST", f"{PATH}/n-1/resume", 200, {}, **own)
            await http.call("DELETE", f"{PATH}/n-0", 200, **own)
    assert found == made[:0:-1]
    for token in ("forged", "bm9uZQ", "%00"):
        page = await http.call("GET", f"{PATH}?next_page_token={token}", 200, **own)
        assert len(page["schedules"]) == 7 and page["next_page_token"] is None
    for size in ("0", "-1", "x", "10001"):
        assert list((await http.call("GET", f"{PATH}?page_size={size}", 422, **own))["errors"]) == ["page_size"]


# -- triggers and backfills ------------------------------------------------------------------------------------------------


async def test_a_trigger_starts_a_run(http: Http) -> None:
    action = {
        **ACTION,
        "task_queue": http.queue,
        "workflow_execution_timeout": 900,
        "execution_timeout_seconds": 60,
        "workflow_run_timeout": 30,
    }
    made = await make(http, action=action, memo={"team": "ops"}, search_attributes={"Region": "north", "None": None})
    shown = await http.get(f"{PATH}/{made}")
    assert shown["action"] == {
        "workflow_type": "parcels.audit",
        "task_queue": http.queue,
        "input": [1],
        "execution_timeout_seconds": 60,
        "run_timeout_seconds": 30,
    }
    assert (shown["memo"], shown["search_attributes"]) == ({"team": "ops"}, {"Region": "north"})
    fired = await http.post(f"{PATH}/{made}/trigger", 200)
    assert fired.keys() == {"schedule_id", "outcome", "workflow_id", "run_id"} and fired["outcome"] == "triggered"
    run = await http.get(f"/workflows/{fired['workflow_id']}")
    assert (run["run_id"], run["workflow_type"], run["task_queue"]) == (fired["run_id"], "parcels.audit", http.queue)
    assert (run["input"], run["memo"], run["search_attributes"]) == ([1], {"team": "ops"}, {"Region": "north"})
    assert (run["execution_timeout_seconds"], run["run_timeout_seconds"]) == (60, 30)
    (of_run,) = [
        event["payload"]
        for event in await http.events(fired["workflow_id"], fired["run_id"])
        if event["event_type"] == "ScheduleTriggered"
    ]
    assert (of_run["schedule_id"], of_run["trigger_number"], of_run["overlap_policy"]) == (made, 1, "skip")
    assert (of_run["cron_expression"], of_run["timezone"]) == ("0 3 * * *", "UTC")
    shown = await confirmed(http, made, 1)
    (recent,) = shown["info"]["recent_actions"]
    assert recent == {
        "workflow_id": fired["workflow_id"],
        "run_id": fired["run_id"],
        "outcome": "scheduled",
        "fired_at": shown["last_fired_at"],
    }
    last = (await audit(http, made))[-1]
    assert (last["event_type"], last["workflow_instance_id"]) == ("ScheduleTriggered", fired["workflow_id"])
    assert last["workflow_run_id"] == fired["run_id"]
    skipped = await http.post(f"{PATH}/{made}/trigger", 200)
    assert skipped == {"schedule_id": made, "outcome": "skipped", "reason": "overlap_policy_skip"}
    depths = [await http.post(f"{PATH}/{made}/trigger", 200, overlap_policy="buffer_all") for _ in range(2)]
    assert depths == [{"schedule_id": made, "outcome": "buffered", "buffer_depth": depth} for depth in (1, 2)]
    full = await http.post(f"{PATH}/{made}/trigger", 200, overlap_policy="buffer_one")
    assert full["outcome"] == "buffer_full"
    assert full["reason"] == "Previous workflow is still running and buffer is at capacity."
    assert len((await http.get(f"{PATH}/{made}"))["info"]["buffered_actions"]) == 2


ENVELOPE = {"codec": "avro", "blob": "AAY1IDUC"}
INPUTS: list[tuple[Any, Any]] = [
    ([], []),
    ({}, []),
    (None, []),
    ([1, "a", {"n": [None]}, 10**30], [1, "a", {"n": [None]}, 10**30]),
    ({"a": 1, "b": [2]}, [1, [2]]),
    ({"codec": "avro", "blob": "AAZbN10C"}, [7]),
]


@pytest.mark.parametrize(("given", "arguments"), INPUTS)
async def test_input_is_kept_as_sent_and_started_as_that_of_any_start(http: Http, given: Any, arguments: Any) -> None:
    started = await http.start(input=given)
    expected = await http.get(f"/workflows/{started['workflow_id']}")
    made = await make(http, action={**ACTION, "input": given})
    shown = (await http.get(f"{PATH}/{made}"))["action"]
    assert shown == ({**ACTION, "input": given} if given is not None else {k: v for k, v in ACTION.items() if k != "input"})
    fired = await http.post(f"{PATH}/{made}/trigger", 200)
    run = await http.get(f"/workflows/{fired['workflow_id']}")
    assert run["input"] == arguments == expected["input"]
    assert run["input_envelope"] == expected["input_envelope"]


async def test_any_number_and_depth_is_handed_on_as_sent(http: Http) -> None:
    made = f"s-{secrets.token_hex(4)}"
    deep = "[" * 400 + "1e400" + "]" * 400
    text = (
        f'{{"schedule_id":"{made}","memo":{{"big":{"9" * 50}}},'
        f'"spec":{{"cron_expressions":["0 3 * * *"],"calendars":[{{"hour":1E400,"x":{deep}}}]}},'
        f'"action":{{"workflow_type":"t","input":[{deep},12345678901234567890123.0],"other":-1e999}}}}'
    )
    sent = await http.client.post(f"/api{PATH}", content=text, headers={"Content-Type": "application/json"})
    assert sent.status_code == 201, sent.text
    shown = (await http.client.get(f"/api{PATH}/{made}")).text
    for part in (f'"input":[{deep},12345678901234567890123.0]', '"other":-1e999', f'"hour":1E400,"x":{deep}', "9" * 50):
        assert part in shown
    assert deep in (await http.client.get(f"/api{PATH}")).text
    assert deep in (await http.client.get(f"/api{PATH}/{made}/history")).text
    fired = await http.post(f"{PATH}/{made}/trigger", 200)
    run = (await http.client.get(f"/api/workflows/{fired['workflow_id']}")).text
    assert f'"input":[{deep},12345678901234567890123.0]' in run and "9" * 50 in run


async def test_a_large_input(http: Http) -> None:
    text = "x" * 1_000_000
    made = await make(http, action={**ACTION, "input": [text]}, overlap_policy="allow_all")
    assert (await http.get(f"{PATH}/{made}"))["action"]["input"] == [text]
    answer = await http.post(f"{PATH}/{made}/backfill", 200, **{**BACKFILL, "end_time": "2026-05-04"})
    assert [each["outcome"] for each in answer["results"]] == ["started"] * 5
    run = await http.get(f"/workflows/{answer['results'][4]['workflow_id']}")
    assert run["input"] == [text]
    await http.call("PUT", f"{PATH}/{made}", 200, {"action": {"input": None}})
    assert (await http.get(f"{PATH}/{made}"))["action"] == {**ACTION, "input": None}


async def test_answers_end_when_they_are_large_enough(http: Http) -> None:
    await http.post("/namespaces", 201, name="large")
    own = {"X-Namespace": "large"}
    body = {**GOOD, "action": {**ACTION, "input": [secrets.token_hex(900_000)]}}
    made = [f"s-{number}" for number in range(10)]
    for name in made:
        await http.call("POST", PATH, 201, {**body, "schedule_id": name}, **own)
    for _ in range(11):
        await http.call("PUT", f"{PATH}/s-0", 200, {"note": "n"}, **own)
    first = await http.call("GET", PATH, 200, **own)
    assert 1 < len(first["schedules"]) < 10
    second = await http.call("GET", f"{PATH}?next_page_token={first['next_page_token']}", 200, **own)
    assert [item["schedule_id"] for item in first["schedules"] + second["schedules"]] == made[::-1]
    assert second["next_page_token"] is None
    page = await http.call("GET", f"{PATH}/s-0/history", 200, **own)
    seen = [event["sequence"] for event in page["events"]]
    assert page["has_more"] and 1 < len(seen) < 12
    page = await http.call("GET", f"{PATH}/s-0/history?after_sequence={page['next_cursor']}", 200, **own)
    assert seen + [event["sequence"] for event in page["events"]] == list(range(1, 13)) and not page["has_more"]


async def test_search_attributes_have_their_types_when_it_fires(http: Http) -> None:
    made = await make(http, search_attributes={"Parcels": "42", "Other": "42"}, overlap_policy="allow_all")
    await http.post("/search-attributes", 201, name="Parcels", type="int")
    assert (await http.get(f"{PATH}/{made}"))["search_attributes"] == {"Parcels": "42", "Other": "42"}
    fired = await http.post(f"{PATH}/{made}/trigger", 200)
    run = await http.get(f"/workflows/{fired['workflow_id']}")
    assert run["search_attributes"] == {"Parcels": 42, "Other": "42"}


async def test_starts_that_are_refused_by_now(services: TestServices, tmp_path: Path) -> None:
    place = services.deployment()
    server = ServerProcess(place, tmp_path).start()
    try:
        async with server.client() as client:
            await make(Http(client), "refused", memo={"k": "x" * 2000}, overlap_policy="allow_all", max_runs=2)
    finally:
        server.stop()
    server = ServerProcess(place, tmp_path, env={"DW_MAX_MEMO_BYTES": "1000"}).start()
    try:
        async with server.client() as client:
            http = Http(client)
            failed = await http.post(f"{PATH}/refused/trigger", 500)
            assert failed.keys() == {"schedule_id", "outcome", "reason", "message"}
            assert (failed["schedule_id"], failed["outcome"]) == ("refused", "trigger_failed") and "memo" in failed["reason"]
            answer = await http.post(f"{PATH}/refused/backfill", 200, **BACKFILL)
            assert [each["outcome"] for each in answer["results"]] == ["failed", "failed"]
            assert all("memo" in each["reason"] for each in answer["results"])
            shown = await http.get(f"{PATH}/refused")
            assert (shown["fires_count"], shown["failures_count"], shown["remaining_actions"]) == (0, 3, 2)
            assert shown["info"]["recent_actions"][-1]["outcome"] == "failed"
            assert "ScheduleTriggered" not in kinds(await audit(http, "refused"))
    finally:
        server.stop()


async def test_an_update_merges_the_action_and_replaces_the_rest(http: Http) -> None:
    made = await make(http, memo={"a": 1}, search_attributes={"A": 1}, action={**ACTION, "run_timeout_seconds": 5, "more": [1]})
    change = {"input": {"x": 9}, "workflow_execution_timeout": 7, "task_queue": None}
    await http.call("PUT", f"{PATH}/{made}", 200, {"action": change, "spec": HOURLY, "memo": {}, "max_runs": 2})
    shown = await http.get(f"{PATH}/{made}")
    assert shown["action"] == {
        "workflow_type": "parcels.audit",
        "task_queue": None,
        "input": {"x": 9},
        "execution_timeout_seconds": 7,
        "run_timeout_seconds": 5,
        "more": [1],
    }
    assert (shown["spec"], shown["memo"], shown["search_attributes"]) == (HOURLY, {}, {"A": 1})
    assert (shown["max_runs"], shown["remaining_actions"]) == (2, 2)
    fired = await http.post(f"{PATH}/{made}/trigger", 200)
    run = await http.get(f"/workflows/{fired['workflow_id']}")
    assert (run["input"], run["task_queue"], run["execution_timeout_seconds"]) == ([9], "default", 7)
    before = await audit(http, made)
    await http.call("PUT", f"{PATH}/{made}", 200, {})
    (last,) = (await audit(http, made))[len(before) :]
    assert (last["event_type"], last["payload"]["changed_fields"]) == ("ScheduleUpdated", ["spec", "action"])


async def test_the_last_of_max_runs_deletes_it(http: Http) -> None:
    made = await make(http, max_runs=2, overlap_policy="allow_all")
    await http.post(f"{PATH}/{made}/trigger", 200)
    assert (await http.get(f"{PATH}/{made}"))["remaining_actions"] == 1
    await http.post(f"{PATH}/{made}/trigger", 200)
    assert (await http.get(f"{PATH}/{made}", 404))["reason"] == "schedule_not_found"
    events = await audit(http, made)
    assert kinds(events) == ["ScheduleCreated", "ScheduleTriggered", "ScheduleTriggered", "ScheduleDeleted"]
    assert events[-1]["payload"]["reason"] == "max_runs_exhausted"
    assert [event["payload"].get("trigger_number") for event in events] == [None, 1, 2, None]


async def test_a_backfill_of_a_thousand(http: Http) -> None:
    every_minute = {"intervals": [{"every": "PT1M"}]}
    made = await make(http, spec={**every_minute}, paused=True)
    await http.call("PUT", f"{PATH}/{made}", 200, {"overlap_policy": "buffer_all"})
    span = {"start_time": "2026-04-29T00:00:00Z", "end_time": "2026-04-29T16:40:00Z"}
    too_many = {**span, "end_time": "2026-04-29T16:40:01Z"}
    before = await audit(http, made)
    for body in (too_many, {**span, "end_time": span["start_time"]}, {**span, "end_time": "2026-04-28"}):
        refused = await http.post(f"{PATH}/{made}/backfill", 422, **body)
        assert refused["reason"] == "invalid_time_range"
    assert await audit(http, made) == before
    # The interval is so long that nothing fires by itself meanwhile, but what was asked for stays.
    await http.call("PUT", f"{PATH}/{made}", 200, {"spec": {"cron_expressions": ["* * 29 4 *"]}})
    await http.post(f"{PATH}/{made}/resume", 200)
    answer = await http.post(f"{PATH}/{made}/backfill", 200, **span)
    assert (answer["outcome"], answer["fires_attempted"]) == ("backfill_started", 1000)
    results = answer["results"]
    times = [datetime.fromisoformat(each["fire_time"]).timestamp() for each in results]
    assert times == [times[0] + 60 * number for number in range(1000)]
    assert (results[0]["fire_time"], {each["outcome"] for each in results}) == ("2026-04-29T00:00:00+00:00", {"started"})
    assert len({each["workflow_id"] for each in results}) == 1000
    shown = await http.get(f"{PATH}/{made}")
    assert (shown["fires_count"], len(shown["info"]["recent_actions"])) == (1000, 10)
    assert {each["outcome"] for each in shown["info"]["recent_actions"]} == {"backfilled"}
    last = results[-1]
    run = await http.get(f"/workflows/{last['workflow_id']}")
    assert run["workflow_type"] == "parcels.audit"


async def test_a_backfill_under_skip_starts_one(http: Http) -> None:
    made = await make(http)
    answer = await http.post(f"{PATH}/{made}/backfill", 200, **BACKFILL)
    started, skipped = answer["results"]
    assert started.keys() == {"fire_time", "workflow_id", "outcome"} and started["outcome"] == "started"
    assert skipped == {"fire_time": "2026-04-30T03:00:00+00:00", "outcome": "skipped", "reason": "overlap_policy_skip"}
    nothing = {"start_time": "2026-04-29T04:00:00Z", "end_time": "2026-04-29T05:00:00Z"}
    answer = await http.post(f"{PATH}/{made}/backfill", 200, **nothing)
    assert (answer["fires_attempted"], answer["results"]) == (0, [])


async def test_it_fires_by_itself(http: Http) -> None:
    made = await make(http, spec={"intervals": [{"every": "PT1S"}]}, overlap_policy="allow_all")
    shown = await confirmed(http, made, 2)
    assert all(each["occurrence_time"].endswith(".000000+00:00") for each in shown["info"]["recent_actions"])
    assert all(each["fire_lag_ms"] >= 0 for each in shown["info"]["recent_actions"])
    await http.call("DELETE", f"{PATH}/{made}", 200)
    events = await audit(http, made)
    assert set(kinds(events[1:-1])) == {"ScheduleTriggered"}
    assert all("command_context" not in event["payload"] for event in events[1:-1])


# -- bad input -------------------------------------------------------------------------------------------------------------


async def test_bad_input_is_refused_and_not_stored(http: Http) -> None:
    await http.post("/namespaces", 201, name="bad-input")
    own = {"X-Namespace": "bad-input"}
    await http.call("POST", PATH, 201, {**GOOD, "schedule_id": "good"}, **own)

    async def stored() -> list[Any]:
        return [
            await http.call("GET", path, 200, **own) for path in (PATH, f"{PATH}/good", f"{PATH}/good/history", "/workflows")
        ]

    before = await stored()
    cases: list[tuple[str, str, dict[str, Any], str]] = [
        *(("POST", PATH, {**GOOD, **change}, key) for change, key in (*BAD_FIELDS, *BAD_CREATES)),
        *(("PUT", f"{PATH}/good", change, key) for change, key in BAD_FIELDS),
        *(("POST", f"{PATH}/good/trigger", change, key) for change, key in BAD_TRIGGERS),
        *(("POST", f"{PATH}/good/backfill", {**BACKFILL, **change}, key) for change, key in BAD_BACKFILLS),
        *(("POST", f"{PATH}/good/{action}", change, key) for change, key in BAD_NOTES for action in ("pause", "resume")),
    ]
    for method, path, body, key in cases:
        headers = {**own, "Content-Type": "application/json"}
        answer = await http.client.request(method, f"/api{path}", content=written(body), headers=headers)
        refused = answer.json()
        assert answer.status_code == 422, (body, refused)
        assert (refused["reason"], list(refused["errors"])) == ("validation_failed", [key]), body
        assert refused["errors"] == refused["validation_errors"] and "control_plane" not in refused
    large = {"memo": {"k": "x" * 262_144}}
    for method, path, body in (("POST", PATH, {**GOOD, **large}), ("PUT", f"{PATH}/good", large)):
        refused = await http.call(method, path, 422, body, **own)
        assert (refused["reason"], refused["limit"]) == ("memo_too_large", 262_144)
    for after in ("-1", "x", "1.5"):
        refused = await http.call("GET", f"{PATH}/good/history?after_sequence={after}", 422, **own)
        assert refused["reason"] == "invalid_after_sequence"
    assert await stored() == before


async def test_empty_bodies(http: Http) -> None:
    made = await make(http)
    for action, outcome in (("pause", "paused"), ("resume", "resumed"), ("trigger", "triggered")):
        for content in (b"[]", b"", b"{}", b"null"):
            headers = {"Content-Type": "application/json"}
            answer = await http.client.post(f"/api{PATH}/{made}/{action}", content=content, headers=headers)
            assert answer.status_code == 200 and answer.json()["outcome"] in (outcome, "skipped")
    assert (await http.call("POST", PATH, 422, []))["errors"].keys() == {"spec", "action"}


# -- the audit history -----------------------------------------------------------------------------------------------------


async def test_pages_of_the_audit_history(http: Http) -> None:
    made = await make(http)
    for number in range(6):
        await http.post(f"{PATH}/{made}/pause", 200, note=f"n{number}")
    path = f"{PATH}/{made}/history"
    whole = await http.get(path)
    assert whole.keys() == {"schedule_id", "namespace", "events", "next_cursor", "has_more"}
    assert (whole["schedule_id"], whole["namespace"], whole["has_more"], whole["next_cursor"]) == (made, "default", False, None)
    assert len(whole["events"]) == 7
    event = whole["events"][0]
    names = ("id", "sequence", "event_type", "payload", "workflow_instance_id", "workflow_run_id", "recorded_at")
    assert tuple(event) == names and TS0.match(event["recorded_at"])
    pages: list[Any] = []
    after = 0
    while True:
        page = await http.get(f"{path}?limit=3&after_sequence={after}")
        pages += page["events"]
        if not page["has_more"]:
            break
        after = page["next_cursor"]
        assert after == page["events"][-1]["sequence"] and len(page["events"]) == 3
    assert pages == whole["events"]
    for query, sequences in {
        "limit=0": [1, 2, 3, 4, 5, 6, 7],
        "limit=-2": [1, 2, 3, 4, 5, 6, 7],
        "limit=x": [1, 2, 3, 4, 5, 6, 7],
        "limit=1": [1],
        "limit=7": [1, 2, 3, 4, 5, 6, 7],
        "limit=9999&after_sequence=5": [6, 7],
        "after_sequence=7": [],
        "after_sequence=999999": [],
        "after_sequence=": [1, 2, 3, 4, 5, 6, 7],
    }.items():
        page = await http.get(f"{path}?{query}")
        assert [event["sequence"] for event in page["events"]] == sequences, query
        assert page["has_more"] is (query == "limit=1") and page["next_cursor"] == (1 if query == "limit=1" else None)


async def test_who_caused_it(http: Http) -> None:
    headers = {"X-Request-Id": "req-1", "X-Correlation-Id": "corr-1"}
    made = f"s-{secrets.token_hex(4)}"
    body = {**GOOD, "schedule_id": made, "paused": True}
    await http.call("POST", PATH, 201, body, **headers)
    for method, path, sent in (
        ("PUT", "", {"note": "n"}),
        ("POST", "/resume", {}),
        ("POST", "/trigger", {}),
        ("POST", "/pause", {}),
        ("POST", "/backfill", BACKFILL),
        ("DELETE", "", None),
    ):
        await http.call(method, f"{PATH}/{made}{path}", 200, sent, **headers)
    events = await audit(http, made)
    contexts = [(event["event_type"], event["payload"]["command_context"]) for event in events]
    assert [(kind, context["context"]["server"]["command"]) for kind, context in contexts] == [
        ("ScheduleCreated", "schedule.create"),
        ("SchedulePaused", "schedule.pause"),
        ("ScheduleUpdated", "schedule.update"),
        ("ScheduleResumed", "schedule.resume"),
        ("ScheduleTriggered", "schedule.trigger"),
        ("SchedulePaused", "schedule.pause"),
        ("ScheduleTriggerSkipped", "schedule.backfill"),
        ("ScheduleTriggerSkipped", "schedule.backfill"),
        ("ScheduleDeleted", "schedule.delete"),
    ]
    context = contexts[0][1]
    print_ = context["context"]["request"].pop("fingerprint")
    assert re.match(r"sha256:[0-9a-f]{64}\Z", print_)
    principal = {
        "subject": "legacy-token",
        "roles": ["admin"],
        "claims": {"legacy_credential": True},
        "legacy_full_access": True,
    }
    assert context == {
        "source": "control_plane",
        "context": {
            "caller": {"type": "server", "label": "Standalone Server"},
            "auth": {"status": "authorized", "method": "token", "role": "admin", "roles": ["admin"], "principal": principal},
            "request": {
                "method": "POST",
                "path": "/api/schedules",
                "request_id": "req-1",
                "correlation_id": "corr-1",
                "headers": {"x_request_id": "req-1", "x_correlation_id": "corr-1"},
            },
            "server": {"namespace": "default", "workflow_id": made, "command": "schedule.create", "metadata": {}},
        },
    }


# -- roles, versions, methods ----------------------------------------------------------------------------------------------


async def test_roles_versions_and_methods(api: Api) -> None:
    tokens = {"worker": "w", "operator": "o", "admin": "a"}
    settings = make_settings(auth=make_auth(tokens=tokens, backward_compatible=False))
    routes = [("GET", PATH), ("POST", PATH), *((method, path.replace("{id}", "%20")) for method, path, _ in ONES)]
    async with api(settings) as client:
        for method, path in routes:
            send = client.build_request(method, f"/api{path}", json={} if method == "POST" else None)
            for token, version, namespace, expected in (
                ("w", True, "default", 403),
                ("o", True, "default", None),
                ("a", True, "default", None),
                ("o", False, "default", 400),
                ("o", True, "nowhere", 404),
                ("x", True, "default", 401),
            ):
                send.headers.update({"Authorization": f"Bearer {token}", "X-Namespace": namespace})
                send.headers.pop("X-Durable-Workflow-Control-Plane-Version", None)
                if version:
                    send.headers.update(CONTROL)
                answer = await client.send(send)
                status = answer.status_code
                assert status == expected or (expected is None and status in (200, 404, 422)), (method, path, token)
                assert "control_plane" not in answer.json()
        await _methods(client)


async def _methods(client: httpx.AsyncClient) -> None:
    headers = {**CONTROL, "Authorization": "Bearer o"}
    for path, allow in (
        (PATH, "GET, HEAD, POST"),
        (f"{PATH}/x", "DELETE, GET, HEAD, PUT"),
        (f"{PATH}/x/history", "GET, HEAD"),
        *((f"{PATH}/x/{action}", "POST") for action in ("pause", "resume", "trigger", "backfill")),
    ):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if method not in allow:
                answer = await client.request(method, f"/api{path}", headers=headers)
                assert (answer.status_code, answer.headers["allow"]) == (405, allow), (method, path)
                assert answer.json()["reason"] == "method_not_allowed"
