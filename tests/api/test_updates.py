"""Updates against a running node: waits, results, refusals, repeated requests (control-plane 5.9)."""

from __future__ import annotations

import asyncio
from typing import Any

from api.payloads.codec import encode
from tests.api.driver import Http


async def answering(http: Http, *commands: dict[str, Any]) -> dict[str, Any]:
    """Polls the update's task and completes it; `update_id` is filled in."""
    task: dict[str, Any] = await http.poll()
    assert task["workflow_wait_kind"] == "update"
    update_id = task["workflow_update_id"]
    await http.complete(task, *({**command, "update_id": update_id} for command in commands))
    return task


COMPLETE = {"type": "complete_update", "result": {"ok": True}}


def refusal(message: str) -> dict[str, Any]:
    return {"type": "fail_update", "message": message, "exception_type": "ValueError", "non_retryable": True}


async def test_accepted(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("update-1")
    body = await http.post("/workflows/update-1/update/set_priority", 202, input=["high"])
    expected: dict[str, Any] = {
        "outcome": None,
        "workflow_id": "update-1",
        "run_id": run_id,
        "requested_run_id": None,
        "resolved_run_id": run_id,
        "command_sequence": 2,
        "target_scope": "instance",
        "workflow_type": "order",
        "command_status": "accepted",
        "command_source": "control_plane",
        "reason": None,
        "rejection_reason": None,
        "validation_errors": {},
        "update_name": "set_priority",
        "update_status": "accepted",
        "workflow_sequence": None,
        "result": None,
        "result_envelope": None,
        "failure_id": None,
        "failure_message": None,
        "applied_at": None,
        "rejected_at": None,
        "closed_at": None,
        "wait_for": "accepted",
        "wait_timed_out": False,
        "wait_timeout_seconds": None,
    }
    assert {key: body[key] for key in expected} == expected
    assert body["accepted_at"].endswith("Z")
    control = body["control_plane"]
    assert (control["operation_name"], control["operation_name_field"]) == ("set_priority", "update_name")
    assert control["update_id"] == body["update_id"]
    event = (await http.events("update-1", run_id))[-1]
    assert (event["event_type"], event["payload"]["update_id"]) == ("UpdateAccepted", body["update_id"])
    assert event["payload"]["arguments"]["blob"] == encode(["high"])
    described = await http.get("/workflows/update-1")
    assert (described["wait_kind"], described["wait_reason"]) == ("update", "Waiting for update set_priority")


async def test_completed(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("update-2")
    wait = {"wait_for": "completed", "wait_timeout_seconds": 20}
    waiting = asyncio.ensure_future(http.post("/workflows/update-2/update/u", 200, input={"p": 1}, request_id="sp-9", **wait))
    task = await answering(http, COMPLETE)
    body = await waiting
    expected = {
        "outcome": "update_completed",
        "update_id": task["workflow_update_id"],
        "update_status": "completed",
        "command_status": "accepted",
        "reason": None,
        "result": {"ok": True},
        "result_envelope": {"codec": "avro", "blob": encode({"ok": True})},
        "failure_id": None,
        "wait_for": "completed",
        "wait_timed_out": False,
        "wait_timeout_seconds": 20,
        "run_id": run_id,
    }
    assert {key: body[key] for key in expected} == expected
    assert isinstance(body["workflow_sequence"], int)
    # The same request again: the same update, nothing recorded, whatever the wait.
    before = await http.types("update-2", run_id)
    for again in ({}, wait):
        repeated = await http.post("/workflows/update-2/update/u", 200, request_id="sp-9", **again)
        for key in ("update_id", "command_id", "outcome", "result", "result_envelope", "update_status"):
            assert repeated[key] == body[key], key
    assert await http.types("update-2", run_id) == before


async def test_times_and_numbers_of_a_repeated_request(http: Http) -> None:
    await http.register()
    await http.waiting("update-3")
    first = await http.post("/workflows/update-3/update/u", 202, request_id="a")
    again = await http.post("/workflows/update-3/update/u", 202, request_id="a")
    assert {key: again[key] for key in ("update_id", "command_id", "command_sequence", "accepted_at")} == {
        key: first[key] for key in ("update_id", "command_id", "command_sequence", "accepted_at")
    }
    await answering(http, COMPLETE)
    closed = await http.post("/workflows/update-3/update/u", 200, request_id="a")
    for key in ("update_id", "command_id", "command_sequence", "accepted_at"):
        assert closed[key] == first[key], key
    assert closed["closed_at"] == closed["applied_at"] is not None
    assert closed["closed_at"] >= closed["accepted_at"]


async def test_the_header_names_a_request_and_the_body_comes_first(http: Http) -> None:
    await http.register()
    await http.waiting("update-4")
    path = "/workflows/update-4/update/u"
    header = await http.call("POST", path, 202, {}, **{"X-Request-Id": "h-1"})
    assert (await http.post(path, 202, request_id="h-1"))["update_id"] == header["update_id"]
    other = await http.call("POST", path, 202, {"request_id": "b-1"}, **{"X-Request-Id": "h-1"})
    assert other["update_id"] != header["update_id"]
    assert (await http.post(path, 202))["update_id"] not in (header["update_id"], other["update_id"])
    faulty = await http.call("POST", path, 422, {}, **{"X-Request-Id": "x" * 256})
    assert list(faulty["errors"]) == ["request_id"]


async def test_a_wait_that_runs_out(http: Http) -> None:
    await http.register()
    await http.waiting("update-5")
    body = await http.post("/workflows/update-5/update/u", 202, wait_for="completed", wait_timeout_seconds="1")
    assert (body["update_status"], body["outcome"], body["wait_timed_out"]) == ("accepted", None, True)
    assert body["wait_timeout_seconds"] == 1
    # The update goes on.
    assert (await http.poll())["workflow_update_id"] == body["update_id"]


async def test_a_failed_handler_and_a_validators_refusal(http: Http) -> None:
    await http.register()
    await http.waiting("update-6")
    path = "/workflows/update-6/update/u"
    cases = [
        ("update handler failed: boom", 422, "update_handler_failed"),
        ("update validator failed: no", 409, "update_rejected"),
        ("Update validator failed: no", 422, "update_handler_failed"),
        ("unknown update 'u'", 422, "update_handler_failed"),
    ]
    for number, (message, status, reason) in enumerate(cases):
        waiting = asyncio.ensure_future(http.post(path, status, wait_for="completed", request_id=f"f-{number}"))
        await answering(http, refusal(message))
        body = await waiting
        assert (body["update_status"], body["outcome"], body["reason"]) == ("failed", "update_failed", reason)
        assert body["message"] == body["failure_message"] == message
        assert body["failure_id"]
        assert (body["command_status"], body["rejection_reason"], body["result"]) == ("accepted", None, None)
        assert body["applied_at"] is None
        assert body["closed_at"] is not None
        assert body["wait_timeout_seconds"] == 10
        repeated = await http.post(path, status, request_id=f"f-{number}")
        assert (repeated["failure_id"], repeated["reason"]) == (body["failure_id"], reason)


async def test_an_update_whose_run_closes_fails(http: Http) -> None:
    await http.register()
    await http.waiting("update-7")
    waiting = asyncio.ensure_future(http.post("/workflows/update-7/update/u", 422, wait_for="completed"))
    assert (await http.poll())["workflow_wait_kind"] == "update"
    await http.post("/workflows/update-7/terminate", 200)
    body = await waiting
    assert (body["outcome"], body["reason"]) == ("update_failed", "update_handler_failed")
    assert body["failure_message"] == "Workflow run closed as terminated before accepted update u could be applied."


async def test_an_update_command_that_does_not_fit_is_refused(http: Http) -> None:
    await http.register()
    await http.waiting("update-8")
    update_id = (await http.post("/workflows/update-8/update/u", 202))["update_id"]
    task = await http.poll()
    for commands in (
        [{"type": "complete_update", "update_id": "nobody"}],
        [{"type": "complete_update", "update_id": update_id}] * 2,
        [{"type": "complete_workflow"}, {"type": "continue_as_new"}],
    ):
        body = await http.complete(task, *commands, status=409)
        assert (body["reason"], body["recorded"]) == ("invalid_commands", False)
    await http.complete(task, {"type": "complete_update", "update_id": update_id})
