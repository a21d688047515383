"""Schedules with the SDK: the programs of its guide, handles, policies, what started runs see (SDK guide, Schedules)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from durable_workflow import (
    Client,
    InvalidArgument,
    ScheduleAction,
    ScheduleAlreadyExists,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleHistoryEvent,
    ScheduleNotFound,
    ScheduleSpec,
    WorkflowHandle,
    activity,
    workflow,
)

from tests.sdk.harness import RESULT_SECONDS, SdkHarness, events_of, of_type, result_of
from tests.support.server import ServerProcess

pytestmark = pytest.mark.sdk

NEVER = ScheduleSpec(cron_expressions=["0 0 29 2 *"])
EVERY_SECOND = ScheduleSpec(intervals=[{"every": "PT1S"}])


@activity.defn(name="render-report")
async def render_report(options: dict[str, Any]) -> str:
    return f"report.{options['format']}"


@workflow.defn(name="generate-report")
class GenerateReport:
    def run(self, ctx: Any, options: dict[str, Any]) -> Any:
        return (yield ctx.schedule_activity("render-report", [options]))


@workflow.defn(name="held")
class Held:
    """Waits to be released; `again` goes on as another run first."""

    def __init__(self) -> None:
        self.released = False

    @workflow.signal("release")
    def release(self) -> None:
        self.released = True

    def run(self, ctx: Any) -> Any:
        yield ctx.wait_condition(lambda: self.released)
        return "released"


def held(scene: SdkHarness) -> ScheduleAction:
    return ScheduleAction(workflow_type="held", task_queue=scene.queue, input=[])


@pytest.fixture
async def handles(scene: SdkHarness) -> AsyncIterator[list[ScheduleHandle]]:
    """Schedules to delete at the end."""
    made: list[ScheduleHandle] = []
    yield made
    for handle in made:
        try:
            await handle.delete()
        except ScheduleNotFound:
            continue


async def until(handle: ScheduleHandle, **fields: Any) -> ScheduleDescription:
    """Wait until the description has these values."""
    async with asyncio.timeout(RESULT_SECONDS):
        while True:
            found = await handle.describe()
            if all(getattr(found, name) == value for name, value in fields.items()):
                return found
            await asyncio.sleep(0.05)


async def fired(handle: ScheduleHandle, count: int) -> list[ScheduleHistoryEvent]:
    """Wait until that many runs were started; their events."""
    async with asyncio.timeout(RESULT_SECONDS):
        while True:
            found = [event async for event in handle.iter_history() if event.event_type == "ScheduleTriggered"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


def run_of(client: Client, event: ScheduleHistoryEvent) -> WorkflowHandle:
    assert event.workflow_instance_id and event.workflow_run_id
    return WorkflowHandle(client, event.workflow_instance_id, event.workflow_run_id)


async def test_the_program_of_the_guide(scene: SdkHarness, handles: list[ScheduleHandle]) -> None:
    client = scene.client
    await scene.work([GenerateReport], [render_report])
    name = f"hourly-report-{secrets.token_hex(4)}"
    handle = await client.create_schedule(
        schedule_id=name,
        spec=ScheduleSpec(cron_expressions=["0 * * * *"]),
        action=ScheduleAction(workflow_type="generate-report", task_queue=scene.queue, input=[{"format": "pdf"}]),
        overlap_policy="skip",
        jitter_seconds=30,
    )
    handles.append(handle)
    assert handle.schedule_id == name

    listed = await client.list_schedules()
    (item,) = [each for each in listed.schedules if each.schedule_id == name]
    assert (item.status, item.overlap_policy, item.fires_count, item.last_fired_at) == ("active", "skip", 0, None)
    assert item.spec == {"cron_expressions": ["0 * * * *"]} and listed.next_page_token is None

    found = await handle.describe()
    assert (found.status, found.jitter_seconds, found.fires_count, found.failures_count) == ("active", 30, 0, 0)
    assert found.next_fire_at is not None and found.created_at is not None and found.info is not None
    assert found.action is not None and found.action["input"]["codec"] == "avro"

    await handle.pause(note="maintenance window")
    found = await handle.describe()
    assert (found.status, found.note, found.paused_at is not None) == ("paused", "maintenance window", True)
    await handle.resume(note="maintenance complete")
    found = await handle.describe()
    assert (found.status, found.note, found.paused_at) == ("active", "maintenance complete", None)

    result = await handle.trigger()
    assert (result.schedule_id, result.outcome, result.reason) == (name, "triggered", None)
    assert result.workflow_id and result.run_id
    assert await result_of(WorkflowHandle(client, result.workflow_id, result.run_id)) == "report.pdf"

    backfill = await handle.backfill(
        start_time="2024-01-01T00:00:00Z", end_time="2024-01-02T00:00:00Z", overlap_policy="allow_all"
    )
    assert (backfill.outcome, backfill.fires_attempted) == ("backfill_started", 24)
    assert backfill.results is not None and {each["outcome"] for each in backfill.results} == {"started"}
    for each in backfill.results:
        assert await result_of(WorkflowHandle(client, each["workflow_id"])) == "report.pdf"

    await handle.update(spec=ScheduleSpec(cron_expressions=["*/30 * * * *"]), note="Changed to every 30 minutes")
    found = await handle.describe()
    assert (found.spec, found.note) == ({"cron_expressions": ["*/30 * * * *"]}, "Changed to every 30 minutes")
    assert (found.fires_count, found.jitter_seconds) == (25, 30)

    page = await handle.history(limit=10)
    seen = [event.sequence for event in page.events]
    while page.has_more and page.next_cursor is not None:
        page = await handle.history(limit=10, after_sequence=page.next_cursor)
        seen += [event.sequence for event in page.events]
    assert seen == list(range(1, 30)) and page.namespace == "default"

    await handle.delete()
    kinds = [event.event_type async for event in handle.iter_history(limit=7)]
    assert kinds[:5] == ["ScheduleCreated", "SchedulePaused", "ScheduleResumed", "ScheduleTriggered", "ScheduleTriggered"]
    assert kinds[-2:] == ["ScheduleUpdated", "ScheduleDeleted"] and len(kinds) == 30
    with pytest.raises(ScheduleNotFound):
        await handle.describe()


async def test_every_method_of_the_client(scene: SdkHarness) -> None:
    client, name = scene.client, f"s-{secrets.token_hex(4)}"
    await client.create_schedule(
        schedule_id=name,
        spec=NEVER,
        action=held(scene),
        overlap_policy="allow_all",
        max_runs=9,
        memo={"team": "ops"},
        search_attributes={"Region": "north"},
        paused=True,
        note="at first",
    )
    found = await client.describe_schedule(name)
    assert (found.status, found.note, found.max_runs, found.remaining_actions) == ("paused", "at first", 9, 9)
    assert (found.memo, found.search_attributes) == ({"team": "ops"}, {"Region": "north"})
    await client.resume_schedule(name)
    await client.update_schedule(
        name,
        spec=EVERY_SECOND,
        action=ScheduleAction(workflow_type="held", run_timeout_seconds=600, execution_timeout_seconds=900),
        overlap_policy="skip",
        jitter_seconds=1,
        max_runs=5,
        memo={"team": "dev"},
        search_attributes={},
        note="then",
    )
    found = await client.describe_schedule(name)
    assert (found.note, found.overlap_policy, found.jitter_seconds, found.max_runs) == ("then", "skip", 1, 5)
    assert (found.memo, found.search_attributes, found.spec) == ({"team": "dev"}, {}, EVERY_SECOND.to_dict())
    assert found.action is not None
    assert (found.action["task_queue"], found.action["run_timeout_seconds"]) == (scene.queue, 600)
    await client.pause_schedule(name, note="enough")
    triggered = await client.trigger_schedule(name, overlap_policy="allow_all")
    assert (triggered.outcome, triggered.reason) == ("skipped", "status_not_triggerable")
    missed = await client.backfill_schedule(name, start_time="2026-01-01T00:00:00", end_time="2026-01-01T00:00:02")
    assert [each["outcome"] for each in missed.results or []] == ["skipped", "skipped"]
    page = await client.get_schedule_history(name, limit=1, after_sequence=1)
    assert [event.event_type for event in page.events] == ["SchedulePaused"] and page.next_cursor == 2
    assert page.events[0].payload is not None and page.events[0].payload["command_context"]["source"] == "control_plane"
    await client.get_schedule_handle(name).delete()
    kinds = [event.event_type async for event in client.iter_schedule_history(name, limit=2)]
    assert kinds[0] == "ScheduleCreated" and kinds[-1] == "ScheduleDeleted"


async def test_what_the_sdk_raises(scene: SdkHarness, handles: list[ScheduleHandle]) -> None:
    client, name = scene.client, f"s-{secrets.token_hex(4)}"
    handles.append(await client.create_schedule(schedule_id=name, spec=NEVER, action=held(scene)))
    with pytest.raises(ScheduleAlreadyExists):
        await client.create_schedule(schedule_id=name, spec=NEVER, action=held(scene))
    with pytest.raises(InvalidArgument, match="cron"):
        await client.create_schedule(spec=ScheduleSpec(cron_expressions=["every day"]), action=held(scene))
    with pytest.raises(InvalidArgument):
        await client.update_schedule(name, overlap_policy="sometimes")
    with pytest.raises(InvalidArgument):
        await client.backfill_schedule(name, start_time="2026-01-02T00:00:00Z", end_time="2026-01-01T00:00:00Z")
    none = client.get_schedule_handle("none")
    calls = (none.describe(), none.pause(), none.resume(), none.trigger(), none.delete(), none.history(), none.update(note="n"))
    for call in (*calls, none.backfill(start_time="2026-01-01", end_time="2026-01-02")):
        with pytest.raises(ScheduleNotFound):
            await call


async def test_it_fires_by_itself_and_the_runs_know_of_it(scene: SdkHarness, handles: list[ScheduleHandle]) -> None:
    await scene.work([GenerateReport], [render_report])
    handle = await scene.client.create_schedule(
        spec=EVERY_SECOND,
        action=ScheduleAction(workflow_type="generate-report", task_queue=scene.queue, input=[{"format": "txt"}]),
        overlap_policy="allow_all",
        max_runs=3,
        memo={"kept": [1]},
        search_attributes={"Region": "south"},
    )
    handles.append(handle)
    assert len(handle.schedule_id) == 26
    started = await fired(handle, 3)
    numbers = []
    for event in started:
        run = run_of(scene.client, event)
        assert await result_of(run) == "report.txt"
        described = await scene.client.describe_workflow_run(run.workflow_id, run.run_id or "")
        assert (described.memo, described.search_attributes) == ({"kept": [1]}, {"Region": "south"})
        (cause,) = of_type(await events_of(run), "ScheduleTriggered")
        assert cause["schedule_id"] == handle.schedule_id and cause["overlap_policy"] == "allow_all"
        numbers.append(cause["trigger_number"])
    assert numbers == [1, 2, 3]
    times = [event.payload["occurrence_time"] for event in started if event.payload]
    assert len(set(times)) == 3 and times == sorted(times)
    with pytest.raises(ScheduleNotFound):  # that was the last of max_runs
        await handle.describe()


async def test_a_buffered_fire_starts_as_soon_as_the_run_before_it_closes(
    scene: SdkHarness, handles: list[ScheduleHandle]
) -> None:
    await scene.work([Held])
    handle = await scene.client.create_schedule(spec=NEVER, action=held(scene), overlap_policy="buffer_one")
    handles.append(handle)
    assert (await handle.trigger()).outcome == "triggered"
    buffered = await handle.trigger()
    assert (buffered.outcome, buffered.buffer_depth) == ("buffered", 1)
    assert (await handle.trigger()).outcome == "buffer_full"
    (first,) = await fired(handle, 1)
    await scene.client.signal_workflow(first.workflow_instance_id or "", "release")
    assert await result_of(run_of(scene.client, first)) == "released"
    second = (await fired(handle, 2))[1]
    assert second.payload is not None and second.payload["outcome"] == "drained"
    found = await until(handle, fires_count=2)
    assert found.info is not None and found.info["buffered_actions"] == []
    await scene.client.signal_workflow(second.workflow_instance_id or "", "release")
    assert await result_of(run_of(scene.client, second)) == "released"


@pytest.mark.parametrize(("policy", "status"), [("cancel_other", "cancelled"), ("terminate_other", "terminated")])
async def test_the_run_before_is_stopped(scene: SdkHarness, handles: list[ScheduleHandle], policy: str, status: str) -> None:
    await scene.work([Held])
    handle = await scene.client.create_schedule(spec=NEVER, action=held(scene), overlap_policy="skip")
    handles.append(handle)
    first = await handle.trigger()
    assert (await handle.trigger()).outcome == "skipped"
    second = await handle.trigger(overlap_policy=policy)
    assert second.outcome == "triggered" and second.workflow_id != first.workflow_id
    async with asyncio.timeout(RESULT_SECONDS):
        while (await scene.client.describe_workflow(first.workflow_id or "")).status != status:
            await asyncio.sleep(0.05)
    await scene.client.signal_workflow(second.workflow_id or "", "release")
    assert await result_of(WorkflowHandle(scene.client, second.workflow_id or "", second.run_id)) == "released"


def test_the_blocking_client(server: ServerProcess) -> None:
    from durable_workflow.sync import Client as BlockingClient

    client = BlockingClient(server.url, token=server.token, namespace="default")
    handle = client.create_schedule(spec=NEVER, action=ScheduleAction(workflow_type="nobody-runs-it", task_queue="nobody"))
    handle.pause(note="n")
    assert handle.describe().status == "paused"
    handle.resume()
    assert handle.trigger().outcome == "triggered"
    assert handle.backfill(start_time="2027-01-01T00:00:00Z", end_time="2029-01-01T00:00:00Z").fires_attempted == 1
    assert handle.schedule_id in {item.schedule_id for item in client.list_schedules().schedules}
    handle.delete()
