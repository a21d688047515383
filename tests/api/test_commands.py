"""Signal, cancel, terminate, repair, archive against a running node: results, rejections, order of checks."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from api.http.envelope import PROJECTED_FIELDS
from api.payloads.codec import encode
from tests.api.driver import Http
from tests.support.server import ServerProcess

ULID = re.compile(r"[0-9a-z]{26}\Z")

# Every route of a command or question: path behind the target, key of its name, whether it has a run-targeted form.
NAMED = [("signal", "signal_name"), ("query", "query_name"), ("update", "update_name")]
PLAIN = ["cancel", "terminate", "repair", "archive"]
TARGETED = ["signal/s", "query/s", "update/s", "cancel", "terminate"]

FORBIDDEN = {
    "accepted",
    "success",
    "status",
    "workflow_instance_id",
    "workflow_command_id",
    "command_reason",
    "signal",
    "update",
    "query",
    "wait_policy",
}


def accepted(body: dict[str, Any], **expected: Any) -> None:
    """The fields every accepted command's result has, and its control_plane object."""
    assert not FORBIDDEN & body.keys()
    assert ULID.match(body["command_id"]), body
    fixed = {
        "target_scope": "instance",
        "command_status": "accepted",
        "command_source": "control_plane",
        "rejection_reason": None,
        "validation_errors": {},
        "resolved_run_id": body["run_id"],
    }
    assert {key: body[key] for key in (*fixed, *expected)} == {**fixed, **expected}
    control = body["control_plane"]
    for key in body.keys() & set(PROJECTED_FIELDS):
        assert control[key] == body[key]
    for key in (*control["contract"]["required_fields"], *control["contract"]["success_fields"]):
        assert key in control


def rejected(body: dict[str, Any], reason: str, outcome: str | None) -> None:
    assert (body["command_status"], body["outcome"]) == ("rejected", outcome)
    assert body["reason"] == body["rejection_reason"] == body["control_plane"]["rejection_reason"] == reason
    assert body["message"]
    assert ULID.match(body["command_id"])


