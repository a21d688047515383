"""The request fixtures of commands to workflows and of query tasks: our server accepts each, the SDK reads each answer."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest
from durable_workflow import QueryFailed, serializer
from durable_workflow.client import BridgeAdapterOutcome, WorkflowCommandResult

from tests.wire.request_fixtures import CLIENTS, DATA, RequestFixtures, fixture, says

pytestmark = pytest.mark.sdk

QUEUE = "external-workflows"


async def started(desk: RequestFixtures) -> str:
    """A workflow of the fixtures' type whose first task waits; its id."""
    workflow_id = f"wf-{secrets.token_hex(4)}"
    body = {"workflow_id": workflow_id, "workflow_type": "orders.fulfillment", "task_queue": QUEUE}
    assert (await desk.raw.post("/api/workflows", json=body)).status_code == 201
    return workflow_id


@pytest.mark.parametrize("client", CLIENTS)
async def test_signal(desk: RequestFixtures, client: str) -> None:
    signal = fixture("workflow-signal")
    workflow_id, name = await started(desk), signal["semantic_body"]["signal_name"]
    if client == "cli":
        answer = await desk.send(signal, signal["cli"]["expected_body"], f"/workflows/{workflow_id}/signal/{name}", status=202)
        says(answer, {"signal_name": name, "workflow_id": workflow_id, "outcome": "signal_received"})
    else:
        await desk.sdk.signal_workflow(**{**signal["sdk_python"]["args"], "workflow_id": workflow_id})
    received = (await desk.events(workflow_id))[-1]
    assert (received["event_type"], received["payload"]["signal_name"]) == ("SignalReceived", name)
    sent = serializer.decode_envelope(received["payload"]["arguments"], codec=received["payload"]["payload_codec"])
    assert sent == signal["semantic_body"]["input"] == signal["sdk_python"]["payload_envelope"]["decoded"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_update(desk: RequestFixtures, client: str) -> None:
    update = fixture("workflow-update")
    workflow_id, first = await desk.leased()
    assert workflow_id
    name = update["semantic_body"]["update_name"]

    async def asked() -> Any:
        if client == "cli":
            return await desk.send(update, update["cli"]["expected_body"], f"/workflows/{workflow_id}/update/{name}")
        return await desk.sdk.update_workflow(**{**update["sdk_python"]["args"], "workflow_id": workflow_id})

    waiting = asyncio.create_task(asked())
    # The first task ends in a wait, so that the update's own task comes next.
    wait = {"type": "open_condition_wait", "condition_key": "k"}
    worker = first["lease_owner"]
    await desk.sdk.complete_workflow_task(
        task_id=first["task_id"], lease_owner=worker, workflow_task_attempt=1, commands=[wait]
    )
    task = await task_with_update(desk, worker)
    (accepted,) = [event for event in await desk.events(workflow_id) if event["event_type"] == "UpdateAccepted"]
    sent = serializer.decode_envelope(accepted["payload"]["arguments"], codec="avro")
    assert sent == update["semantic_body"]["input"] == update["sdk_python"]["payload_envelope"]["decoded"]
    applied = {
        "type": "complete_update",
        "update_id": task["workflow_update_id"],
        "result": serializer.envelope({"quota": 50}, codec="avro"),
    }
    await desk.sdk.complete_workflow_task(
        task_id=task["task_id"], lease_owner=worker, workflow_task_attempt=1, commands=[applied]
    )
    answer = await waiting
    says(answer, {"update_name": name, "wait_for": update["semantic_body"]["wait_for"]}, workflow_id=workflow_id)
    assert (answer["outcome"], answer["update_status"], answer["result"]) == ("update_completed", "completed", {"quota": 50})


async def task_with_update(desk: RequestFixtures, worker: str) -> dict[str, Any]:
    """Poll until the update's task comes."""
    async with asyncio.timeout(30):
        while True:
            task = await desk.sdk.poll_workflow_task(worker_id=worker, task_queue=QUEUE)
            if task is not None:
                assert task["workflow_update_id"]
                return dict(task)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("terminate", "terminated")])
async def test_stop(desk: RequestFixtures, client: str, verb: str, status: str) -> None:
    stop = fixture(f"workflow-{verb}")
    workflow_id, reason = await started(desk), stop["semantic_body"]["reason"]
    if client == "cli":
        answer = await desk.send(stop, stop["cli"]["expected_body"], f"/workflows/{workflow_id}/{verb}")
        says(answer, {"reason": reason, "outcome": status}, workflow_id=workflow_id)
    else:
        call = desk.sdk.cancel_workflow if verb == "cancel" else desk.sdk.terminate_workflow
        await call(**{**stop["sdk_python"]["args"], "workflow_id": workflow_id})
    last = (await desk.events(workflow_id))[-1]
    assert (last["event_type"], last["payload"]["reason"]) == (f"Workflow{status.capitalize()}", reason)
    assert (await desk.sdk.describe_workflow(workflow_id)).status == status


