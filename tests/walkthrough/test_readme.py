"""The walkthrough of the published server README, step by step with curl: protocol 1.0 headers, plain JSON payloads.

Once with a token per role, once with the single legacy token used for all three. Without curl httpx sends the same requests.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.server import ServerProcess
from tests.support.services import TestServices

CURL = shutil.which("curl")

ROLES = {"ADMIN": "your-admin-token", "OPERATOR": "your-operator-token", "WORKER": "your-worker-token"}
LEGACY = "dev-token"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Shell:
    """What the reader of the walkthrough has in the shell: the server's URL and three tokens."""

    def __init__(self, url: str, tokens: dict[str, str]) -> None:
        self.url = url
        self.tokens = tokens

    def curl(self, method: str, path: str, headers: dict[str, str] | None = None, body: str | None = None) -> Reply:
        """One request as written in the README; the body is sent as it stands there."""
        if CURL is None:
            response = httpx.request(method, self.url + path, headers=headers, content=body, timeout=60)
            return Reply(response.status_code, dict(response.headers), response.json())
        command = [CURL, "-sS", "--include", "--max-time", "60", self.url + path]
        if method != "GET":
            command[1:1] = ["-X", method]
        for name, value in (headers or {}).items():
            command += ["-H", f"{name}: {value}"]
        if body is not None:
            command += ["-d", body]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        head, _, text = done.stdout.partition("\n\n")
        lines = head.splitlines()
        found = dict(line.lower().split(": ", 1) for line in lines[1:])
        return Reply(int(lines[0].split()[1]), found, json.loads(text))

    def control(self, role: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.tokens[role]}",
            "X-Namespace": "default",
            "X-Durable-Workflow-Control-Plane-Version": "2",
        }

    def worker(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.tokens['WORKER']}",
            "Content-Type": "application/json",
            "X-Namespace": "default",
            "X-Durable-Workflow-Protocol-Version": "1.0",
        }

    def work(self, path: str, body: str, status: int = 200) -> Any:
        """A worker call; what every answer of the worker plane has is checked here."""
        reply = self.curl("POST", f"/api/worker/{path}", self.worker(), body)
        assert reply.status == status, reply.body
        assert reply.headers["x-durable-workflow-protocol-version"] == "1.0"
        assert reply.body["protocol_version"] == "1.0"
        commands = reply.body["server_capabilities"]["supported_workflow_task_commands"]
        assert {"schedule_activity", "start_timer", "complete_workflow", "fail_workflow"} <= set(commands)
        return reply.body


