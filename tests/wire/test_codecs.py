"""Plain JSON is stored in the codec of its run, or of its activity (worker-protocol 9.2); only a worker can make a json run."""

from __future__ import annotations

from typing import Any

import pytest
from durable_workflow import serializer

from tests.wire.caller import Caller

JSON_ARGUMENTS = {"codec": "json", "blob": '["order-7"]'}
AVRO_BLOB = serializer.encode({"ok": True}, codec="avro")

RESULTS = [
    # sent, stored as a side effect of a json run, stored elsewhere
    ({"ä": 1}, '{"ä":1}', '{"ä":1}'),
    (7, "7", "7"),
    ("text", '"text"', '"text"'),
    ('{"ready": true}', '{"ready": true}', '"{\\"ready\\": true}"'),
    (AVRO_BLOB, f'"{AVRO_BLOB}"', f'"{AVRO_BLOB}"'),
]


async def json_run(caller: Caller, worker: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A child started with JSON arguments: its names, and its first task."""
    parent = await caller.start()
    child = {"type": "start_child_workflow", "workflow_type": "job", "arguments": JSON_ARGUMENTS}
    assert (await caller.complete(await caller.poll(worker), child)).status_code == 200
    task = await caller.poll(worker)
    assert (task["payload_codec"], task["arguments"]) == ("json", JSON_ARGUMENTS)
    assert task["workflow_id"] != parent["workflow_id"]
    return {"workflow_id": task["workflow_id"], "run_id": task["run_id"]}, task


async def event(caller: Caller, run: dict[str, Any], event_type: str) -> dict[str, Any]:
    """The payload of the run's last event of a type."""
    found = [each for each in await caller.history(run) if each["event_type"] == event_type]
    return dict(found[-1]["payload"])


@pytest.mark.parametrize(("sent", "side_effect", "elsewhere"), RESULTS)
async def test_results_of_a_json_run(caller: Caller, sent: Any, side_effect: str, elsewhere: str) -> None:
    worker = await caller.register()
    run, task = await json_run(caller, worker)
    commands = [{"type": "record_side_effect", "result": sent}, {"type": "complete_workflow", "result": sent}]
    assert (await caller.complete(task, *commands)).status_code == 200
    recorded = await event(caller, run, "SideEffectRecorded")
    assert (recorded["result"], recorded["payload_codec"]) == (side_effect, "json")
    completed = await event(caller, run, "WorkflowCompleted")
    assert (completed["output"], completed["payload_codec"]) == (elsewhere, "json")
    assert serializer.decode_envelope(completed["output"], codec=completed["payload_codec"]) == sent
    parent = await caller.poll(worker)
    news = next(each for each in parent["history_events"] if each["event_type"] == "ChildRunCompleted")["payload"]
    assert news["payload_codec"] == "json" and news["result"] == {"codec": "json", "blob": elsewhere}


async def test_arguments_and_activity_results_of_a_json_run(caller: Caller) -> None:
    worker = await caller.register()
    run, task = await json_run(caller, worker)
    commands: list[dict[str, Any]] = [
        {"type": "schedule_activity", "activity_type": "plain", "arguments": {"a": 1}},
        {"type": "start_child_workflow", "workflow_type": "job"},
    ]
    assert (await caller.complete(task, *commands)).status_code == 200
    activity = await caller.poll(worker, "activity")
    assert (activity["payload_codec"], activity["arguments"]) == ("json", {"codec": "json", "blob": '[{"a":1}]'})
    assert (await caller.activity_call("complete", activity, result="done")).status_code == 200
    completed = await event(caller, run, "ActivityCompleted")
    assert (completed["result"], completed["payload_codec"]) == ('"done"', "json")
    grandchild = next(
        found for found in [await caller.poll(worker), await caller.poll(worker)] if found["workflow_id"] != run["workflow_id"]
    )
    assert (grandchild["payload_codec"], grandchild["arguments"]) == ("json", {"codec": "json", "blob": "[]"})


async def test_a_json_activity_of_an_avro_run(caller: Caller) -> None:
    """The activity's codec decides about its result, the run's about everything else."""
    worker = await caller.register()
    run = await caller.start()
    schedule = {"type": "schedule_activity", "activity_type": "plain", "arguments": JSON_ARGUMENTS}
    assert (await caller.complete(await caller.poll(worker), schedule)).status_code == 200
    activity = await caller.poll(worker, "activity")
    assert (activity["payload_codec"], activity["arguments"]) == ("json", JSON_ARGUMENTS)
    assert (await caller.activity_call("complete", activity, result={"n": 1})).status_code == 200
    completed = await event(caller, run, "ActivityCompleted")
    assert (completed["result"], completed["payload_codec"]) == ({"codec": "json", "blob": '{"n":1}'}, "json")
    assert (
        await caller.complete(await caller.poll(worker), {"type": "complete_workflow", "result": {"n": 2}})
    ).status_code == 200
    output = await event(caller, run, "WorkflowCompleted")
    assert (serializer.decode(output["output"], codec="avro"), output["payload_codec"]) == ({"n": 2}, "avro")
