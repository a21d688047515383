"""Who caused a command stands in its event: caller, credential, request (configuration-and-security 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.conftest import CONTROL, WORKER
from tests.api.driver import Http
from tests.support.server import ServerProcess
from tests.support.services import TestServices

FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")
LEGACY = {"subject": "legacy-token", "roles": ["admin"], "claims": {"legacy_credential": True}, "legacy_full_access": True}


async def command_of(http: Http, workflow_id: str, run_id: str, event_type: str) -> dict[str, Any]:
    """The snapshot in the last event of a type."""
    found = [event for event in await http.events(workflow_id, run_id) if event["event_type"] == event_type]
    payload = found[-1]["payload"]
    command: dict[str, Any] = payload["command"]
    assert command["id"] == payload["workflow_command_id"]
    return command


async def test_a_start(http: Http) -> None:
    body = {"workflow_id": "attr-1", "workflow_type": "order", "task_queue": http.queue, "input": [10**30, "\U0001f600"]}
    headers = {"X-Request-Id": "req-1", "X-Correlation-Id": "corr-1", "X-Workflow-Caller-Label": "not trusted"}
    run_id = (await http.call("POST", "/workflows", 201, body, **headers))["run_id"]
    command = await command_of(http, "attr-1", run_id, "StartAccepted")
    assert FINGERPRINT.match(command.pop("request_fingerprint"))
    assert command.pop("accepted_at") == command.pop("applied_at") and command.pop("id")
    assert command == {
        "sequence": 1,
        "type": "start",
        "target_scope": "instance",
        "resolved_run_id": run_id,
        "source": "control_plane",
        "status": "accepted",
        "outcome": "started_new",
        "caller_label": "Standalone Server",
        "auth_status": "authorized",
        "auth_method": "token",
        "request_method": "POST",
        "request_path": "/api/workflows",
        "request_id": "req-1",
        "correlation_id": "corr-1",
        "context": {
            "auth": {"status": "authorized", "method": "token", "role": "admin", "roles": ["admin"], "principal": LEGACY}
        },
    }


async def test_a_duplicate_start(http: Http) -> None:
    run_id = (await http.start(workflow_id="attr-2"))["run_id"]
    await http.start(409, workflow_id="attr-2")
    command = await command_of(http, "attr-2", run_id, "StartRejected")
    assert (command["status"], command["outcome"]) == ("rejected", "rejected_duplicate")
    assert command["rejection_reason"] == "instance_already_started" and command["rejected_at"]
    assert command.keys().isdisjoint({"accepted_at", "applied_at"})


COMMANDS = [
    # path, event, type, outcome, applied at once, has a run-targeted form
    ("signal/poke", "SignalReceived", "signal", "signal_received", False, True),
    ("update/set", "UpdateAccepted", "update", None, False, True),
    ("cancel", "CancelRequested", "cancel", "cancelled", True, True),
    ("terminate", "TerminateRequested", "terminate", "terminated", True, True),
    ("repair", "RepairRequested", "repair", "repair_not_needed", True, False),
]


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("path", "event", "kind", "outcome", "applied", "has_target"), COMMANDS)
async def test_commands(
    http: Http, path: str, event: str, kind: str, outcome: str | None, applied: bool, has_target: bool, targeted: bool
) -> None:
    if targeted and not has_target:
        return
    workflow_id = f"attr-{kind}-{targeted}"
    await http.register()
    run_id = await http.waiting(workflow_id)
    base = f"/workflows/{workflow_id}/runs/{run_id}" if targeted else f"/workflows/{workflow_id}"
    response = await http.client.post(f"/api{base}/{path}", json={"request_id": "r-1"})
    assert response.status_code in (200, 202), response.text
    command = await command_of(http, workflow_id, run_id, event)
    assert (command["type"], command.get("outcome"), command["request_path"]) == (kind, outcome, f"/api{base}/{path}")
    assert (command["target_scope"], command.get("requested_run_id")) == (("run", run_id) if targeted else ("instance", None))
    assert command["resolved_run_id"] == run_id and ("applied_at" in command) == applied
    assert command["request_id"] == "r-1" and command["context"]["auth"]["principal"] == LEGACY
    assert (command["id"], command["sequence"]) == (response.json()["command_id"], response.json()["command_sequence"])


async def test_an_archive(http: Http) -> None:
    await http.register()
    run_id = await http.closed("attr-archive")
    await http.post("/workflows/attr-archive/archive", 200, reason="done")
    command = await command_of(http, "attr-archive", run_id, "ArchiveRequested")
    assert (command["type"], command["outcome"]) == ("archive", "archived") and command["applied_at"]


async def test_the_fingerprint_is_that_of_the_request(http: Http) -> None:
    async def signalled(body: dict[str, Any], **headers: str) -> str:
        await http.call("POST", "/workflows/attr-print/signal/s", 202, body, **headers)
        return str((await command_of(http, "attr-print", run_id, "SignalReceived"))["request_fingerprint"])

    run_id = (await http.start(workflow_id="attr-print"))["run_id"]
    first = await signalled({"input": ["a"], "request_id": "1"})
    assert await signalled({"request_id": "1", "input": ["a"]}) == first
    others = [await signalled({"input": ["b"], "request_id": "1"}), await signalled({"input": ["a"], "request_id": "2"})]
    others.append(await signalled({"input": ["a"], "request_id": "1"}, **{"X-Request-Id": "9"}))
    assert len({first, *others}) == 4


async def test_signals_that_move_on_keep_their_caller(http: Http) -> None:
    await http.register()
    first = (await http.start(workflow_id="attr-moves"))["run_id"]
    task = await http.poll()
    sent = await http.post("/workflows/attr-moves/signal/s", 202, request_id="r-7")
    await http.complete(task, {"type": "continue_as_new"})
    second = (await http.get("/workflows/attr-moves"))["run_id"]
    assert second != first
    before = await command_of(http, "attr-moves", first, "SignalReceived")
    after = await command_of(http, "attr-moves", second, "SignalReceived")
    assert before["id"] == after["id"] == sent["command_id"] and after["request_id"] == "r-7"
    assert (after["resolved_run_id"], after["sequence"]) == (second, 1)
    assert {**after, "resolved_run_id": first, "sequence": before["sequence"]} == before


@pytest.fixture(scope="module")
def trusting(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A node with role tokens behind a proxy that names the caller; one header is renamed, one is switched off."""
    environment = {
        "DW_AUTH_TOKEN": "",
        "DW_OPERATOR_TOKEN": "operator-token",
        "DW_TRUST_FORWARDED_ATTRIBUTION_HEADERS": "true",
        "DW_CALLER_LABEL_HEADER": "X-Who",
        "DW_AUTH_METHOD_HEADER": '" "',  # blank; an empty variable counts as unset
    }
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("trusting"), node_id="trusting", env=environment)
    try:
        yield process.start()
    finally:
        process.stop()