@pytest.fixture(params=["role tokens", "legacy token"], scope="module")
def shell(request: pytest.FixtureRequest, services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A fresh server, configured with either kind of token."""
    if request.param == "role tokens":
        tokens = ROLES
        env = {f"DW_{role}_TOKEN": token for role, token in ROLES.items()}
        env |= {"DW_AUTH_DRIVER": "token", "DW_AUTH_TOKEN": "", "DW_AUTH_BACKWARD_COMPATIBLE": "false"}
    else:
        tokens = dict.fromkeys(ROLES, LEGACY)
        env = {"DW_AUTH_DRIVER": "token", "DW_AUTH_TOKEN": LEGACY}
    directory: Path = tmp_path_factory.mktemp("walkthrough")
    process = ServerProcess(services.deployment(), directory, env=env)
    try:
        yield Shell(process.start().url, tokens)
    finally:
        process.stop()


def test_health_readiness_discovery(shell: Shell) -> None:
    reply = shell.curl("GET", "/api/health")
    assert (reply.status, reply.body["status"]) == (200, "serving")
    datetime.fromisoformat(reply.body["timestamp"])
    assert shell.curl("GET", "/api/ready").status == 200
    reply = shell.curl("GET", "/api/cluster/info", {"Authorization": f"Bearer {shell.tokens['ADMIN']}"})
    assert reply.status == 200
    assert reply.body["control_plane"]["version"] == "2"
    assert reply.body["worker_protocol"]["version"].startswith("1.")


def test_the_first_worker_of_the_quickstart(shell: Shell) -> None:
    body = shell.work("register", '{"worker_id":"quickstart-worker","task_queue":"quickstart","runtime":"python"}', status=201)
    assert (body["worker_id"], body["registered"]) == ("quickstart-worker", True)


def test_a_namespace_is_created(shell: Shell) -> None:
    headers = {
        "Authorization": f"Bearer {shell.tokens['ADMIN']}",
        "Content-Type": "application/json",
        "X-Durable-Workflow-Control-Plane-Version": "2",
    }
    created = '{"name":"my-app","description":"My application namespace","retention_days":30}'
    reply = shell.curl("POST", "/api/namespaces", headers, created)
    assert reply.status == 201
    assert {name: reply.body[name] for name in ("name", "description", "retention_days", "status")} == {
        "name": "my-app",
        "description": "My application namespace",
        "retention_days": 30,
        "status": "active",
    }


def test_the_full_lifecycle(shell: Shell) -> None:
    reply = shell.curl(
        "POST",
        "/api/workflows",
        {**shell.control("OPERATOR"), "Content-Type": "application/json"},
        """{
        "workflow_id": "order-42",
        "workflow_type": "orders.process",
        "task_queue": "order-workers",
        "input": ["order-42", {"rush": true}],
        "execution_timeout_seconds": 3600,
        "run_timeout_seconds": 600
        }""",
    )
    assert reply.status == 201
    assert reply.headers["x-durable-workflow-control-plane-version"] == "2"
    run_id = reply.body["run_id"]
    assert re.fullmatch("[0-9a-z]{26}", run_id)
    assert {name: reply.body[name] for name in ("workflow_id", "run_id", "workflow_type", "status", "outcome")} == {
        "workflow_id": "order-42",
        "run_id": run_id,
        "workflow_type": "orders.process",
        "status": "pending",
        "outcome": "started_new",
    }

    shell.work(
        "register",
        """{
        "worker_id": "worker-1",
        "task_queue": "order-workers",
        "runtime": "python",
        "supported_workflow_types": ["orders.process"],
        "workflow_definition_fingerprints": {"orders.process": "sha256:..."}
        }""",
        status=201,
    )

    task = poll(shell, "workflow-tasks")
    assert {name: task[name] for name in EXPECTED_TASK} == {**EXPECTED_TASK, "run_id": run_id}
    assert [(event["sequence"], event["event_type"]) for event in task["history_events"]] == [
        (1, "StartAccepted"),
        (2, "WorkflowStarted"),
    ]

    done = shell.work(
        f"workflow-tasks/{task['task_id']}/complete",
        """{
        "lease_owner": "worker-1",
        "workflow_task_attempt": 1,
        "commands": [
        {
        "type": "schedule_activity",
        "activity_type": "orders.send-confirmation",
        "task_queue": "order-workers",
        "input": ["order-42"]
        }
        ]
        }""",
    )
    assert (done["outcome"], done["recorded"], done["run_status"]) == ("completed", True, "waiting")
    (activity_task,) = done["created_task_ids"]

    activity = poll(shell, "activity-tasks")
    assert activity["task_id"] == activity_task
    assert (activity["activity_type"], activity["attempt_number"]) == ("orders.send-confirmation", 1)
    reported = shell.work(
        f"activity-tasks/{activity['task_id']}/complete",
        f"""{{
        "activity_attempt_id": "{activity["activity_attempt_id"]}",
        "lease_owner": "worker-1",
        "result": "confirmation-sent"
        }}""",
    )
    assert (reported["outcome"], reported["recorded"]) == ("completed", True)

    task = poll(shell, "workflow-tasks")
    assert task["task_id"] == reported["next_task_id"]
    assert task["workflow_wait_kind"] == "activity"
    done = shell.work(
        f"workflow-tasks/{task['task_id']}/complete",
        """{
        "lease_owner": "worker-1",
        "workflow_task_attempt": 1,
        "commands": [
        {
        "type": "complete_workflow",
        "result": {"status": "shipped", "tracking": "TRK-123"}
        }
        ]
        }""",
    )
    assert (done["outcome"], done["run_status"]) == ("completed", "completed")

    described = shell.curl("GET", "/api/workflows/order-42", shell.control("OPERATOR"))
    assert described.status == 200
    assert (described.body["status"], described.body["run_id"]) == ("completed", run_id)
    assert described.body["input"] == ["order-42", {"rush": True}]
    assert described.body["output"] == {"status": "shipped", "tracking": "TRK-123"}

    history = shell.curl("GET", f"/api/workflows/order-42/runs/{run_id}/history", shell.control("OPERATOR"))
    assert history.status == 200
    assert [event["event_type"] for event in history.body["events"]] == [
        "StartAccepted",
        "WorkflowStarted",
        "ActivityScheduled",
        "ActivityStarted",
        "ActivityCompleted",
        "WorkflowCompleted",
    ]
    assert history.body["control_plane"]["contract"]["schema"] == "durable-workflow.v2.control-plane-response.contract"


EXPECTED_TASK = {
    "workflow_id": "order-42",
    "run_id": "",
    "workflow_type": "orders.process",
    "workflow_task_attempt": 1,
    "lease_owner": "worker-1",
    "task_queue": "order-workers",
}


def poll(shell: Shell, kind: str) -> Any:
    task = shell.work(f"{kind}/poll", '{"worker_id": "worker-1", "task_queue": "order-workers"}')["task"]
    assert task is not None
    return task


def test_tokens_open_only_their_own_doors(shell: Shell) -> None:
    """With role tokens the roles are kept apart; the one legacy token may do everything."""
    apart = len(set(shell.tokens.values())) > 1
    expected = {"ADMIN": 200, "OPERATOR": 200, "WORKER": 403 if apart else 200}
    for role, status in expected.items():
        assert shell.curl("GET", "/api/workflows", shell.control(role)).status == status, role
    headers = {**shell.worker(), "Authorization": f"Bearer {shell.tokens['OPERATOR']}"}
    body = '{"worker_id": "w", "task_queue": "q", "runtime": "python"}'
    reply = shell.curl("POST", "/api/worker/register", headers, body)
    assert reply.status == (403 if apart else 201)
    if apart:
        assert (reply.body["reason"], reply.body["allowed_roles"]) == ("forbidden", ["worker"])
    reply = shell.curl("GET", "/api/workflows", {**shell.control("ADMIN"), "Authorization": "Bearer other"})
    assert (reply.status, reply.body["reason"]) == (401, "unauthorized")
