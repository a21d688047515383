"""The webhook bridge over HTTP: each outcome of the tables, keys that count once, nothing told that must not be.

Contract: operations 10.1, control-plane 9.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from api.payloads.codec import encode
from tests.api.driver import Http

SCHEMA = {"schema": "durable-workflow.v2.bridge-adapter-outcome.contract", "version": 1}
SECRET = "hunter2-is-planted"


class Bridge:
    """Events of one adapter."""

    def __init__(self, http: Http, adapter: str) -> None:
        self.http = http
        self.adapter = adapter

    async def send(self, status: int, **body: Any) -> dict[str, Any]:
        """The outcome of an event; it never holds the planted secret."""
        found = await self.http.post(f"/bridge-adapters/webhook/{self.adapter}", status, **body)
        assert {**SCHEMA, "adapter": self.adapter}.items() <= found.items()
        assert found["accepted"] == (found["outcome"] == "accepted") == (status == 202)
        assert None not in found.values() and "control_plane" not in found and "input" not in found
        assert SECRET not in str(found)
        return found

    async def start(self, status: int, key: str, target: dict[str, Any], **more: Any) -> dict[str, Any]:
        target = {"workflow_type": "order", "task_queue": self.http.queue, **target}
        return await self.send(status, action="start_workflow", idempotency_key=key, target=target, **more)

    async def signal(self, status: int, key: str, workflow_id: str, name: str = "go", **more: Any) -> dict[str, Any]:
        target = {"workflow_id": workflow_id, "signal_name": name}
        return await self.send(status, action="signal_workflow", idempotency_key=key, target=target, **more)

    async def update(
        self, status: int, key: str, workflow_id: str, name: str = "set", wait: Any = None, **more: Any
    ) -> dict[str, Any]:
        target = {"workflow_id": workflow_id, "update_name": name, **(wait or {})}
        return await self.send(status, action="update_workflow", idempotency_key=key, target=target, **more)


@pytest.fixture
def bridge(http: Http) -> Bridge:
    return Bridge(http, f"depot.{http.queue}")


# -- starts ------------------------------------------------------------------------------------------------------------


async def test_a_start_by_key(http: Http, bridge: Bridge) -> None:
    await http.register()
    correlation = {"mail": "551", "n": 12345678901234567890, "deep": {"a": [1.50]}}
    first = await bridge.start(
        202, " k-1 ", {"business_key": "b-1", "colour": SECRET}, input={"to": SECRET}, correlation=correlation
    )
    workflow_id = f"bridge-{bridge.adapter}-{hashlib.sha256(b'k-1').hexdigest()[:32]}"
    assert first == {
        **SCHEMA,
        "adapter": bridge.adapter,
        "action": "start_workflow",
        "accepted": True,
        "outcome": "accepted",
        "idempotency_key": "k-1",
        "target": {
            "workflow_id": workflow_id,
            "workflow_type": "order",
            "task_queue": http.queue,
            "business_key": "b-1",
        },
        "correlation": correlation,
        "workflow_id": workflow_id,
        "run_id": first["run_id"],
        "workflow_type": "order",
        "control_plane_outcome": "started_new",
    }
    again = await bridge.start(200, "k-1", {})
    assert (again["outcome"], again["reason"]) == ("duplicate", "duplicate_start")
    assert (again["control_plane_outcome"], again["run_id"]) == ("returned_existing_active", first["run_id"])
    task = await http.poll()
    assert (task["workflow_id"], task["arguments"]["blob"]) == (workflow_id, encode([SECRET]))
    command = (await http.events(workflow_id, first["run_id"]))[0]["payload"]["command"]
    assert (command["type"], command["context"]["server"]) == (
        "start",
        {
            "command": "bridge.start_workflow",
            "metadata": {"adapter": bridge.adapter, "action": "start_workflow", "idempotency_key": "k-1"},
        },
    )
    # Of a closed one the key stays taken.
    await http.complete(task, {"type": "complete_workflow"})
    late = await bridge.start(200, "k-1", {})
    assert (late["outcome"], late["reason"]) == ("duplicate", "duplicate_start")
    assert (late["control_plane_outcome"], late["run_id"]) == ("rejected_duplicate", first["run_id"])
    other = await bridge.start(202, "k-2", {})
    assert other["workflow_id"] != workflow_id


async def test_a_start_that_rejects_duplicates(http: Http, bridge: Bridge) -> None:
    await http.register()
    target = {"workflow_id": "bridge-r-1", "duplicate_policy": "reject_duplicate"}
    first = await bridge.start(202, "k-1", target)
    assert (first["workflow_id"], first["target"]["workflow_id"]) == ("bridge-r-1", "bridge-r-1")
    for close in (False, True):
        if close:
            await http.post("/workflows/bridge-r-1/cancel", 200)
        again = await bridge.start(422, "k-2", target)
        assert (again["outcome"], again["reason"]) == ("rejected", "duplicate_start")
        assert again["control_plane_outcome"] == "rejected_duplicate"


async def test_starts_that_their_target_refuses(http: Http, bridge: Bridge) -> None:
    await http.start(workflow_id="bridge-t-1")
    for target in (
        {"workflow_id": "bridge-t-1", "workflow_type": "other"},
        {"workflow_type": "dw.standalone_activity"},
    ):
        refused = await bridge.start(422, "k-1", target)
        assert (refused["outcome"], refused["reason"]) == ("rejected", "unknown_target")
        assert "run_id" not in refused
    await http.post("/namespaces", 201, name="bridge-elsewhere")
    http.client.headers["X-Namespace"] = "bridge-elsewhere"
    assert (await bridge.start(422, "k-1", {"workflow_id": "bridge-t-1"}))["reason"] == "unknown_target"


async def test_one_start_of_many_at_once_is_accepted(http: Http, bridge: Bridge) -> None:
    await http.register()
    body = {
        "action": "start_workflow",
        "idempotency_key": "crowd",
        "target": {"workflow_type": "order", "task_queue": http.queue},
    }
    path = f"/api/bridge-adapters/webhook/{bridge.adapter}"
    answers = await asyncio.gather(*(http.client.post(path, json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [*[200] * 7, 202]
    assert len({answer.json()["run_id"] for answer in answers}) == 1


# -- signals -----------------------------------------------------------------------------------------------------------


async def signals(http: Http, workflow_id: str, run_id: str) -> list[dict[str, Any]]:
    events = await http.events(workflow_id, run_id)
    return [event["payload"] for event in events if event["event_type"] == "SignalReceived"]


async def test_a_signal_counts_once_per_key(http: Http, bridge: Bridge) -> None:
    await http.register()
    run_id = await http.waiting("bridge-s-1")
    first = await bridge.signal(202, "k-1", "bridge-s-1", input={"to": SECRET}, correlation={})
    assert first == {
        **SCHEMA,
        "adapter": bridge.adapter,
        "action": "signal_workflow",
        "accepted": True,
        "outcome": "accepted",
        "idempotency_key": "k-1",
        "target": {"workflow_id": "bridge-s-1", "signal_name": "go"},
        "correlation": {},
        "workflow_id": "bridge-s-1",
        "run_id": run_id,
        "control_plane_outcome": "signal_received",
    }
    again = await bridge.signal(200, "k-1", "bridge-s-1", input={"to": "elsewhere"})
    assert (again["outcome"], again["control_plane_outcome"]) == ("duplicate", "deduped_existing_command")
    assert (again["workflow_id"], again["run_id"]) == ("bridge-s-1", run_id) and "reason" not in again
    # Another key, name or adapter is another signal, and so is one that was not sent by the bridge.
    await bridge.signal(202, "k-2", "bridge-s-1")
    await bridge.signal(202, "k-1", "bridge-s-1", "stop")
    await Bridge(http, "another").signal(202, "k-1", "bridge-s-1")
    await http.post("/workflows/bridge-s-1/signal/go", 202, request_id="k-1")
    found = await signals(http, "bridge-s-1", run_id)
    assert [each["signal_name"] for each in found] == ["go", "go", "stop", "go", "go"]
    command = found[0]["command"]
    assert (command["type"], command["status"]) == ("signal", "accepted")
    assert command["context"]["server"]["metadata"] == {
        "adapter": bridge.adapter,
        "action": "signal_workflow",
        "idempotency_key": "k-1",
        "signal_name": "go",
    }
    # The key stays taken when the run is closed; a signal that was refused is tried again.
    await http.post("/workflows/bridge-s-1/cancel", 200)
    assert (await bridge.signal(200, "k-1", "bridge-s-1"))["outcome"] == "duplicate"
    refused = await bridge.signal(422, "k-3", "bridge-s-1")
    assert (refused["outcome"], refused["reason"]) == ("rejected", "run_not_active")
    assert (refused["run_id"], refused["control_plane_outcome"]) == (run_id, "rejected_not_active")
    assert (await bridge.signal(422, "k-3", "bridge-s-1"))["reason"] == "run_not_active"


async def test_a_signal_that_was_refused_is_tried_again(http: Http, bridge: Bridge) -> None:
    await http.register()
    missing = await bridge.signal(422, "k-1", "bridge-late")
    assert (missing["reason"], missing["target"]) == ("unknown_target", {"workflow_id": "bridge-late", "signal_name": "go"})
    await http.waiting("bridge-late")
    await bridge.signal(202, "k-1", "bridge-late")
    await bridge.signal(200, "k-1", "bridge-late")


async def test_a_key_counts_over_all_runs_of_a_workflow(http: Http, bridge: Bridge) -> None:
    await http.register()
    await http.start(workflow_id="bridge-c-1")
    task = await http.poll()
    first = await bridge.signal(202, "k-1", "bridge-c-1")
    await http.complete(task, {"type": "continue_as_new"})
    again = await bridge.signal(200, "k-1", "bridge-c-1")
    assert (again["outcome"], again["run_id"]) == ("duplicate", first["run_id"])
    second = await bridge.signal(202, "k-2", "bridge-c-1")
    assert second["run_id"] != first["run_id"]


async def test_one_signal_of_many_at_once_is_received(http: Http, bridge: Bridge) -> None:
    await http.register()
    run_id = await http.waiting("bridge-m-1")
    body = {
        "action": "signal_workflow",
        "idempotency_key": "crowd",
        "target": {"workflow_id": "bridge-m-1", "signal_name": "go"},
    }
    path = f"/api/bridge-adapters/webhook/{bridge.adapter}"
    for key in ("crowd", "crowd-2"):
        answers = await asyncio.gather(
            *(http.client.post(path, json={**body, "idempotency_key": key}) for _ in range(12)),
            *(http.client.post("/api/workflows/bridge-m-1/signal/other", json={}) for _ in range(4)),
        )
        assert sorted(answer.status_code for answer in answers[:12]) == [*[200] * 11, 202]
        assert {answer.status_code for answer in answers[12:]} == {202}
    names = [each["signal_name"] for each in await signals(http, "bridge-m-1", run_id)]
    assert (names.count("go"), names.count("other")) == (2, 8)


async def test_a_workflow_of_another_namespace_is_unknown(http: Http, bridge: Bridge) -> None:
    await http.register()
    await http.waiting("bridge-n-1")
    await bridge.signal(202, "k-1", "bridge-n-1")
    await bridge.update(202, "k-1", "bridge-n-1")
    await http.post("/namespaces", 201, name="bridge-other")
    http.client.headers["X-Namespace"] = "bridge-other"
    for call in (bridge.signal, bridge.update):
        refused = await call(422, "k-1", "bridge-n-1")
        assert refused["reason"] == "unknown_target" and "run_id" not in refused


# -- updates -----------------------------------------------------------------------------------------------------------


async def test_an_update_counts_once_per_key(http: Http, bridge: Bridge) -> None:
    await http.register()
    run_id = await http.waiting("bridge-u-1")
    first = await bridge.update(202, "k-1", "bridge-u-1", input=[SECRET])
    assert (first["workflow_id"], first["run_id"]) == ("bridge-u-1", run_id)
    assert first["target"] == {"workflow_id": "bridge-u-1", "update_name": "set"}
    assert "control_plane_outcome" not in first
    wait = {"wait_for": "completed", "wait_timeout_seconds": 30}
    again = await bridge.update(200, "k-1", "bridge-u-1", wait=wait)  # at once, whatever it would wait for
    assert (again["outcome"], again["control_plane_outcome"]) == ("duplicate", "deduped_existing_command")
    task = await http.poll()
    await http.complete(task, {"type": "complete_update", "update_id": task["workflow_update_id"], "result": 1})
    assert (await bridge.update(200, "k-1", "bridge-u-1"))["outcome"] == "duplicate"
    updates = [each for each in await http.types("bridge-u-1", run_id) if each == "UpdateAccepted"]
    assert len(updates) == 1
    await http.post("/workflows/bridge-u-1/cancel", 200)
    assert (await bridge.update(200, "k-1", "bridge-u-1"))["outcome"] == "duplicate"
    assert (await bridge.update(422, "k-2", "bridge-u-1"))["reason"] == "run_not_active"


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_an_update_that_is_waited_for(http: Http, bridge: Bridge, end: str) -> None:
    await http.register()
    workflow_id = f"bridge-w-{end}"
    await http.waiting(workflow_id)
    wait = {"wait_for": "completed", "wait_timeout_seconds": 60}
    asked = asyncio.create_task(bridge.update(202, "k-1", workflow_id, wait=wait))
    task = None
    async with asyncio.timeout(60):
        while task is None:
            task = await http.poll()
    answer: dict[str, Any] = {"type": "complete_update", "result": 1}
    if end == "failed":
        answer = {"type": "fail_update", "message": "no"}
    await http.complete(task, {**answer, "update_id": task["workflow_update_id"]})
    assert (await asked)["control_plane_outcome"] == f"update_{end}"


async def test_an_update_is_waited_for_no_longer_than_asked(http: Http, bridge: Bridge) -> None:
    await http.register()
    await http.waiting("bridge-w-late")
    found = await bridge.update(202, "k-1", "bridge-w-late", wait={"wait_for": "completed", "wait_timeout_seconds": 1})
    assert "control_plane_outcome" not in found


async def test_a_standalone_activity_takes_neither(http: Http, bridge: Bridge) -> None:
    body = {"activity_type": "scan", "task_queue": http.queue, "activity_id": "bridge-activity"}
    await http.post("/activities", 201, **body)
    assert (await bridge.signal(422, "k-1", "bridge-activity"))["reason"] == "unknown_signal"
    assert (await bridge.update(422, "k-1", "bridge-activity"))["reason"] == "unknown_update"
    assert (await bridge.start(422, "k-1", {"workflow_id": "bridge-activity"}))["reason"] == "unknown_target"


# -- what is wrong -----------------------------------------------------------------------------------------------------


async def test_routing_and_actions(http: Http) -> None:
    good = {"action": "start_workflow", "idempotency_key": "k", "target": {"workflow_type": "t"}}
    for adapter in ("a%20b", "a%2Fb", "a" * 89, "%C3%A9", "a%0A"):
        found = await http.post(f"/bridge-adapters/webhook/{adapter}", 422, **good)
        assert (found["outcome"], found["reason"], found["accepted"]) == ("rejected", "unsupported_routing", False)
        assert found.keys() == {"schema", "version", "adapter", "accepted", "outcome", "reason"}
    for action in ("handoff_external_task", "delete_everything"):
        found = await http.post("/bridge-adapters/webhook/a.b:c_d-e", 422, **{**good, "action": action})
        assert (found["reason"], found["action"]) == ("unsupported_action", action)
    await http.post(f"/bridge-adapters/webhook/{'a' * 88}", 202, **good)


async def test_what_is_never_told_again(http: Http) -> None:
    correlation = {
        "provider": "p",
        "Token": SECRET,
        "authorization": f"Bearer {SECRET}",
        "nested": {"a": {"Secret": SECRET}},
        "list": [{"raw_payload": SECRET}],
        "kept": {"tokens": 1},
    }
    target = {"workflow_type": "t", "signature": SECRET, "token": SECRET, "workflow_id": {"secret": SECRET}}
    body = {"action": "start_workflow", "idempotency_key": "k", "correlation": correlation, "input": {"secret": SECRET}}
    for wrong in (target, {"workflow_type": "t"}):
        status = 422 if wrong is target else 202
        found = await http.post("/bridge-adapters/webhook/leaks", status, **body, target=wrong, signature=SECRET)
        assert SECRET not in str(found)
        assert found["correlation"] == {"provider": "p", "kept": {"tokens": 1}}