async def test_a_signal(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("signal-1")
    body = await http.post("/workflows/signal-1/signal/re%20route", 202, input=[{"to": "depot-3"}], request_id=" rr-1 ")
    accepted(
        body,
        outcome="signal_received",
        workflow_id="signal-1",
        run_id=run_id,
        requested_run_id=None,
        workflow_type="order",
        reason=None,
        command_sequence=2,
        signal_name="re route",
    )
    control = body["control_plane"]
    assert (control["operation"], control["operation_name"], control["operation_name_field"]) == (
        "signal",
        "re route",
        "signal_name",
    )
    event = (await http.events("signal-1", run_id))[-1]
    assert (event["event_type"], event["payload"]["signal_name"]) == ("SignalReceived", "re route")
    assert event["payload"]["arguments"]["blob"] == encode([{"to": "depot-3"}])
    task = await http.poll()
    assert (task["workflow_wait_kind"], task["signal_name"]) == ("signal", "re route")
    assert task["workflow_signal_id"] == event["payload"]["signal_id"]
    assert task["workflow_command_id"] == body["command_id"]


async def test_signals_are_not_deduplicated_and_keep_their_order(http: Http) -> None:
    await http.register()
    run_id = (await http.start(workflow_id="signal-2"))["run_id"]
    sequences = []
    for number in range(3):
        body = await http.post("/workflows/signal-2/signal/s", 202, input=[number], request_id="same")
        sequences.append(body["command_sequence"])
    assert sequences == [2, 3, 4]
    task = await http.poll()
    assert [event["event_type"] for event in task["history_events"]] == [
        "StartAccepted",
        "WorkflowStarted",
        *["SignalReceived"] * 3,
    ]
    many = [http.post("/workflows/signal-2/signal/s", 202, input=[number]) for number in range(20)]
    numbers = [body["command_sequence"] for body in await asyncio.gather(*many)]
    assert sorted(numbers) == list(range(5, 25))
    assert (await http.types("signal-2", run_id)).count("SignalReceived") == 23


async def test_run_targeted_commands(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("targeted-1")
    body = await http.post(f"/workflows/targeted-1/runs/{run_id}/signal/s", 202)
    accepted(body, outcome="signal_received", requested_run_id=run_id, run_id=run_id)
    assert body["control_plane"]["run_id"] == run_id
    body = await http.post(f"/workflows/targeted-1/runs/{run_id}/cancel", 200, reason=" stop ")
    accepted(body, outcome="cancelled", requested_run_id=run_id, reason="stop")
    described = await http.get("/workflows/targeted-1")
    assert (described["status"], described["closed_reason"], described["is_terminal"]) == ("cancelled", "cancelled", True)
    assert (await http.types("targeted-1", run_id))[-2:] == ["CancelRequested", "WorkflowCancelled"]
    assert (await http.events("targeted-1", run_id))[-1]["payload"]["reason"] == "stop"
    body = await http.post(f"/workflows/targeted-1/runs/{run_id}/terminate", 409)
    rejected(body, "run_not_active", "rejected_not_active")
    assert body["requested_run_id"] == run_id


async def test_historical_runs_take_no_commands(http: Http) -> None:
    await http.register()
    old = await http.waiting("chain-1", {"type": "continue_as_new"})
    new = (await http.get("/workflows/chain-1"))["run_id"]
    assert new != old
    described = await http.get(f"/workflows/chain-1/runs/{old}")
    assert (described["status"], described["closed_reason"], described["output"]) == ("completed", "continued", None)
    for run_id in (old, "01kp2q0000000000000000000r", "nonsense"):
        for path in TARGETED:
            # The run is checked before the body.
            for body in ({}, {"input": 5, "reason": 5, "request_id": 5}):
                answer = await http.post(f"/workflows/chain-1/runs/{run_id}/{path}", 409, **body)
                assert answer["reason"] == answer["control_plane"]["reason"] == "historical_run_command_rejected"
                assert (answer["run_id"], answer["target_scope"]) == (run_id, "run")
                assert answer["control_plane"]["run_id"] == run_id
    assert (await http.types("chain-1", old))[-1] == "WorkflowContinuedAsNew"
    assert (await http.post("/workflows/chain-1/signal/s", 202))["run_id"] == new
    assert [run["run_id"] for run in (await http.get("/workflows/chain-1/runs"))["runs"]] == [old, new]


async def test_terminate(http: Http) -> None:
    await http.register()
    run_id = (await http.start(workflow_id="terminate-1"))["run_id"]
    task = await http.poll()
    body = await http.post("/workflows/terminate-1/terminate", 200, reason="fraud", request_id="t-1")
    accepted(body, outcome="terminated", reason="fraud", run_id=run_id, workflow_type="order")
    assert (await http.types("terminate-1", run_id))[-2:] == ["TerminateRequested", "WorkflowTerminated"]
    late = await http.complete(task, {"type": "complete_workflow"}, status=409)
    assert (late["reason"], late["stop_reason"], late["cancel_requested"]) == ("run_closed", "run_terminated", True)
    assert (late["task_status"], late["error"]) == ("cancelled", "Workflow run is already closed.")
    described = await http.get("/workflows/terminate-1")
    assert (described["status"], described["status_bucket"]) == ("terminated", "failed")
    actions = described["actions"]
    assert [name for name, allowed in actions.items() if allowed] == ["can_archive"]


@pytest.mark.parametrize("path", ["signal/s", "update/s", "cancel", "terminate", "repair"])
async def test_a_closed_run_takes_no_commands(http: Http, path: str) -> None:
    await http.register()
    workflow_id = f"closed-{path.replace('/', '-')}"
    run_id = await http.closed(workflow_id)
    before = await http.types(workflow_id, run_id)
    body = await http.post(f"/workflows/{workflow_id}/{path}", 409)
    rejected(body, "run_not_active", "rejected_not_active")
    assert body["run_id"] == body["resolved_run_id"] == run_id
    assert body["command_sequence"] == 2
    assert await http.types(workflow_id, run_id) == before
    if path == "update/s":
        assert (body["update_status"], body["update_name"], body["update_id"]) == ("rejected", "s", None)


async def test_archive(http: Http) -> None:
    await http.register()
    await http.waiting("archive-1")
    rejected(await http.post("/workflows/archive-1/archive", 409), "run_not_closed", "rejected_run_not_closed")
    run_id = await http.closed("archive-2")
    accepted(await http.post("/workflows/archive-2/archive", 200, reason="tidy"), outcome="archived", reason="tidy")
    described = await http.get("/workflows/archive-2")
    assert (described["actions"]["can_archive"], described["output"]) == (False, "done")
    accepted(await http.post("/workflows/archive-2/archive", 200), outcome="archive_not_needed", reason=None)
    assert "WorkflowArchived" in await http.types("archive-2", run_id)


async def test_repair(http: Http) -> None:
    await http.register()
    await http.waiting("repair-1")
    accepted(await http.post("/workflows/repair-1/repair", 200, request_id="r"), outcome="repair_not_needed", reason=None)
    await http.start(workflow_id="repair-2")
    task = await http.poll()
    guard = {"lease_owner": http.worker, "workflow_task_attempt": 1, "failure": {"message": "boom"}}
    await http.post(f"/worker/workflow-tasks/{task['task_id']}/fail", 200, **guard)
    # The failed task waits for its backoff; a repair does not.
    accepted(await http.post("/workflows/repair-2/repair", 200), outcome="repair_dispatched")
    assert (await http.poll())["task_id"] == task["task_id"]


async def test_updates_and_queries_have_their_names_checked_first(http: Http) -> None:
    for kind, field in NAMED:
        for name, word in (("a%0Ab", "control characters"), ("%00", "control characters"), ("x" * 257, "256")):
            # Unknown workflow, broken body: the name is looked at first.
            body = await http.post(f"/workflows/nobody/{kind}/{name}", 422, input=5)
            assert list(body["errors"]) == [field], (kind, name)
            assert word in body["errors"][field][0]
            assert body["control_plane"]["operation"] == kind
        multibyte = "%C3%A9" * 129
        assert list((await http.post(f"/workflows/nobody/{kind}/{multibyte}", 422))["errors"]) == [field]
        assert (await http.post(f"/workflows/nobody/{kind}/{'x' * 256}", 404))["reason"] == "instance_not_found"


@pytest.mark.parametrize("path", [*(f"{kind}/n" for kind, _ in NAMED), *PLAIN])
async def test_unknown_workflows(http: Http, path: str) -> None:
    # Before the body is looked at.
    for body in ({}, {"input": 5, "reason": 5, "request_id": 5}):
        answer = await http.post(f"/workflows/nobody/{path}", 404, **body)
        assert (answer["reason"], answer["workflow_id"]) == ("instance_not_found", "nobody")
        assert answer["control_plane"]["operation"] == path.split("/", maxsplit=1)[0]
        assert answer["control_plane"]["workflow_id"] == "nobody"
    if path not in ("repair", "archive"):
        answer = await http.post(f"/workflows/nobody/runs/r1/{path}", 404)
        assert (answer["reason"], answer["control_plane"]["run_id"]) == ("instance_not_found", "r1")


async def test_workflows_of_another_namespace_are_not_found(http: Http) -> None:
    await http.register()
    await http.waiting("elsewhere-1")
    await http.call("POST", "/namespaces", 201, {"name": "other"})
    for path in ["signal/s", "query/q", "update/u", *PLAIN]:
        for body in ({}, {"input": 5, "request_id": 5}):
            answer = await http.call("POST", f"/workflows/elsewhere-1/{path}", 404, body, **{"X-Namespace": "other"})
            assert answer["reason"] == "instance_not_found"
    assert (await http.get("/workflows/elsewhere-1"))["status"] == "waiting"


BAD_BODIES: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("signal/s", "query/s", "update/s"), {"input": "text"}, "input"),
    (("signal/s", "query/s", "update/s"), {"input": 5}, "input"),
    (("signal/s", "query/s", "update/s"), {"input": {"codec": "json", "blob": "[]"}}, "input.codec"),
    (("signal/s", "query/s", "update/s"), {"input": {"codec": "avro", "blob": 5}}, "input.blob"),
    (
        ("signal/s", "query/s", "update/s"),
        {"input": {"codec": "avro", "external_storage": {"codec": "avro"}}},
        "input.external_storage",
    ),
    (("signal/s", "update/s"), {"input": {"codec": "avro", "blob": encode("x")}}, "input.blob"),
    (("signal/s", "update/s", *PLAIN), {"request_id": "x" * 256}, "request_id"),
    (("signal/s", "update/s", *PLAIN), {"request_id": 7}, "request_id"),
    (("cancel", "terminate", "archive"), {"reason": "x" * 1001}, "reason"),
    (("cancel", "terminate", "archive"), {"reason": ["x"]}, "reason"),
    (("update/s",), {"wait_for": "done"}, "wait_for"),
    (("update/s",), {"wait_timeout_seconds": 0}, "wait_timeout_seconds"),
    (("update/s",), {"wait_timeout_seconds": "soon"}, "wait_timeout_seconds"),
    (("update/s",), {"wait_policy": None}, "wait_policy"),
    (("update/s",), {"wait_policy": "completed"}, "wait_policy"),
]


async def test_bad_bodies_change_nothing(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("bad-1")
    before = await http.types("bad-1", run_id)
    for paths, body, key in BAD_BODIES:
        for path in paths:
            targets = [f"/workflows/bad-1/{path}"]
            if path not in ("repair", "archive"):
                targets.append(f"/workflows/bad-1/runs/{run_id}/{path}")
            for target in targets:
                answer = await http.post(target, 422, **body)
                assert (answer["reason"], list(answer["errors"])) == ("validation_failed", [key]), (path, body)
                assert answer["control_plane"]["validation_errors"] == answer["validation_errors"] == answer["errors"]
    assert await http.types("bad-1", run_id) == before
    assert (await http.post("/workflows/bad-1/signal/s", 202))["command_sequence"] == 2


async def test_roles(server: ServerProcess, http: Http) -> None:
    http.client.headers["Authorization"] = "Bearer wrong"
    body = await http.post("/workflows/w/signal/go", 401)
    control = body["control_plane"]
    assert (control["operation"], control["operation_name"], control["workflow_id"]) == ("signal", "go", "w")
