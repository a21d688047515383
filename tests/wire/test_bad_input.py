"""Bad requests against a whole server with role tokens: the contract's status and reason, and nothing stored.

What single fields may hold is tested with the API; here stand the kinds of mistakes, made on routes of every kind while there
are a leased workflow task and a leased activity attempt that could be harmed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.services import TestServices
from tests.wire.caller import COMPLETE, Caller, schedule

LIMIT_BYTES = 30_000
TOKENS = {"worker": "w-token", "operator": "o-token", "admin": "a-token"}

# Tables that live their own life: liveness of nodes and workers, marks of the event publisher (it also has a column of `runs`),
# sightings of the event stream.
RESTLESS = {"nodes", "shards", "workers", "run_marks", "event_streams"}


@pytest.fixture(scope="module")
def strict_server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with a token per role and a small limit for bodies."""
    env = {f"DW_{role.upper()}_TOKEN": token for role, token in TOKENS.items()}
    env |= {"DW_AUTH_TOKEN": "", "DW_AUTH_BACKWARD_COMPATIBLE": "false", "DW_MAX_PAYLOAD_BYTES": str(LIMIT_BYTES)}
    env |= {"DW_WORKER_POLL_TIMEOUT": "1"}
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("strict"), env=env)
    try:
        yield process.start()
    finally:
        process.stop()