async def commanded(desk: RequestFixtures, name: str, client: str, workflow_id: str) -> WorkflowCommandResult:
    """Repair or archive, as either client reads the answer."""
    found = fixture(f"workflow-{name}")
    if client == "cli":
        body = await desk.send(found, found["cli"]["expected_body"], f"/workflows/{workflow_id}/{name}")
        assert set(found["response_body"]) <= set(body)
        return WorkflowCommandResult.from_dict(body)
    call = getattr(desk.sdk, found["sdk_python"]["method"])
    result = await call(**{**found["sdk_python"]["args"], "workflow_id": workflow_id})
    assert isinstance(result, WorkflowCommandResult)
    return result


@pytest.mark.parametrize("client", CLIENTS)
async def test_repair(desk: RequestFixtures, client: str) -> None:
    workflow_id = await started(desk)
    result = await commanded(desk, "repair", client, workflow_id)
    assert (result.workflow_id, result.command_status) == (workflow_id, "accepted")
    assert result.outcome in ("repair_dispatched", "repair_not_needed")  # the fixture's word stands for either
    assert result.command_id
    assert (await desk.events(workflow_id))[-1]["payload"]["outcome"] == result.outcome


@pytest.mark.parametrize("client", CLIENTS)
async def test_archive(desk: RequestFixtures, client: str) -> None:
    archive = fixture("workflow-archive")
    workflow_id = await started(desk)
    await desk.sdk.terminate_workflow(workflow_id)
    result = await commanded(desk, "archive", client, workflow_id)
    expected = archive["response_body"]
    assert (result.workflow_id, result.outcome, result.command_status) == (
        workflow_id,
        expected["outcome"],
        expected["command_status"],
    )
    events = await desk.events(workflow_id)
    assert [event["event_type"] for event in events[-2:]] == ["ArchiveRequested", "WorkflowArchived"]
    assert events[-2]["payload"]["reason"] == archive["semantic_body"]["reason"]


# -- queries and their tasks -------------------------------------------------------------------------------------------


async def asked(desk: RequestFixtures, client: str) -> tuple[str, asyncio.Task[Any], dict[str, Any]]:
    """A query of the fixtures that waits, and its leased task: the workflow id, the caller, the task."""
    query, poll = fixture("workflow-query"), fixture("query-task-poll")
    worker = await desk.register()
    workflow_id, name = await started(desk), query["semantic_body"]["query_name"]

    async def ask() -> Any:
        if client == "cli":
            path = f"/api/workflows/{workflow_id}/query/{name}"
            return (await desk.raw.post(path, json=query["cli"]["expected_body"])).json()
        return await desk.sdk.query_workflow(**{**query["sdk_python"]["args"], "workflow_id": workflow_id})

    caller = asyncio.create_task(ask())
    async with asyncio.timeout(30):
        while True:
            if client == "cli":
                task = (await desk.send(poll, poll["request"]["body"]))["task"]
            else:
                task = await desk.sdk.poll_query_task(**poll["sdk_python"]["kwargs"])
            if task is not None:
                break
    assert set(poll["response_body"]["task"]) - {"input"} <= set(task)
    says(task, {"query_name": name, "query_task_attempt": 1, "lease_owner": worker}, workflow_id=workflow_id)
    sent = serializer.decode_envelope(task["query_arguments"], codec=task["payload_codec"])
    assert sent == query["semantic_body"]["input"] == query["sdk_python"]["payload_envelope"]["decoded"]
    return workflow_id, caller, dict(task)


@pytest.mark.parametrize("client", CLIENTS)
async def test_query_task_complete(desk: RequestFixtures, client: str) -> None:
    complete = fixture("query-task-complete")
    workflow_id, caller, task = await asked(desk, client)
    own = {"query_task_id": task["query_task_id"]}
    if client == "cli":
        path = f"/worker/query-tasks/{task['query_task_id']}/complete"
        answer = await desk.send(complete, complete["request"]["body"], path)
    else:
        answer = await desk.sdk.complete_query_task(**{**complete["sdk_python"]["kwargs"], **own})
    says(answer, complete["response_body"], **own)
    result = await caller
    says(result, {"result": complete["request"]["body"]["result"], "reason": None}, workflow_id=workflow_id)
    assert len(await desk.events(workflow_id)) == 2


