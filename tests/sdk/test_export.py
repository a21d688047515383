"""Exports of runs that the SDK's own verifier accepts and its replayer replays (operations 9)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from durable_workflow import ContinueAsNew, Replayer, WorkflowFailed, WorkflowHandle, activity, workflow
from durable_workflow.history_bundle_verify import verify_bundle_json

from tests.sdk.harness import SdkHarness, recorded, result_of

pytestmark = pytest.mark.sdk

WORDS = 'Grüße, мир, 你好, 🚀, \u2028, \x7f, "quoted" \\ /'


@activity.defn(name="export-echo")
async def echo(value: Any) -> Any:
    return value


@activity.defn(name="export-fail")
async def fail() -> None:
    raise RuntimeError(f"no: {WORDS}")


@workflow.defn(name="exported")
class Exported:
    """Every kind of row: activities, a timer, a child, a side effect, a signal, an update, then the end that was asked for."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @workflow.signal("hear")
    def hear(self, value: Any) -> None:
        self.heard.append(value)

    @workflow.update("say")
    def say(self, value: Any) -> Any:
        return {"said": value}

    def run(self, ctx: Any, end: str) -> Any:
        first = yield ctx.schedule_activity("export-echo", [{"text": WORDS, "number": 1e25, "small": 0.1}])
        yield ctx.side_effect(lambda: 7)
        yield ctx.start_timer(0)
        child = yield ctx.start_child_workflow("exported-child", [end])
        yield ctx.wait_condition(lambda: len(self.heard) > 0, key="heard")
        if end == "fails":
            yield ctx.schedule_activity("export-fail", [])
        if end == "goes on":
            return ContinueAsNew(arguments=["ends"])
        if end == "stays":
            yield ctx.wait_condition(lambda: len(self.heard) > 5, key="more")
        return [first, child, self.heard]


@workflow.defn(name="exported-child")
class Child:
    def run(self, ctx: Any, end: str) -> Any:
        yield ctx.start_timer(0)
        return end


async def exported(scene: SdkHarness, handle: WorkflowHandle, run_id: str | None = None) -> tuple[str, dict[str, Any]]:
    """The text of an export and what it says; the SDK's verifier finds nothing wrong with it."""
    run = run_id or handle.run_id or (await handle.describe()).run_id
    path = f"/api/workflows/{handle.workflow_id}/runs/{run}/history/export"
    response = await scene.client._http.get(path, headers=scene.client._headers())
    assert response.status_code == 200, response.text
    report = verify_bundle_json(response.text)
    assert report["status"] == "ok" and not report["findings"], report["findings"]
    return response.text, response.json()


async def ended(scene: SdkHarness, end: str, *, updated: bool = False) -> WorkflowHandle:
    """A run that came to the end that was asked for, or as far as it goes."""
    await scene.work([Exported, Child], [echo, fail])
    handle = await scene.start("exported", end, memo={"of": WORDS, "n": 12345678901234567890123}, search_attributes={"K": "v"})
    await recorded(handle, "ConditionWaitOpened")
    if updated:
        assert await handle.update("say", [WORDS]) is not None
    await handle.signal("hear", [{"value": WORDS}])
    if end == "ends":
        await result_of(handle)
    elif end == "fails":
        with pytest.raises(WorkflowFailed):
            await result_of(handle)
    elif end == "stays":
        await recorded(handle, "ConditionWaitOpened", 2)
    elif end == "goes on":
        await recorded(handle, "WorkflowContinuedAsNew")
    return handle


@pytest.mark.parametrize("end", ["ends", "fails", "stays", "goes on"])
async def test_exports_are_verified_and_replayed(scene: SdkHarness, end: str) -> None:
    handle = await ended(scene, end)
    _, bundle = await exported(scene, handle)
    assert bundle["history_complete"] is (end != "stays")
    run = bundle["workflow"]
    assert run["memo"] == {"of": WORDS, "n": 12345678901234567890123} and run["search_attributes"] == {"K": "v"}
    assert [event["sequence"] for event in bundle["history_events"]] == list(range(1, run["last_history_sequence"] + 1))
    commands = [command["type"] for command in bundle["commands"]]
    assert commands == ["start", "signal"]
    assert {signal["name"] for signal in bundle["signals"]} == {"hear"}
    activities = bundle["activities"]
    assert [(a["activity_type"], a["status"]) for a in activities][:1] == [("export-echo", "completed")]
    assert activities[0]["arguments"] and activities[0]["result"] and activities[0]["attempts"][0]["status"] == "completed"
    assert bundle["links"]["children"][0]["workflow_type"] == "exported-child"
    assert {timer["status"] for timer in bundle["timers"]} == {"fired"}
    if end == "fails":
        assert WORDS in bundle["failures"][0]["message"]
    if end == "goes on":
        assert bundle["links"]["children"][-1]["type"] == "continue_as_new"
    events = [{**event, "event_type": event["type"]} for event in bundle["history_events"]]
    Replayer(workflows=[Exported, Child]).replay(events)
    paths = [entry["path"] for entry in bundle["payload_manifest"]["entries"]]
    assert paths[:2] == ["payloads.arguments.data", "payloads.output.data"] and len(set(paths)) == len(paths)
    for entry in bundle["payload_manifest"]["entries"]:
        value: Any = bundle
        for part in entry["path"].split("."):
            value = value[int(part) if part.isdigit() else part]
        assert entry["available"] is (value is not None), entry


async def test_an_export_through_the_client(scene: SdkHarness) -> None:
    handle = await ended(scene, "ends", updated=True)
    _, bundle = await exported(scene, handle)
    (update,) = bundle["updates"]
    assert (update["name"], update["status"], update["closed_at"] is None) == ("say", "completed", False)
    assert update["arguments"] and update["result"]
    again = await scene.client.export_history(handle.workflow_id, bundle["workflow"]["run_id"])
    for changing in ("exported_at", "integrity"):
        again.pop(changing)
        bundle.pop(changing)
    assert again == bundle


async def test_many_exports_of_an_open_run_at_once(scene: SdkHarness) -> None:
    handle = await ended(scene, "stays")
    keys = {bundle["dedupe_key"] for _, bundle in await asyncio.gather(*(exported(scene, handle) for _ in range(8)))}
    assert len(keys) == 1
