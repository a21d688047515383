"""The request fixtures of schedules: our server accepts each, and the SDK reads each answer.

What fixtures show as outcomes of runs (names of workflows, how many fires) comes from a made-up past; shapes and what was sent
are compared.
"""

from __future__ import annotations

from typing import Any

import pytest
from durable_workflow import ScheduleAction, ScheduleSpec, serializer
from durable_workflow.errors import ScheduleNotFound

from tests.wire.request_fixtures import CLIENTS, RequestFixtures, fixture, says

pytestmark = pytest.mark.sdk

DAILY = "daily-inventory-check"


def meant(found: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the SDK's method, with its own types."""
    sdk = found["sdk_python"]
    arguments = dict(sdk.get("kwargs") or sdk["args"])
    if "spec" in arguments:
        arguments["spec"] = ScheduleSpec(**arguments["spec"])
    if "action" in arguments:
        arguments["action"] = ScheduleAction(**arguments["action"])
    return arguments


async def create(desk: RequestFixtures, client: str, **changed: Any) -> Any:
    """The schedule of the fixtures, by one of the clients."""
    create = fixture("schedule-create")
    if client == "cli":
        return await desk.send(create, {**create["request"]["body"], **changed}, status=201)
    handle = await desk.sdk.create_schedule(**{**meant(create), **changed})
    return {"schedule_id": handle.schedule_id}


async def another(desk: RequestFixtures, schedule_id: str) -> None:
    """Another schedule, of the id that other fixtures name."""
    body = {
        "schedule_id": schedule_id,
        "spec": {"cron_expressions": ["0 6 * * *"]},
        "action": {"workflow_type": "orders.rollup"},
    }
    assert (await desk.raw.post("/api/schedules", json=body)).status_code == 201


@pytest.mark.parametrize("client", CLIENTS)
async def test_create(desk: RequestFixtures, client: str) -> None:
    found = fixture("schedule-create")
    answer = await create(desk, client)
    says(answer, {"schedule_id": DAILY})
    if client == "cli":
        assert answer == {"schedule_id": DAILY, "outcome": "created", "namespace": desk.sdk.namespace}
    sent, shown = found["request"]["body"], await desk.sdk.describe_schedule(DAILY)
    names = ("spec", "overlap_policy", "jitter_seconds", "max_runs", "note")
    says(vars(shown), {name: sent[name] for name in names}, status="paused", remaining_actions=30)
    assert shown.paused_at is not None and shown.action is not None
    action = dict(shown.action)
    if client == "sdk":
        envelope = found["sdk_python"]["payload_envelope"]
        assert action["input"]["codec"] == envelope["codec"]
        action["input"] = serializer.decode_envelope(action["input"], codec="avro")
    assert action == sent["action"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_describe_and_list(desk: RequestFixtures, client: str) -> None:
    show, listing = fixture("schedule-describe"), fixture("schedule-list")
    for schedule_id in listing["semantic_body"]["schedule_ids"]:
        await another(desk, schedule_id)
    raw = await desk.send(show)
    assert set(show["response_body"]) <= set(raw)
    assert set(show["response_body"]["info"]) <= set(raw["info"])
    whole = await desk.send(listing)
    assert set(listing["response_body"]["schedules"][0]) <= set(whole["schedules"][0])
    if client == "cli":
        listed = {item["schedule_id"]: item for item in whole["schedules"]}
    else:
        described = await desk.sdk.describe_schedule(**meant(show))
        assert (described.status, described.overlap_policy, described.fires_count) == ("active", "skip", 0)
        listed = {item.schedule_id: vars(item) for item in (await desk.sdk.list_schedules()).schedules}
    assert list(listed) == listing["semantic_body"]["schedule_ids"][::-1]
    assert all(item["status"] == "active" and item["next_fire_at"] for item in listed.values())


@pytest.mark.parametrize("client", CLIENTS)
async def test_update(desk: RequestFixtures, client: str) -> None:
    found = fixture("schedule-update")
    await create(desk, client)
    if client == "cli":
        assert await desk.send(found, found["request"]["body"]) == {"schedule_id": DAILY, "outcome": "updated"}
    else:
        await desk.sdk.update_schedule(**{**found["sdk_python"].get("args", {}), **meant(found)})
    sent, shown = found["request"]["body"], await desk.send(fixture("schedule-describe"), path=f"/schedules/{DAILY}")
    names = ("spec", "overlap_policy", "jitter_seconds", "max_runs", "note")
    says(shown, {name: sent[name] for name in names}, remaining_actions=100)
    says(shown["action"], {name: value for name, value in sent["action"].items() if name != "input"})


@pytest.mark.parametrize("client", CLIENTS)
async def test_pause_and_resume(desk: RequestFixtures, client: str) -> None:
    await another(desk, "daily-order-rollup")
    for name, status in (("pause", "paused"), ("resume", "active")):
        found = fixture(f"schedule-{name}")
        if client == "cli":
            answer = await desk.send(found, found["request"]["body"])
            assert answer == {"schedule_id": "daily-order-rollup", "outcome": found["semantic_body"]["outcome"]}
        else:
            await getattr(desk.sdk, found["sdk_python"]["method"])(**meant(found))
        shown = await desk.sdk.describe_schedule("daily-order-rollup")
        assert (shown.status, shown.note) == (status, found["semantic_body"]["note"])


@pytest.mark.parametrize("client", CLIENTS)
async def test_trigger(desk: RequestFixtures, client: str) -> None:
    found = fixture("schedule-trigger")
    await create(desk, client, paused=False)
    if client == "cli":
        answer = await desk.send(found, found["request"]["body"])
    else:
        answer = vars(await desk.sdk.trigger_schedule(**meant(found)))
    assert set(found["semantic_body"]) - {"namespace"} <= set(answer)
    assert answer["outcome"] == "triggered"
    started = await desk.sdk.describe_workflow(answer["workflow_id"])
    assert (started.run_id, started.workflow_type) == (answer["run_id"], "inventory.check")
    assert started.input == fixture("schedule-create")["request"]["body"]["action"]["input"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_backfill(desk: RequestFixtures, client: str) -> None:
    found = fixture("schedule-backfill")
    await create(desk, "cli", paused=False, spec={"intervals": [{"every": "PT30M"}]})
    if client == "cli":
        answer = await desk.send(found, found["request"]["body"])
    else:
        answer = vars(await desk.sdk.backfill_schedule(**meant(found)))
    assert (answer["outcome"], answer["fires_attempted"]) == ("backfill_started", found["semantic_body"]["fires_attempted"])
    times = [f"2026-04-20T0{half // 2}:{half % 2 * 3}0:00+00:00" for half in range(6)]
    assert [each["fire_time"] for each in answer["results"]] == times
    assert all(each["outcome"] == "started" and each["workflow_id"] for each in answer["results"])


@pytest.mark.parametrize("client", CLIENTS)
async def test_history(desk: RequestFixtures, client: str) -> None:
    found = fixture("schedule-history")
    await create(desk, client)
    for number in range(7):
        await desk.sdk.pause_schedule(DAILY, note=f"note {number}")
    whole = await desk.send(found)
    assert set(found["response_body"]) <= set(whole)
    assert set(found["response_body"]["events"][0]) <= set(whole["events"][0])
    if client == "sdk":
        page = await desk.sdk.get_schedule_history(**meant(found))
        events, more, cursor = [vars(event) for event in page.events], page.has_more, page.next_cursor
        assert page.namespace == desk.sdk.namespace
    else:
        events, more, cursor = whole["events"], whole["has_more"], whole["next_cursor"]
    assert [event["sequence"] for event in events] == [6, 7, 8, 9]
    assert {event["event_type"] for event in events} == {"SchedulePaused"}
    assert (more, cursor) == (False, None)


@pytest.mark.parametrize("client", CLIENTS)
async def test_delete(desk: RequestFixtures, client: str) -> None:
    found = fixture("schedule-delete")
    await another(desk, "inventory-refresh")
    if client == "cli":
        assert await desk.send(found) == {"schedule_id": "inventory-refresh", "outcome": "deleted"}
    else:
        await desk.sdk.delete_schedule(**meant(found))
    with pytest.raises(ScheduleNotFound):
        await desk.sdk.describe_schedule("inventory-refresh")
    history = await desk.sdk.get_schedule_history("inventory-refresh")
    assert [event.event_type for event in history.events] == ["ScheduleCreated", "ScheduleDeleted"]