async def test_query_task_complete_with_the_envelope_of_a_later_client(desk: RequestFixtures) -> None:
    complete = fixture("query-task-complete")
    _, caller, task = await asked(desk, "cli")
    path = f"/worker/query-tasks/{task['query_task_id']}/complete"
    body = complete["sdk_python"]["request_body"]
    await desk.send(complete, body, path)
    result = await caller
    assert (result["result"], result["result_envelope"]) == (body["result"], body["result_envelope"])


@pytest.mark.parametrize("client", CLIENTS)
async def test_query_task_fail(desk: RequestFixtures, client: str) -> None:
    fail = fixture("query-task-fail")
    _, caller, task = await asked(desk, client)
    own = {"query_task_id": task["query_task_id"]}
    if client == "cli":
        answer = await desk.send(fail, fail["request"]["body"], f"/worker/query-tasks/{task['query_task_id']}/fail")
        says(answer, fail["response_body"], reason=fail["semantic_body"]["reason"], **own)
        assert (await caller)["reason"] == fail["semantic_body"]["reason"]
        return
    answer = await desk.sdk.fail_query_task(**{**fail["sdk_python"]["kwargs"], **own})
    says(answer, fail["response_body"], **own)
    with pytest.raises(QueryFailed, match=fail["request"]["body"]["failure"]["message"]) as failed:
        await caller
    assert (failed.value.status, failed.value.reason) == (404, "rejected_unknown_query")


# -- events from outside -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_bridge_webhook(desk: RequestFixtures, client: str) -> None:
    webhook = fixture("bridge-webhook")
    key = {"idempotency_key": f"stripe-event-{client}"}  # workflow ids are unique over all namespaces
    outcomes = []
    for status in (202, 200):
        if client == "cli":
            path, body = webhook["request"]["path"], {**webhook["cli"]["expected_body"], **key}
            outcomes.append(BridgeAdapterOutcome.from_dict(await desk.send(webhook, body, path, status)))
        else:
            sent = webhook["sdk_python"]
            outcomes.append(await desk.sdk.send_webhook_bridge_event(**{**sent["args"], **sent["kwargs"], **key}))
    first, again = outcomes
    assert first.raw is not None
    own = {"workflow_id": first.workflow_id, "run_id": first.run_id, **key}
    target = {**webhook["response_body"]["target"], "workflow_id": first.workflow_id}
    del target["duplicate_policy"]  # which no client reads
    says(first.raw, webhook["response_body"], **own, target=target)
    assert first.workflow_id is not None and first.workflow_id.startswith("bridge-stripe-")
    assert (again.outcome, again.reason, again.run_id) == ("duplicate", "duplicate_start", first.run_id)
    started = (await desk.events(first.workflow_id))[1]["payload"]
    # The members of the input are the workflow's arguments, in their order (control-plane 5.2).
    assert serializer.decode_envelope(started["arguments"], codec="avro") == list(webhook["semantic_body"]["input"].values())
    assert (started["business_key"], started["task_queue"]) == ("order-231", QUEUE)


# -- a batch of a later client -----------------------------------------------------------------------------------------


async def test_commands_with_group_metadata(desk: RequestFixtures) -> None:
    path = DATA.parent / "histories" / "parallel-group-metadata-emission.json"
    commands = json.loads(path.read_text())["expected"]["command_sequence"]
    more: dict[str, dict[str, Any]] = {
        "schedule_activity": {"activity_type": "a", "queue": "elsewhere"},
        "start_child_workflow": {"workflow_type": "c", "queue": "elsewhere"},
        "start_timer": {"delay_seconds": 600},
    }
    workflow_id, task = await desk.leased()
    answer = await desk.sdk.complete_workflow_task(
        task_id=task["task_id"],
        lease_owner=task["lease_owner"],
        workflow_task_attempt=1,
        commands=[{**command, **more[command["type"]]} for command in commands],
    )
    assert (answer["outcome"], answer["run_status"]) == ("completed", "waiting")
    scheduled = [event for event in await desk.events(workflow_id) if event["event_type"].endswith("Scheduled")]
    kinds = ["ActivityScheduled", "ChildWorkflowScheduled", "TimerScheduled"]
    assert [event["event_type"] for event in scheduled] == kinds
    members = [command["parallel_group_base_sequence"] + command["parallel_group_index"] for command in commands]
    assert [event["payload"]["sequence"] for event in scheduled] == members