async def test_a_trusted_proxy_names_the_caller_and_changes_no_right(trusting: ServerProcess) -> None:
    headers = {**CONTROL, **WORKER, "Authorization": "Bearer operator-token"}
    async with httpx.AsyncClient(base_url=trusting.url, headers=headers, timeout=30) as client:
        http = Http(client)
        told = {"X-Who": "Ada", "X-Workflow-Auth-Status": "delegated", "X-Workflow-Auth-Method": "sso"}
        body = {"workflow_id": "proxied", "workflow_type": "order"}
        run_id = (await http.call("POST", "/workflows", 201, body, **told))["run_id"]
        command = await command_of(http, "proxied", run_id, "StartAccepted")
        assert (command["caller_label"], command["auth_status"], command["auth_method"]) == ("Ada", "delegated", "token")
        assert command["context"]["auth"] == {
            "status": "delegated",
            "method": "token",
            "role": "operator",
            "roles": ["operator"],
            "principal": {"subject": "role:operator", "roles": ["operator"]},
        }
        await http.post("/workflows/proxied/signal/s", 202)
        command = await command_of(http, "proxied", run_id, "SignalReceived")
        assert (command["caller_label"], command["auth_status"]) == ("Standalone Server", "authorized")
        spec = {"cron_expressions": ["0 3 * * *"]}
        scheduled = {"schedule_id": "proxied", "spec": spec, "action": {"workflow_type": "order"}}
        await http.call("POST", "/schedules", 201, scheduled, **told, **{"X-Workflow-Caller-Type": "person"})
        (event,) = (await http.get("/schedules/proxied/history"))["events"]
        context = event["payload"]["command_context"]["context"]
        assert context["caller"] == {"type": "person", "label": "Ada"}
        assert (context["auth"]["status"], context["auth"]["method"]) == ("delegated", "token")
        forged = await client.post("/api/workflows", json=body, headers={**told, "Authorization": "Bearer other"})
        assert forged.status_code == 401