class Target:
    """A server with one run whose workflow task is leased, another with a leased activity attempt, and its database."""

    def __init__(self, caller: Caller, bare: httpx.AsyncClient, database: asyncpg.Connection) -> None:
        self.caller = caller
        self.bare = bare
        self.database = database
        self.names: dict[str, Any] = {}

    async def prepare(self) -> None:
        """Make the run and the leases; what stands in braces in the tables below is named here."""
        caller = self.caller
        worker = await caller.register()
        run = await caller.start(workflow_id="busy", input=[1])
        task = await caller.poll(worker)
        body = {"activity_type": "a", "task_queue": f"{caller.queue}-alone", "activity_id": "alone"}
        assert (await caller.client.post("/api/activities", json=body)).status_code == 201
        await caller.start(workflow_id="host")
        await caller.complete(await caller.poll(worker), schedule())
        activity = await caller.poll(worker, "activity")
        self.names = {
            "worker": worker,
            "queue": caller.queue,
            "run": run["run_id"],
            "task": task["task_id"],
            "activity": activity["task_id"],
            "attempt": activity["activity_attempt_id"],
        }

    def fill(self, value: Any) -> Any:
        """Braces replaced by names, in every text of a JSON value."""
        if isinstance(value, str):
            for name, text in self.names.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return [self.fill(item) for item in value] if isinstance(value, list) else value

    async def stored(self) -> dict[str, Any]:
        """What every table holds: its number of rows, and a digest of them where nothing changes by itself."""
        tables = await self.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        assert {"runs", "history", "ready_tasks", "instances", "namespaces", "workers"} <= {row[0] for row in tables}
        found: dict[str, Any] = {}
        for (table,) in tables:
            rows = await self.database.fetch(f"SELECT (to_jsonb(t) - 'published_sequence')::text FROM \"{table}\" t")
            found[table] = len(rows)
            if table not in RESTLESS:
                content = "\n".join(sorted(row[0] for row in rows))
                found[f"content of {table}"] = hashlib.sha256(content.encode()).hexdigest()
        return found

    async def send(
        self, method: str, path: str, role: str, body: Any = None, content: bytes | None = None, **headers: str | None
    ) -> httpx.Response:
        """A request of this role with everything right but what `headers` changes; None leaves a header out."""
        sent: dict[str, str | None] = {
            "Authorization": f"Bearer {TOKENS[role]}",
            "X-Namespace": "default",
            "X-Durable-Workflow-Control-Plane-Version": "2",
            "X-Durable-Workflow-Protocol-Version": "1.1",
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if content is None and body is not None:
            content = json.dumps(self.fill(body)).encode()
        present = {name: value for name, value in sent.items() if value is not None}
        return await self.bare.request(method, self.fill(path), content=content, headers=present)


@pytest.fixture
async def target(strict_server: ServerProcess) -> AsyncIterator[Target]:
    """The server with its leases; they are made once and stay, for nothing here may harm them."""
    database = await asyncpg.connect(strict_server.place.dsn)
    control = {"Authorization": f"Bearer {TOKENS['operator']}"}
    async with (
        strict_server.client(headers=control) as client,
        httpx.AsyncClient(base_url=strict_server.url, timeout=30) as bare,
    ):
        made = Target(_RoleCaller(client, strict_server), bare, database)
        if not _NAMES:
            await made.prepare()
            _NAMES.update(made.names)
        made.names = _NAMES
        try:
            yield made
        finally:
            await database.close()


_NAMES: dict[str, Any] = {}


class _RoleCaller(Caller):
    """Calls the worker plane with the worker's token."""

    async def call(self, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKENS['worker']}"}
        return await super().call(path, body, **{**options, "headers": headers})


# -- mistakes any request can make -------------------------------------------------------------------------------------


class Good(NamedTuple):
    """A request that would be accepted, but for the mistake made on it."""

    method: str
    path: str
    role: str
    body: dict[str, Any] | None = None

    @property
    def worker_plane(self) -> bool:
        return self.path.startswith("/api/worker/")


FENCE = {"lease_owner": "{worker}", "workflow_task_attempt": 1}
ATTEMPT = {"lease_owner": "{worker}", "activity_attempt_id": "{attempt}"}
BRIDGED = {"action": "start_workflow", "idempotency_key": "k", "target": {"workflow_type": "t"}}
GOOD = [
    Good("POST", "/api/workflows", "operator", {"workflow_type": "t", "workflow_id": "new"}),
    Good("GET", "/api/workflows", "operator"),
    Good("GET", "/api/workflows/busy", "operator"),
    Good("GET", "/api/workflows/busy/runs/{run}/history", "operator"),
    Good("GET", "/api/workers", "operator"),
    Good("POST", "/api/activities", "operator", {"activity_type": "a", "task_queue": "q", "activity_id": "new"}),
    Good("GET", "/api/activities", "operator"),
    Good("GET", "/api/activities/alone", "operator"),
    Good("POST", "/api/bridge-adapters/webhook/a", "operator", BRIDGED),
    Good("POST", "/api/schedules", "operator", {"spec": {"cron_expressions": ["@daily"]}, "action": {"workflow_type": "t"}}),
    Good("GET", "/api/schedules", "operator"),
    Good("PUT", "/api/schedules/none", "operator", {"note": "n"}),
    Good("POST", "/api/schedules/none/trigger", "operator", {}),
    Good("DELETE", "/api/schedules/none", "operator"),
    Good("POST", "/api/namespaces", "admin", {"name": "fresh", "retention_days": 3}),
    Good("PUT", "/api/namespaces/default", "admin", {"description": "changed"}),
    Good("POST", "/api/worker/register", "worker", {"worker_id": "n", "task_queue": "q", "runtime": "go"}),
    Good("POST", "/api/worker/heartbeat", "worker", {"worker_id": "{worker}"}),
    Good("POST", "/api/worker/workflow-tasks/poll", "worker", {"worker_id": "{worker}", "task_queue": "{queue}"}),
    Good("POST", "/api/worker/workflow-tasks/{task}/complete", "worker", {**FENCE, "commands": [COMPLETE]}),
    Good("POST", "/api/worker/workflow-tasks/{task}/fail", "worker", {**FENCE, "failure": {"message": "m"}}),
    Good("POST", "/api/worker/workflow-tasks/{task}/heartbeat", "worker", FENCE),
    Good("POST", "/api/worker/workflow-tasks/{task}/history", "worker", {**FENCE, "next_history_page_token": "MA=="}),
    Good("POST", "/api/worker/activity-tasks/poll", "worker", {"worker_id": "{worker}", "task_queue": "{queue}"}),
    Good("POST", "/api/worker/activity-tasks/{activity}/complete", "worker", {**ATTEMPT, "result": 1}),
    Good("POST", "/api/worker/activity-tasks/{activity}/fail", "worker", {**ATTEMPT, "failure": {"message": "m"}}),
    Good("POST", "/api/worker/activity-tasks/{activity}/heartbeat", "worker", {**ATTEMPT, "message": "m"}),
]


@dataclass(frozen=True)
class Mistake:
    """`headers` replace those of the good request, `content` its body; `reasons` on the control and on the worker plane."""

    status: int
    reasons: tuple[str, str]
    headers: dict[str, str | None] = field(default_factory=dict)
    content: bytes | None = None
    role: dict[str, str] = field(default_factory=dict)


VERSIONS = ("X-Durable-Workflow-Control-Plane-Version", "X-Durable-Workflow-Protocol-Version")


def same(reason: str) -> tuple[str, str]:
    return reason, reason


MISSING = ("missing_control_plane_version", "missing_protocol_version")
UNSUPPORTED = ("unsupported_control_plane_version", "unsupported_protocol_version")

MISTAKES: dict[str, Mistake] = {
    "malformed JSON": Mistake(400, same("malformed_json"), content=b'{"a": '),
    "not JSON at all": Mistake(400, same("malformed_json"), content=b"lease_owner=me"),
    "wrong media type": Mistake(415, same("unsupported_media_type"), {"Content-Type": "application/xml"}, b"<a/>"),
    "form": Mistake(415, same("unsupported_media_type"), {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1"),
    "no media type": Mistake(415, same("unsupported_media_type"), {"Content-Type": None}, b"{}"),
    "oversize": Mistake(413, same("payload_too_large"), content=b'{"a":"' + b"x" * LIMIT_BYTES + b'"}'),
    "no token": Mistake(401, same("unauthorized"), {"Authorization": None}),
    "unknown token": Mistake(401, same("unauthorized"), {"Authorization": "Bearer nobody"}),
    "wrong role": Mistake(403, same("forbidden"), role={"operator": "worker", "admin": "operator", "worker": "admin"}),
    "missing version": Mistake(400, MISSING, dict.fromkeys(VERSIONS)),
    "blank version": Mistake(400, MISSING, dict.fromkeys(VERSIONS, "")),
    "unsupported version": Mistake(400, UNSUPPORTED, dict.fromkeys(VERSIONS, "9.9")),
    "unknown namespace": Mistake(404, same("namespace_not_found"), {"X-Namespace": "nowhere"}),
    "empty namespace": Mistake(404, same("namespace_not_found"), {"X-Namespace": ""}),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_mistakes_any_request_can_make(target: Target, name: str) -> None:
    mistake = MISTAKES[name]
    before = await target.stored()
    made = 0
    for good in GOOD:
        if mistake.content is not None and good.body is None:
            continue
        if mistake.status == 404 and good.path.startswith("/api/namespaces"):
            continue
        role = mistake.role.get(good.role, good.role)
        answer = await target.send(good.method, good.path, role, good.body, mistake.content, **mistake.headers)
        body = answer.json()
        assert (answer.status_code, body["reason"]) == (mistake.status, mistake.reasons[good.worker_plane]), (good, body)
        assert body.get("message") or body.get("error"), good
        assert ("server_capabilities" in body) is good.worker_plane
        made += 1
    assert made >= 10
    assert await target.stored() == before


# -- mistakes in what is sent ------------------------------------------------------------------------------------------


def command(**fields: Any) -> dict[str, Any]:
    """The body of a completion with a good command and then this one."""
    return {**FENCE, "commands": [schedule(), fields]}


def activity(**fields: Any) -> dict[str, Any]:
    return command(type="schedule_activity", **{"activity_type": "a", **fields})


OTHER_CODEC = {"codec": "php", "blob": "x"}

START = Good("POST", "/api/workflows", "operator")
DONE = Good("POST", "/api/worker/workflow-tasks/{task}/complete", "worker")
FAIL = Good("POST", "/api/worker/workflow-tasks/{task}/fail", "worker")
BEAT = Good("POST", "/api/worker/workflow-tasks/{task}/heartbeat", "worker")
PAGE = Good("POST", "/api/worker/workflow-tasks/{task}/history", "worker")
RESULT = Good("POST", "/api/worker/activity-tasks/{activity}/complete", "worker")
FAILURE = Good("POST", "/api/worker/activity-tasks/{activity}/fail", "worker")
ALIVE = Good("POST", "/api/worker/activity-tasks/{activity}/heartbeat", "worker")
REGISTER = Good("POST", "/api/worker/register", "worker")
POLL = Good("POST", "/api/worker/workflow-tasks/poll", "worker")
NAMESPACE = Good("POST", "/api/namespaces", "admin")
SIGNAL = Good("POST", "/api/workflows/busy/signal/s", "operator")
UPDATE = Good("POST", "/api/workflows/busy/update/u", "operator")
CANCEL = Good("POST", "/api/workflows/busy/cancel", "operator")
ASK = Good("POST", "/api/worker/query-tasks/poll", "worker")
ALONE = Good("POST", "/api/activities", "operator")


NO_IDS: list[Any] = ["a b", "a" * 129, "..", 7, {}, "a/b"]
NO_SECONDS: list[Any] = [0, -1, 1.5, "x", True, [], 1 << 62]


def alone(**fields: Any) -> dict[str, Any]:
    """The start of a standalone activity."""
    return {"activity_type": "a", "task_queue": "q", "activity_id": "new", **fields}


INVALID: list[tuple[Good, Any, list[str]]] = [
    (START, {}, ["workflow_type"]),
    (START, [], ["workflow_type"]),
    (START, {"workflow_type": 7}, ["workflow_type"]),
    (START, {"workflow_type": "t", "workflow_id": "a b"}, ["workflow_id"]),
    (START, {"workflow_type": "t", "workflow_id": "a" * 129}, ["workflow_id"]),
    (START, {"workflow_type": "t", "input": "text"}, ["input"]),
    (START, {"workflow_type": "t", "input": OTHER_CODEC}, ["input.codec"]),
    (START, {"workflow_type": "t", "duplicate_policy": "terminate_existing"}, ["duplicate_policy"]),
    (START, {"workflow_type": "t", "run_timeout_seconds": 0, "priority": 10}, ["run_timeout_seconds", "priority"]),
    (START, {"workflow_type": "t", "request_id": "r"}, ["request_id"]),
    (START, {"workflow_type": "other", "workflow_id": "busy"}, ["workflow_type"]),
    (DONE, {}, ["lease_owner", "workflow_task_attempt", "commands"]),
    (DONE, {**FENCE, "commands": []}, ["commands"]),
    (DONE, {**FENCE, "commands": {"type": "complete_workflow"}}, ["commands"]),
    (DONE, {**FENCE, "commands": [COMPLETE, 7]}, ["commands.1"]),
    (DONE, {**FENCE, "workflow_task_attempt": 0, "commands": [COMPLETE]}, ["workflow_task_attempt"]),
    (DONE, command(), ["commands.1.type"]),
    (DONE, command(type="do_magic"), ["commands.1.type"]),
    (DONE, command(type="wait_condition"), ["commands.1.type"]),
    (DONE, command(type="open_signal_wait"), ["commands.1.type"]),
    (DONE, command(type="schedule_activity"), ["commands.1.activity_type"]),
    (DONE, activity(start_to_close_timeout=0), ["commands.1.start_to_close_timeout"]),
    (DONE, activity(heartbeat_timeout=9, start_to_close_timeout=5), ["commands.1.heartbeat_timeout"]),
    (DONE, activity(start_to_close_timeout=9, schedule_to_close_timeout=5), ["commands.1.start_to_close_timeout"]),
    (DONE, activity(schedule_to_start_timeout=9, schedule_to_close_timeout=5), ["commands.1.schedule_to_start_timeout"]),
    (DONE, activity(retry_policy={"max_attempts": 0}), ["commands.1.retry_policy.max_attempts"]),
    (DONE, activity(retry_policy={"backoff_seconds": [1, -1]}), ["commands.1.retry_policy.backoff_seconds.1"]),
    (DONE, activity(arguments=OTHER_CODEC), ["commands.1.arguments.codec"]),
    (DONE, activity(non_retryable=True), ["commands.1.non_retryable"]),
    (DONE, activity(queue=" "), ["commands.1.queue"]),
    (DONE, command(type="start_timer"), ["commands.1.delay_seconds"]),
    (DONE, command(type="start_timer", delay_seconds=-1), ["commands.1.delay_seconds"]),
    (DONE, command(type="start_timer", delay_seconds=1, retry_policy={}), ["commands.1.retry_policy"]),
    (DONE, command(type="fail_workflow"), ["commands.1.message"]),
    (DONE, command(type="complete_workflow", result={"codec": "avro", "blob": 7}), ["commands.1.result.blob"]),
    (DONE, command(type="complete_workflow", heartbeat_timeout=5), ["commands.1.heartbeat_timeout"]),
    (FAIL, FENCE, ["failure"]),
    (FAIL, {**FENCE, "failure": {}}, ["failure.message"]),
    (BEAT, {"workflow_task_attempt": "x"}, ["lease_owner", "workflow_task_attempt"]),
    (PAGE, FENCE, ["next_history_page_token"]),
    (PAGE, {**FENCE, "next_history_page_token": "MA==", "history_page_size": 1001}, ["history_page_size"]),
    (RESULT, {"result": 1}, ["activity_attempt_id", "lease_owner"]),
    (RESULT, {**ATTEMPT, "result": OTHER_CODEC}, ["result.codec"]),
    (FAILURE, ATTEMPT, ["failure"]),
    (FAILURE, {**ATTEMPT, "failure": {"message": "m", "kind": "odd"}}, ["failure.kind"]),
    (ALIVE, {**ATTEMPT, "message": "m" * 281}, ["message"]),
    (ALIVE, {**ATTEMPT, "unit": "steps"}, ["unit"]),
    (REGISTER, {"worker_id": "n", "task_queue": "q", "runtime": "cobol"}, ["runtime"]),
    (REGISTER, {"worker_id": "n", "runtime": "go"}, ["task_queue"]),
    (
        REGISTER,
        {"worker_id": "n", "task_queue": "q", "runtime": "go", "supported_workflow_types": "t"},
        ["supported_workflow_types"],
    ),
    (POLL, {"worker_id": "{worker}"}, ["task_queue"]),
    (POLL, {"worker_id": "{worker}", "task_queue": "{queue}", "history_page_size": 0}, ["history_page_size"]),
    (SIGNAL, {"input": "text"}, ["input"]),
    (SIGNAL, {"input": OTHER_CODEC}, ["input.codec"]),
    (SIGNAL, {"request_id": "r" * 256}, ["request_id"]),
    (UPDATE, {"wait_for": "ever"}, ["wait_for"]),
    (UPDATE, {"wait_for": "completed", "wait_timeout_seconds": 0}, ["wait_timeout_seconds"]),
    (UPDATE, {"wait_policy": "accepted"}, ["wait_policy"]),
    (CANCEL, {"reason": "r" * 1001}, ["reason"]),
    (ASK, {"worker_id": "{worker}"}, ["task_queue"]),
    (START, {"workflow_type": "dw.standalone_activity"}, ["workflow_type"]),
    (DONE, command(type="start_child_workflow", workflow_type="dw.standalone_activity"), ["commands.1.workflow_type"]),
    (ALONE, {}, ["activity_type", "task_queue"]),
    (ALONE, [], ["activity_type", "task_queue"]),
    (ALONE, alone(activity_type=" ", task_queue=7), ["activity_type", "task_queue"]),
    (ALONE, alone(activity_type="a" * 256, task_queue="q" * 256), ["activity_type", "task_queue"]),
    (ALONE, alone(activity_type="a\0", task_queue={}), ["activity_type", "task_queue"]),
    *[(ALONE, alone(activity_id=wrong), ["activity_id"]) for wrong in NO_IDS],
    (ALONE, alone(activity_class="c" * 256, business_key="b" * 256), ["activity_class", "business_key"]),
    (ALONE, alone(activity_class=1, business_key=[]), ["activity_class", "business_key"]),
    (ALONE, alone(input="text"), ["input"]),
    (ALONE, alone(input=OTHER_CODEC), ["input.codec"]),
    (ALONE, alone(input={"codec": "avro", "blob": 7}), ["input.blob"]),
    (ALONE, alone(input={"codec": "avro", "external_storage": {}}), ["input.external_storage"]),
    (ALONE, alone(input={"codec": "avro", "external_storage": {"codec": "avro"}}), ["input.external_storage"]),
    (ALONE, alone(retry_policy=3), ["retry_policy"]),
    (ALONE, alone(retry_policy={"max_attempts": 0}), ["retry_policy.max_attempts"]),
    (ALONE, alone(retry_policy={"backoff_seconds": -1}), ["retry_policy.backoff_seconds.0"]),
    (ALONE, alone(retry_policy={"backoff_seconds": "soon"}), ["retry_policy.backoff_seconds"]),
    (ALONE, alone(retry_policy={"backoff_seconds": [1, "x"]}), ["retry_policy.backoff_seconds.1"]),
    (ALONE, alone(retry_policy={"non_retryable_error_types": [1]}), ["retry_policy.non_retryable_error_types.0"]),
    *[
        (ALONE, alone(**{f"{timeout}_seconds": wrong}), [f"{timeout}_seconds"])
        for timeout in ("start_to_close_timeout", "schedule_to_start_timeout", "schedule_to_close_timeout", "heartbeat_timeout")
        for wrong in NO_SECONDS
    ],
    (ALONE, alone(heartbeat_timeout_seconds=9, start_to_close_timeout_seconds=5), ["heartbeat_timeout_seconds"]),
    (ALONE, alone(start_to_close_timeout_seconds=9, schedule_to_close_timeout_seconds=5), ["start_to_close_timeout_seconds"]),
    (ALONE, alone(priority=10, fairness_key="a b", fairness_weight=0), ["priority", "fairness_key", "fairness_weight"]),
    (NAMESPACE, {"name": "bad name"}, ["name"]),
    (NAMESPACE, {"name": "fresh", "retention_days": 0}, ["retention_days"]),
]


async def test_invalid_fields(target: Target) -> None:
    before = await target.stored()
    for good, body, fields in INVALID:
        answer = await target.send(good.method, good.path, good.role, body)
        found = answer.json()
        assert (answer.status_code, found["reason"]) == (422, "validation_failed"), (body, found)
        assert sorted(found["errors"]) == sorted(fields), (body, found)
        assert found["validation_errors"] == found["errors"]
    assert await target.stored() == before


def event(action: Any = "start_workflow", target: Any = None, **fields: Any) -> dict[str, Any]:
    """An outside event."""
    return {"action": action, "idempotency_key": "k", "target": {"workflow_type": "t"} if target is None else target, **fields}


def signalled(**fields: Any) -> dict[str, Any]:
    return event("signal_workflow", {"workflow_id": "busy", "signal_name": "s", **fields})


def updated(**fields: Any) -> dict[str, Any]:
    return event("update_workflow", {"workflow_id": "busy", "update_name": "u", **fields})


ACTIONS: list[Any] = [7, " ", {}, "a" * 256]
KEYS: list[Any] = [None, "", " ", 7, "k" * 256, "k\0", []]
NO_OBJECTS: list[Any] = ["t", 7, [1]]

MALFORMED: list[tuple[Any, list[str]]] = [
    ({}, ["action", "idempotency_key", "target"]),
    ([], ["action", "idempotency_key", "target"]),
    *[(event(action), ["action"]) for action in ACTIONS],
    *[(event(idempotency_key=wrong), ["idempotency_key"]) for wrong in KEYS],
    *[(event(target=wrong), ["target"]) for wrong in NO_OBJECTS],
    *[(event(correlation=wrong), ["correlation"]) for wrong in (*NO_OBJECTS, {"a": "\0"})],
    (event(input="text"), ["input"]),
    (event(input=OTHER_CODEC), ["input.codec"]),
    (event(target={"workflow_id": "w"}), ["target.workflow_type"]),
    *[(event(target={"workflow_type": wrong}), ["target.workflow_type"]) for wrong in (7, "t" * 256)],
    *[
        (event(target={"workflow_type": "t", "workflow_id": wrong}), ["target.workflow_id"])
        for wrong in ("a b", "a" * 129, ".", 7)
    ],
    *[
        (event(target={"workflow_type": "t", name: wrong}), [f"target.{name}"])
        for name in ("task_queue", "business_key")
        for wrong in (7, "x" * 256)
    ],
    (event(target={"workflow_type": "t", "duplicate_policy": "fail"}), ["target.duplicate_policy"]),
    (event("signal_workflow", {}), ["target.workflow_id", "target.signal_name"]),
    *[(signalled(workflow_id=wrong), ["target.workflow_id"]) for wrong in (7, "x" * 256)],
    *[(signalled(signal_name=wrong), ["target.signal_name"]) for wrong in (7, " ", "s" * 256, "s\x01")],
    ({**signalled(), "input": 7}, ["input"]),
    ({**signalled(), "input": {"codec": "avro", "blob": "!!"}}, ["input.blob"]),
    (event("update_workflow", {}), ["target.workflow_id", "target.update_name"]),
    *[(updated(update_name=wrong), ["target.update_name"]) for wrong in (7, "u" * 256, "u\n\x02u")],
    (updated(wait_for="ever"), ["target.wait_for"]),
    *[(updated(wait_timeout_seconds=wrong), ["target.wait_timeout_seconds"]) for wrong in (0, "x", 1.5)],
]


async def test_malformed_events(target: Target) -> None:
    before = await target.stored()
    for body, fields in MALFORMED:
        answer = await target.send("POST", "/api/bridge-adapters/webhook/a", "operator", body)
        found = answer.json()
        assert (answer.status_code, found["outcome"], found["reason"]) == (422, "rejected", "malformed_payload"), (body, found)
        assert sorted(found["errors"]) == sorted(fields), (body, found)
        assert found["accepted"] is False and found["message"]
    assert await target.stored() == before


READ = Good("GET", "", "operator")
UNKNOWN = "0" * 26
QUERIED = {"lease_owner": "{worker}", "query_task_attempt": 1}

NOT_THERE: list[tuple[Good, str, Any, int, str]] = [
    (READ, "/api/workflows/nothing", None, 404, "instance_not_found"),
    (READ, "/api/workflows/nothing/runs", None, 404, "instance_not_found"),
    (READ, "/api/workflows/busy/runs/nothing", None, 404, "run_not_found"),
    (READ, f"/api/workflows/busy/runs/{UNKNOWN}/history", None, 404, "run_not_found"),
    (READ, "/api/workflows/host/runs/{run}/history", None, 404, "run_not_found"),
    (READ, "/api/workers/nobody", None, 404, "worker_not_found"),
    (READ, "/api/activities/nothing", None, 404, "activity_not_found"),
    (READ, "/api/activities/busy", None, 404, "activity_not_found"),
    (ALONE, "/api/activities/alone", {}, 405, "method_not_allowed"),
    (ALONE, "/api/activities", {"activity_type": "a", "task_queue": "q", "activity_id": "busy"}, 409, "duplicate_not_allowed"),
    (READ, "/api/namespaces/nowhere", None, 404, "namespace_not_found"),
    (READ, "/api/nothing", None, 404, "not_found"),
    (START, "/api/workflows/busy", {}, 405, "method_not_allowed"),
    *[
        (START, f"/api/workflows/nothing/{verb}", {}, 404, "instance_not_found")
        for verb in ("signal/s", "query/q", "update/u", "cancel", "terminate", "repair", "archive")
    ],
    *[
        (START, f"/api/workflows/host/runs/{{run}}/{verb}", {}, 409, "historical_run_command_rejected")
        for verb in ("signal/s", "query/q", "update/u", "cancel", "terminate")
    ],
    *[
        (DONE, f"/api/worker/query-tasks/{unknown}/{verb}", {**QUERIED, **fields}, 404, "query_task_not_found")
        for unknown in ("nonsense", UNKNOWN, "{task}")
        for verb, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "m"}}))
    ],
    (
        START,
        "/api/workflows",
        {"workflow_type": "job", "workflow_id": "busy", "duplicate_policy": "odd"},
        422,
        "validation_failed",
    ),
    (DONE, "/api/worker/nothing", {}, 404, "not_found"),
    (DONE, "/api/worker/heartbeat", {"worker_id": "nobody"}, 404, "worker_not_registered"),
    (DONE, "/api/worker/workflow-tasks/poll", {"worker_id": "nobody", "task_queue": "{queue}"}, 412, "worker_not_registered"),
    (DONE, "/api/worker/activity-tasks/poll", {"worker_id": "{worker}", "task_queue": "q"}, 409, "task_queue_mismatch"),
    *[
        (DONE, f"/api/worker/workflow-tasks/{unknown}/{verb}", {**FENCE, **fields}, 404, "task_not_found")
        for unknown in ("nonsense", UNKNOWN, "{run}", "{activity}", "{attempt}")
        for verb, fields in (
            ("complete", {"commands": [COMPLETE]}),
            ("fail", {"failure": {"message": "m"}}),
            ("heartbeat", {}),
            ("history", {"next_history_page_token": "MA=="}),
        )
    ],
    *[
        (DONE, f"/api/worker/activity-tasks/{unknown}/{verb}", {**ATTEMPT, **fields}, 404, "task_not_found")
        for unknown in ("nonsense", UNKNOWN, "{run}", "{task}")
        for verb, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "m"}}), ("heartbeat", {}))
    ],
    *[
        (DONE, f"/api/worker/workflow-tasks/{{task}}/{verb}", {**FENCE, **fields, **wrong}, 409, reason)
        for wrong, reason in (
            ({"lease_owner": "other"}, "lease_owner_mismatch"),
            ({"workflow_task_attempt": 2}, "workflow_task_attempt_mismatch"),
        )
        for verb, fields in (
            ("complete", {"commands": [COMPLETE]}),
            ("complete", {"commands": [{"type": "do_magic"}]}),
            ("fail", {"failure": {"message": "m"}}),
            ("heartbeat", {}),
            ("history", {"next_history_page_token": "!!"}),
        )
    ],
    *[
        (DONE, f"/api/worker/activity-tasks/{{activity}}/{verb}", {**ATTEMPT, **fields, **wrong}, status, reason)
        for wrong, status, reason in (
            ({"lease_owner": "other"}, 409, "lease_owner_mismatch"),
            ({"activity_attempt_id": UNKNOWN}, 404, "attempt_not_found"),
        )
        for verb, fields in (("complete", {"result": 1}), ("fail", {"failure": {"message": "m"}}), ("heartbeat", {}))
    ],
    (PAGE, "/api/worker/workflow-tasks/{task}/history", {**FENCE, "next_history_page_token": "!!"}, 400, "invalid_page_token"),
    (DONE, "/api/worker/workflow-tasks/{task}/complete", {**FENCE, "commands": [COMPLETE, COMPLETE]}, 409, "invalid_commands"),
]


async def test_unknown_things_and_leases_of_others(target: Target) -> None:
    before = await target.stored()
    for good, path, body, status, reason in NOT_THERE:
        answer = await target.send(good.method, path, good.role, body)
        assert (answer.status_code, answer.json().get("reason")) == (status, reason), (path, body, answer.text)
    assert await target.stored() == before


async def test_too_many_commands_are_refused_whole(target: Target) -> None:
    before = await target.stored()
    body = {**FENCE, "commands": [{"type": "start_timer", "delay_seconds": 9}] * 1001}
    content = json.dumps(target.fill(body), separators=(",", ":")).encode()
    assert len(content) > LIMIT_BYTES
    answer = await target.send("POST", "/api/worker/workflow-tasks/{task}/complete", "worker", content=content)
    assert answer.status_code == 413
    assert await target.stored() == before


async def test_the_leases_are_still_good(target: Target) -> None:
    """After all of this both holders can go on as if nothing had happened."""
    for verb in ("heartbeat", "complete"):
        for good in (request for request in GOOD if request.path.endswith(verb)):
            answer = await target.send(good.method, good.path, good.role, good.body)
            assert answer.status_code == 200, answer.text
