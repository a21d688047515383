"""A valid request of every route of the server."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote

from api.http.route import WORKER, Route
from api.routes import ROUTES
from bench.payloads import encode
from tests.soak import schedules
from tests.soak.message import CONTROL_FIELD, WORKER_FIELD, Request
from tests.soak.state import NAMESPACES, QUEUES, WORKERS, Lease, SoakState, kind_of

TOKENS = {"admin": "soak-admin", "operator": "soak-operator", "worker": "soak-worker"}
TYPES = ["job", "order.fulfil", "nightly"]
NAMES = ["go", "set", "approve-it"]
ALONE = [f"alone-{number}" for number in range(20)]

Body = dict[str, Any] | None


ATTRIBUTES = ("customer", "total", "tags", "paid")
SEARCHES = (
    'customer = "c1"',
    'customer IN ("c1", "c2") AND Status = "running"',
    "total >= 3",
    "NOT tags = 'a'",
    "paid = true OR paid IS NULL",
    'WorkflowType = "job" AND StartTime > "2026-01-01"',
    'CloseTime < "2030-01-01T00:00:00Z"',
    "customer STARTS_WITH 'c'",
)


def request(route: Route, world: SoakState, rng: random.Random) -> Request:
    """A request that the route accepts as far as its kind goes: what it names may have come to its end."""
    workflow_id, run_id = world.run(rng)
    params = {
        "workflow_id": workflow_id,
        "run_id": run_id,
        "namespace": rng.choice(NAMESPACES),
        "worker_id": rng.choice(WORKERS),
        "task_queue": rng.choice(QUEUES),
        **{name: rng.choice(NAMES) for name in ("signal_name", "query_name", "update_name")},
        "task_id": "none",
        "query_task_id": "none",
        "name": rng.choice(ATTRIBUTES),
        "schedule_id": rng.choice(schedules.SCHEDULES),
        "activity_id": rng.choice(ALONE),
        "adapter": "hooks",
    }
    about = None
    if "{task_id}" in route.template or "{query_task_id}" in route.template:
        about = world.lease(kind_of(route.template), rng)
        if about is not None:
            params["task_id"] = str(about.task.get("task_id"))
            params["query_task_id"] = str(about.task.get("query_task_id"))
    role = "worker" if route.plane == WORKER else "admin"
    fields = [("Host", "localhost"), ("Authorization", f"Bearer {TOKENS[role]}")]
    if route.versioned:
        fields.append((WORKER_FIELD, rng.choice(["1.0", "1.1"])) if route.plane == WORKER else (CONTROL_FIELD, "2"))
    if rng.random() < 0.5:
        fields.append(("Accept-Encoding", "gzip, deflate"))
    found = Request(
        route,
        route.method,
        {name: value for name, value in params.items() if f"{{{name}}}" in route.template},
        fields,
        about=about,
    )
    if route.method == "GET":
        found.query = _query(route, world, rng)
    elif route.method != "DELETE":
        found.fields.append(("Content-Type", "application/json"))
        found.body = _body(route, about, world, rng)
    return found


def _query(route: Route, world: SoakState, rng: random.Random) -> str:
    known = {
        "/workflows": [
            "status=running", "status=failed", "page_size=5", "page_size=2", "workflow_type=job", "query=soak",
            f"query={quote(rng.choice(SEARCHES))}",
            f"next_page_token={rng.choice(world.tokens)}",
        ],
        "/workflows/count": ["status=running", "workflow_type=job", f"query={quote(rng.choice(SEARCHES))}"],
        "/schedules/{schedule_id}/history": ["limit=2", "after_sequence=1"],
        "/task-queues": ["page_size=3", "next_page_token=x"],
        "/workers": ["status=active", f"task_queue={QUEUES[0]}"],
        "/workflows/{workflow_id}/runs/{run_id}/history": [
            "page_size=3", f"next_page_token={rng.choice(world.tokens)}",
            "wait_new_event=true" if rng.random() < 0.1 else "a=b",
        ],
        "/workflows/{workflow_id}/debug": ["include_last_event_payload=true"],
    }.get(route.template, [])  # fmt: skip
    return "&".join(rng.sample(known, rng.randint(0, min(2, len(known)))))


def value(rng: random.Random) -> Any:
    """A payload as workflows have them."""
    return rng.choice(
        [None, 1, "text", [1, 2.5, "three"], {"order": 7, "lines": [{"sku": "a", "n": 2}]}, True, "grüße", list(range(50))]
    )


def payload(rng: random.Random) -> Any:
    """The same in one of the forms a payload may be sent in."""
    plain = value(rng)
    return rng.choice([plain, {"codec": "avro", "blob": encode(plain)}, {"codec": "json", "blob": json.dumps(plain)}])


def _arguments(rng: random.Random) -> Any:
    plain = [value(rng) for _ in range(rng.randint(0, 2))]
    return rng.choice([plain, {"codec": "avro", "blob": encode(plain)}])


def _start(world: SoakState, rng: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {
        "workflow_id": f"soak-{next(world.numbers)}" if rng.random() < 0.8 else world.run(rng)[0],
        "workflow_type": rng.choice(TYPES),
        "task_queue": rng.choice(QUEUES),
        "input": _arguments(rng),
        # Nobody ends most of the runs: they end by themselves, so that their number does not grow with the time.
        "run_timeout_seconds": rng.choice([5, 20]),
    }
    optional: dict[str, Any] = {
        "memo": {"a": value(rng)},
        "search_attributes": {"customer": "c1", "total": 3, "tags": ["a", "b"], "paid": True},
        "business_key": "b-1",
        "duplicate_policy": rng.choice(["fail", "use-existing"]),
        "execution_timeout_seconds": rng.choice([5, 3600]),
        "priority": 3,
        "fairness_key": "tenant",
        "fairness_weight": 10,
        "payload_codec": "avro",
    }
    return {**body, **_some(optional, rng)}


def _some(optional: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    return {name: optional[name] for name in rng.sample(sorted(optional), rng.randint(0, min(4, len(optional))))}


def command(world: SoakState, rng: random.Random) -> dict[str, Any]:
    """A command of a workflow-task completion."""
    failure = _some({"exception_type": "E", "exception_class": "m.E", "non_retryable": True, "exception": {"a": [1]}}, rng)
    policy = {"max_attempts": 3, "backoff_seconds": [0, 1], "non_retryable_error_types": ["Fatal"]}
    kind: dict[str, Any] = rng.choice(
        [
            {"type": "schedule_activity", "activity_type": "step", "arguments": _arguments(rng), "queue": rng.choice(QUEUES),
             **_some({"retry_policy": policy, "start_to_close_timeout": 5, "heartbeat_timeout": 2, "priority": 1,
                      "schedule_to_start_timeout": 5, "schedule_to_close_timeout": 20, "connection": "c"}, rng)},
            *[{"type": "schedule_activity", "activity_type": "step", "arguments": _arguments(rng)}] * 4,
            {"type": "start_timer", "delay_seconds": rng.choice([0, 1, 60])},
            {"type": "start_child_workflow", "workflow_type": rng.choice(TYPES), "arguments": _arguments(rng),
             **_some({"parent_close_policy": rng.choice(["abandon", "terminate", "request_cancel"]), "retry_policy": policy,
                      "run_timeout_seconds": 5, "execution_timeout_seconds": 30, "task_queue": rng.choice(QUEUES)}, rng)},
            {"type": "open_condition_wait", "condition_key": "k", "condition_definition_fingerprint": "f",
             "timeout_seconds": 1},
            {"type": "record_side_effect", "result": payload(rng)},
            {"type": "record_version_marker", "change_id": "c", "version": 1, "min_supported": -1, "max_supported": 2},
            {"type": "upsert_search_attributes", "attributes": {"customer": "c2", "gone": None},
             **_some({"attribute_types": {"customer": "keyword"}}, rng)},
            {"type": "complete_update", "update_id": rng.choice(world.updates), "result": payload(rng)},
            {"type": "fail_update", "update_id": rng.choice(world.updates), "message": "no", **failure},
            {"type": "complete_workflow", "result": payload(rng)},
            {"type": "fail_workflow", "message": "it failed", **failure},
            {"type": "continue_as_new", "arguments": _arguments(rng),
             **_some({"workflow_type": "job", "queue": QUEUES[1]}, rng)},
        ]
    )  # fmt: skip
    return kind


def _poll(rng: random.Random) -> dict[str, Any]:
    worker = rng.choice(WORKERS)
    optional = {
        "build_id": "b1",
        "poll_request_id": f"poll-{rng.randint(1, 5)}",
        "history_page_size": rng.choice([1, 3, 1000]),
        "accept_history_encoding": "gzip",
    }
    return {"worker_id": worker, "task_queue": queue_of(worker), **_some(optional, rng)}


def queue_of(worker: str) -> str:
    """The queue a worker of the soak is registered for."""
    return QUEUES[WORKERS.index(worker) % len(QUEUES)]


def registration(worker: str, rng: random.Random) -> dict[str, Any]:
    """The body that registers a worker of the soak."""
    optional = {
        "supported_workflow_types": TYPES,
        "workflow_definition_fingerprints": {"job": "sha256:1"},
        "supported_activity_types": ["step"],
        "capabilities": ["query_tasks"],
        "max_concurrent_workflow_tasks": 10,
        "max_concurrent_activity_tasks": 10,
        "sdk_version": "durable-workflow-python/0.4.84",
        "build_id": "b1",
        "task_slots": {"workflow_available": 3, "activity_available": 2, "session_available": None},
        "process_metrics": {"rss": 1, "cpu": {"user": 0.5}},
        "heartbeat_interval_seconds": 10,
    }
    return {
        "worker_id": worker,
        "task_queue": queue_of(worker),
        "runtime": rng.choice(["python", "external"]),
        **_some(optional, rng),
    }


def _fence(about: Lease | None, kind: str) -> dict[str, Any]:
    task: dict[str, Any] = {} if about is None else about.task
    owner = task.get("lease_owner", WORKERS[0])
    if kind == "activity":
        return {"lease_owner": owner, "activity_attempt_id": task.get("activity_attempt_id", "none")}
    name = f"{kind}_task_attempt"
    return {"lease_owner": owner, name: task.get(name, 1)}


def _failure(rng: random.Random) -> dict[str, Any]:
    optional = {
        "type": "ValueError",
        "class": "builtins.ValueError",
        "stack_trace": "line 1\nline 2",
        "non_retryable": rng.random() < 0.5,
        "kind": "application",
        "timeout_type": "heartbeat",
        "details": payload(rng),
        "code": rng.choice([7, "E7"]),
        "cancelled": False,
        "reason": "query_rejected",
    }
    return {"failure": {"message": "it failed", **_some(optional, rng)}}


def _body(route: Route, about: Lease | None, world: SoakState, rng: random.Random) -> Body:
    path = route.template
    last = path.rpartition("/")[2]
    if path.startswith("/worker/"):
        return _worker_body(path, last, about, world, rng)
    if path == "/workflows":
        return _start(world, rng)
    if path == "/activities":
        named = {"activity_type": "step", "task_queue": rng.choice(QUEUES), "activity_id": rng.choice(ALONE)}
        return {**named, "input": _arguments(rng), **_some({"start_to_close_timeout": 5, "priority": 3}, rng)}
    if path.startswith("/bridge-adapters"):
        return _bridged(world, rng)
    if path == "/storage/test":
        return _some({"driver": "local", "small_payload_bytes": 9, "large_payload_bytes": 99}, rng)
    if last == "external-storage":
        return {"driver": "s3", "enabled": rng.random() < 0.5, "config": {"bucket": "b", "disk": "nobody"}}
    if path.startswith("/namespaces"):
        named = {"name": rng.choice(NAMESPACES[3:])} if path == "/namespaces" else {}
        return {**named, **_some({"description": "d", "retention_days": 7}, rng)}
    if path.startswith("/schedules"):
        return schedules.body(path, rng.choice(QUEUES), _arguments(rng), rng)
    if path == "/search-attributes":
        return {"name": rng.choice(ATTRIBUTES), "type": rng.choice(["keyword", "int", "double", "bool", "datetime"])}
    if "/build-ids/" in path:  # a queue goes back to everybody sooner than it gets stuck
        return {"build_id": "v1" if last == "drain" or rng.random() < 0.2 else None}
    if last in ("cancel", "terminate", "archive"):
        return _some({"reason": "enough", "request_id": "r1"}, rng)
    if last == "repair":
        return _some({"request_id": "r1"}, rng)
    optional: dict[str, Any] = {"request_id": f"r{rng.randint(1, 9)}"}
    if last == "{update_name}":
        wait = {"wait_for": rng.choice(["accepted", "accepted", "completed"]), "wait_timeout_seconds": 1}
        return {"input": _arguments(rng), **wait, **_some(optional, rng)}
    return {"input": _arguments(rng), **(_some(optional, rng) if last == "{signal_name}" else {})}


def _bridged(world: SoakState, rng: random.Random) -> dict[str, Any]:
    """One event of another system."""
    workflow_id = world.run(rng)[0]
    targets: dict[str, dict[str, Any]] = {
        "start_workflow": {"workflow_type": rng.choice(TYPES), "task_queue": rng.choice(QUEUES)},
        "signal_workflow": {"workflow_id": workflow_id, "signal_name": rng.choice(NAMES)},
        "update_workflow": {"workflow_id": workflow_id, "update_name": rng.choice(NAMES)},
    }
    action = rng.choice(list(targets))
    return {"action": action, "idempotency_key": f"k{rng.randint(1, 99)}", "target": targets[action], "input": _arguments(rng)}


def _worker_body(path: str, last: str, about: Lease | None, world: SoakState, rng: random.Random) -> Body:
    if path == "/worker/register":
        return registration(rng.choice(WORKERS), rng)
    if path == "/worker/heartbeat":
        optional = {"task_slots": {"workflow_available": 1}, "process_metrics": {"rss": 2}, "heartbeat_interval_seconds": 5}
        return {"worker_id": rng.choice(WORKERS), **_some(optional, rng)}
    if last == "poll":
        return _poll(rng)
    kind = kind_of(path)
    body = _fence(about, kind)
    if last == "fail":
        return {**body, **_failure(rng)}
    if last == "history":
        return {**body, "next_history_page_token": rng.choice(world.tokens), **_some({"history_page_size": 2}, rng)}
    if last == "heartbeat" and kind == "activity":
        return {**body, **_some({"message": "half", "current": 1, "total": 2.5, "details": {"at": [1, 2]}}, rng)}
    if last == "complete" and kind == "workflow":
        return {**body, "commands": [command(world, rng) for _ in range(rng.choice([1, 1, 1, 2, 3, 40]))]}
    if last == "complete" and kind == "activity":
        return {**body, "result": payload(rng)}
    if last == "complete":
        plain = value(rng)
        envelope = {"codec": "avro", "blob": encode(plain)}
        return {**body, **_some({"result": plain, "result_envelope": envelope}, rng)}
    return body


def weights() -> list[int]:
    """How often each of ROUTES is asked: those that drive runs more often, those that end them seldom."""
    found = []
    for route in ROUTES:
        last = route.template.rpartition("/")[2]
        if route.method == "DELETE":
            found.append(1)
        elif route.template.startswith("/schedules"):
            found.append(3)
        elif route.template == "/workflows" and route.method == "POST":
            found.append(12)
        else:
            often = {
                "poll": 20,
                "complete": 14,
                "register": 4,
                "cancel": 2,
                "terminate": 2,
                "repair": 2,
                "archive": 2,
                "fail": 5,
                "drain": 1,
                "resume": 1,
                "promote": 1,
            }
            found.append(often.get(last, 6))
    return found
