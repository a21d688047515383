"""JSON as clients may send it: any number, any depth up to the limit, texts with NUL, against a running node."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from api.payloads.codec import encode
from tests.api.driver import Http

# Numbers that no 64-bit integer and no double holds, or that parsers like to change.
NUMBERS = b'{"big":100000000000000000000,"bigger":' + b"9" * 4000 + b',"huge":1e400,"zero":-0,"exact":0.1234567890123456789}'


def deep(levels: int, inner: str = "1") -> str:
    """JSON text nested so deep."""
    return "[" * levels + inner + "]" * levels


def deep_value(levels: int) -> Any:
    return json.loads(deep(levels))


async def send(http: Http, path: str, status: int, content: bytes | str) -> dict[str, Any]:
    """POST of JSON written by hand."""
    headers = {"Content-Type": "application/json"}
    response = await http.client.post(f"/api{path}", content=content, headers=headers)
    assert response.status_code == status, f"{path}: {response.status_code} {response.text[:500]}"
    body: dict[str, Any] = json.loads(response.content, parse_float=str, parse_int=_text)
    return body


def _text(digits: str) -> Any:
    return int(digits) if len(digits) < 12 and digits != "-0" else digits


KEPT = {"big": "1" + "0" * 20, "bigger": "9" * 4000, "huge": "1e400", "zero": "-0", "exact": "0.1234567890123456789"}


async def read(http: Http, path: str) -> dict[str, Any]:
    response = await http.client.get(f"/api{path}")
    assert response.status_code == 200, response.text[:500]
    body: dict[str, Any] = json.loads(response.content, parse_float=str, parse_int=_text)
    return body


async def payloads(http: Http, workflow_id: str, run_id: str, event_type: str) -> list[dict[str, Any]]:
    events = (await read(http, f"/workflows/{workflow_id}/runs/{run_id}/history"))["events"]
    return [event["payload"] for event in events if event["event_type"] == event_type]


def start_body(http: Http, workflow_id: str, **texts: str) -> str:
    fields = {"workflow_id": f'"{workflow_id}"', "workflow_type": '"order"', "task_queue": f'"{http.queue}"', **texts}
    return "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


@pytest.mark.parametrize("size", [0, 100_000])
async def test_numbers_are_handed_on_as_they_are(http: Http, size: int) -> None:
    """`size`: so much stands in the body beside, for long bodies are read in another way."""
    rest = f'"filler":"{"x" * size}"'
    numbers = NUMBERS.decode()
    await http.register()
    workflow_id = f"numbers-{size}"
    content = start_body(http, workflow_id, memo=f'{{"n":{numbers}}}', input=f"[{numbers}]", filler=f'"{"x" * size}"')
    run_id = (await send(http, "/workflows", 201, content))["run_id"]
    body = await read(http, f"/workflows/{workflow_id}")
    assert body["memo"] == {"n": KEPT}
    assert body["input"] == [KEPT]
    task = await http.poll()
    wrapped = base64.b64decode(task["arguments"]["blob"])
    assert b"[" + NUMBERS + b"]" in wrapped
    guard = f'"lease_owner":"{http.worker}"'
    schedule = {"type": "schedule_activity", "activity_type": "a", "arguments": [], "retry_policy": {"max_attempts": 2}}
    await http.complete(task, schedule)
    activity = await http.poll("activity")
    path = f"/worker/activity-tasks/{activity['task_id']}"
    attempt = f'{{"activity_attempt_id":"{activity["activity_attempt_id"]}",{guard},{rest}'
    await send(http, f"{path}/heartbeat", 200, f'{attempt},"current":{10**25},"total":1e400,"details":{numbers}}}')
    await send(
        http,
        f"{path}/fail",
        200,
        f'{attempt},"failure":{{"message":"m","code":{2**70},"details":{numbers},"retryable":false}}}}',
    )
    (progress,) = await payloads(http, workflow_id, run_id, "ActivityHeartbeatRecorded")
    assert progress["progress"] == {"current": str(10**25), "total": "1e400", "details": KEPT}
    (failed,) = await payloads(http, workflow_id, run_id, "ActivityFailed")
    assert (failed["exception"]["code"], failed["exception"]["details"]) == (str(2**70), KEPT)
    task = await http.poll()
    fence = f'{guard},"workflow_task_attempt":{task["workflow_task_attempt"]},{rest}'
    command = f'{{"type":"fail_workflow","message":"m","exception":{numbers}}}'
    await send(http, f"/worker/workflow-tasks/{task['task_id']}/complete", 200, f'{{{fence},"commands":[{command}]}}')
    (ended,) = await payloads(http, workflow_id, run_id, "WorkflowFailed")
    assert ended["exception"].items() >= KEPT.items()
    await read(http, f"/workflows/{workflow_id}/debug?include_last_event_payload=true")
    metrics = f'{{"worker_id":"m-{size}","task_queue":"q","runtime":"go","process_metrics":{numbers},{rest}}}'
    await send(http, "/worker/register", 201, metrics)
    assert (await read(http, f"/workers/m-{size}"))["process_metrics"] == KEPT


@pytest.mark.parametrize("size", [0, 100_000])
async def test_answers_of_queries_may_hold_any_number(http: Http, size: int) -> None:
    await http.register()
    workflow_id = f"answers-{size}"
    await http.waiting(workflow_id)
    for sent in (f'"result":{NUMBERS.decode()},"filler":"{"x" * size}"', '"result_envelope":{"codec":"json","blob":%s}'):
        caller = asyncio.create_task(send(http, f"/workflows/{workflow_id}/query/q", 200, "{}"))
        task = await http.poll("query")
        text = sent.replace("%s", json.dumps(NUMBERS.decode()))
        fence = f'"lease_owner":"{http.worker}","query_task_attempt":{task["query_task_attempt"]}'
        await send(http, f"/worker/query-tasks/{task['query_task_id']}/complete", 200, f"{{{fence},{text}}}")
        body = await caller
        assert body["result"] == KEPT
        assert body["control_plane"]["result"] == KEPT


@pytest.mark.parametrize("field", ["execution_timeout_seconds", "run_timeout_seconds", "priority", "fairness_weight"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 20, "9" * 4000, "-1"])
async def test_numbers_the_server_must_understand_are_checked(http: Http, field: str, number: str) -> None:
    body = await send(http, "/workflows", 422, start_body(http, "never", **{field: number}))
    assert list(body["errors"]) == [field]


ATTRIBUTES = ["9223372036854775808", "18446744073709551615", "100000000000000000000", "1e400", '{"a":1}', deep(400), "[1]"]


async def test_search_attributes_have_the_same_bounds_at_start_and_in_upserts(http: Http) -> None:
    await http.register()
    await http.start(workflow_id="attributes")
    task = await http.poll()
    fence = f'"lease_owner":"{http.worker}","workflow_task_attempt":{task["workflow_task_attempt"]}'
    path = f"/worker/workflow-tasks/{task['task_id']}/complete"
    for text in ATTRIBUTES:
        sent = f'{{"k":{text}}}'
        body = await send(http, "/workflows", 422, start_body(http, "never", search_attributes=sent))
        assert list(body["errors"]) == ["search_attributes"], text
        command = f'{{"type":"upsert_search_attributes","attributes":{sent}}}'
        body = await send(http, path, 422, f'{{{fence},"commands":[{command}]}}')
        assert list(body["errors"]) == ["commands.0.attributes"], text
    most = '{"k":9223372036854775807,"l":-9223372036854775808,"f":1e300}'
    await send(http, "/workflows", 201, start_body(http, "most", search_attributes=most))
    await send(http, path, 200, f'{{{fence},"commands":[{{"type":"upsert_search_attributes","attributes":{most}}}]}}')


async def test_of_members_of_one_name_the_last_counts(http: Http) -> None:
    names = '"workflow_id":"first","workflow_id":"twice","workflow_type":"order"'
    twice = f'{{{names},"task_queue":"{http.queue}","memo":{{"a":1,"a":2}}}}'
    assert (await send(http, "/workflows", 201, twice))["workflow_id"] == "twice"
    assert (await http.get("/workflows/twice"))["memo"] == {"a": 2}


# A field that is one level inside its request may be nested 511 deep, one two levels inside 510.
@pytest.mark.parametrize("levels", [251, 253, 400, 508])
async def test_deep_values_are_accepted_and_shown(http: Http, levels: int) -> None:
    value = deep_value(levels)
    await http.register(process_metrics={"m": value})
    assert (await http.get(f"/workers/{http.worker}"))["process_metrics"] == {"m": value}
    assert await http.get("/workers")
    assert await http.get("/cluster/info")
    await http.post("/worker/heartbeat", 200, worker_id=http.worker, process_metrics={"m": value})
    workflow_id = f"deep-{levels}"
    run_id = (await http.start(workflow_id=workflow_id, memo={"m": value}, input=[value]))["run_id"]
    body = await http.get(f"/workflows/{workflow_id}")
    assert (body["memo"], body["input"]) == ({"m": value}, [value])
    schedule = {"type": "schedule_activity", "activity_type": "a", "arguments": [value]}
    await http.complete(await http.poll(), schedule)
    activity = await http.poll("activity")
    owner = {"activity_attempt_id": activity["activity_attempt_id"], "lease_owner": http.worker}
    path = f"/worker/activity-tasks/{activity['task_id']}"
    await http.post(f"{path}/heartbeat", 200, **owner, details={"d": value})
    await http.post(f"{path}/fail", 200, **owner, failure={"message": "m", "details": value, "retryable": False})
    await http.post(f"/workflows/{workflow_id}/signal/s", 202, input=[value])
    update = asyncio.create_task(http.post(f"/workflows/{workflow_id}/update/u", 422, input={"v": value}, wait_for="completed"))
    task = await http.poll()
    while task["workflow_wait_kind"] != "update":
        await http.complete(task, {"type": "open_condition_wait", "condition_key": "never"})
        task = await http.poll()
    failure = {"message": "m", "exception": {"e": value, "class": "Deep"}}
    await http.complete(task, {"type": "fail_update", "update_id": task["workflow_update_id"], **failure})
    await update
    await http.post(f"/workflows/{workflow_id}/signal/s", 202)
    await http.complete(await http.poll(), {"type": "fail_workflow", **failure})
    found = {event["event_type"]: event["payload"] for event in await http.events(workflow_id, run_id)}
    assert found["WorkflowStarted"]["memo"] == {"m": value}
    assert found["ActivityHeartbeatRecorded"]["progress"] == {"details": {"d": value}}
    assert found["ActivityFailed"]["exception"]["details"] == value
    assert found["UpdateCompleted"]["exception"]["e"] == value
    assert (found["WorkflowFailed"]["exception"]["e"], found["WorkflowFailed"]["exception_class"]) == (value, "Deep")
    debug = await http.get(f"/workflows/{workflow_id}/debug?include_last_event_payload=1")
    assert debug["recent_failures"][0]["exception_class"] == "Deep"
    await http.get("/workflows")


@pytest.mark.parametrize("levels", [512, 960, 980, 1500, 100_000])
async def test_deeper_bodies_are_malformed(http: Http, levels: int) -> None:
    for name in ("memo", "input", "search_attributes"):
        body = await send(http, "/workflows", 400, start_body(http, "never", **{name: f'{{"a":{deep(levels)}}}'}))
        assert body["reason"] == "malformed_json"
    body = await send(http, "/worker/register", 400, f'{{"process_metrics":{{"m":{deep(levels)}}}}}')
    assert body["reason"] == "malformed_json"


def wrapped(text: str) -> dict[str, str]:
    """An envelope of the generic wrapper of JSON text."""
    data, size = b"", len(text.encode()) << 1
    while size > 127:
        data += bytes([size & 127 | 128])
        size >>= 7
    return {"codec": "avro", "blob": base64.b64encode(b"\0" + data + bytes([size]) + text.encode() + b"\2").decode()}


@pytest.mark.parametrize("levels", [400, 512, 513, 960, 970, 980, 5000])
async def test_deep_blobs(http: Http, levels: int) -> None:
    """Where a blob must be understood it may be as deep as a body; where it is only shown, a deeper one is not decoded."""
    await http.register()
    workflow_id = f"blob-{levels}"
    envelope = wrapped(deep(levels))
    await http.start(workflow_id=workflow_id, input=envelope)
    body = await http.get(f"/workflows/{workflow_id}")
    assert body["input"] == (deep_value(levels) if levels <= 512 else None)
    assert body["input_envelope"] == envelope
    if levels <= 512:
        await http.post(f"/workflows/{workflow_id}/signal/s", 202, input=envelope)
        return
    for command in ("signal/s", "update/u"):
        for inner in (envelope, wrapped(f'{{"a":{deep(levels - 1)}}}')):
            refused = await http.post(f"/workflows/{workflow_id}/{command}", 422, input=inner)
            assert list(refused["errors"]) == ["input.blob"]


NUL = "a\x00b"
NUL_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"worker_id": NUL}, "worker_id"),
    ({"task_queue": NUL}, "task_queue"),
    ({"sdk_version": NUL}, "sdk_version"),
    ({"build_id": NUL}, "build_id"),
    ({"capabilities": ["x", NUL]}, "capabilities.1"),
    ({"supported_workflow_types": [NUL]}, "supported_workflow_types.0"),
    ({"supported_activity_types": [NUL]}, "supported_activity_types.0"),
    ({"workflow_definition_fingerprints": {NUL: "x"}}, "workflow_definition_fingerprints"),
    ({"workflow_definition_fingerprints": {"x": NUL}}, "workflow_definition_fingerprints"),
    ({"process_metrics": {NUL: 1}}, "process_metrics"),
]


@pytest.mark.parametrize("filler", ["", "x" * 100_000])
@pytest.mark.parametrize(("fields", "key"), NUL_FIELDS)
async def test_no_text_of_a_registration_holds_nul(http: Http, fields: dict[str, Any], key: str, filler: str) -> None:
    body = {"worker_id": "nul", "task_queue": "q", "runtime": "go", "filler": filler, **fields}
    assert list((await http.post("/worker/register", 422, **body))["errors"]) == [key]


@pytest.mark.parametrize(
    "path",
    ["workers?task_queue=%00", "workers?status=%00", "workflows?query=%00", "workflows?workflow_type=a%00", "workflows?x=%00"],
)
async def test_no_query_parameter_holds_nul(http: Http, path: str) -> None:
    assert (await http.get(f"/{path}", 422))["reason"] == "validation_failed"


async def test_a_namespace_with_nul_has_no_workers(http: Http) -> None:
    """Cluster info takes any namespace."""
    nowhere = await http.get("/cluster/info?namespace=nowhere")
    for name in ("%00", "a%00b"):
        found = await http.get(f"/cluster/info?namespace={name}")
        assert found["worker_fleet"]["active_workers"] == nowhere["worker_fleet"]["active_workers"] == 0


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00x"', '"\\ud800\\ud800"', '{"\\ud800":1}'])
@pytest.mark.parametrize("size", [0, 100_000])
async def test_lone_surrogates_are_no_json(http: Http, text: str, size: int) -> None:
    content = start_body(http, "never", input=f"[{text}]", filler=f'"{"x" * size}"')
    assert (await send(http, "/workflows", 400, content))["reason"] == "malformed_json"


@pytest.mark.parametrize("name", [".", "..", " .. "])
async def test_ids_that_urls_lose_are_refused(http: Http, name: str) -> None:
    assert list((await http.start(422, workflow_id=name))["errors"]) == ["workflow_id"]
    refused = await http.post("/worker/register", 422, worker_id=name, task_queue="q", runtime="go")
    assert list(refused["errors"]) == ["worker_id"]
    assert list((await http.post("/namespaces", 422, name=name))["errors"]) == ["name"]
    await http.start(201, workflow_id="..." + encode(name).replace("=", "").replace("+", "-").replace("/", "_"))
