"""The request fixtures that the published clients share, and both clients that send them.

A fixture holds the request of the command-line client (`cli`), the arguments of the SDK's method (`sdk_python`), and what the
answer must say (`semantic_body`). Names of things the server makes itself (runs, tasks, attempts) are put in place of the
fixture's.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
from durable_workflow import Client

DATA = Path(__file__).parent.parent / "data" / "sdk-requests"
CLIENTS = ["cli", "sdk"]


def fixture(name: str) -> dict[str, Any]:
    """The fixture of an operation."""
    found: dict[str, Any] = json.loads((DATA / f"{name}-parity.json").read_text())
    assert (found["schema"], found["version"]) == ("durable-workflow.polyglot.control-plane-request-fixture", 1)
    return found


class RequestFixtures:
    """Both clients in a namespace of their own."""

    def __init__(self, raw: httpx.AsyncClient, sdk: Client) -> None:
        self.raw = raw
        self.sdk = sdk

    async def send(self, found: dict[str, Any], body: Any = None, path: str | None = None, status: int = 200) -> Any:
        """The fixture's own request, as the command-line client sends it."""
        request = found["request"]
        answer = await self.raw.request(
            request["method"], "/api" + (path or request["path"]), json=body, params=request.get("query")
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    async def register(self, found: dict[str, Any] | None = None, **changed: Any) -> str:
        """Register the worker of the fixtures, or one like it."""
        body = {**(found or fixture("worker-register"))["request"]["body"], **changed}
        answer = await self.raw.post("/api/worker/register", json=body)
        assert answer.status_code == 201, answer.text
        return str(body["worker_id"])

    async def leased(self) -> tuple[str, dict[str, Any]]:
        """A leased workflow task of the type and queue that the fixtures name: the workflow id and the task."""
        worker = await self.register()
        workflow_id = f"order-{secrets.token_hex(4)}"
        body = {"workflow_id": workflow_id, "workflow_type": "orders.fulfillment", "task_queue": "external-workflows"}
        assert (await self.raw.post("/api/workflows", json=body)).status_code == 201
        poll = fixture("workflow-task-poll")["request"]["body"]
        assert poll["worker_id"] == worker
        task = (await self.raw.post("/api/worker/workflow-tasks/poll", json=poll)).json()["task"]
        assert task["workflow_id"] == workflow_id
        return workflow_id, task

    async def activity(self) -> tuple[str, dict[str, Any], str]:
        """A leased activity attempt of the fixtures' workflow, and the worker that has it."""
        workflow_id, task = await self.leased()
        complete = fixture("workflow-task-complete")["request"]["body"]
        body = {**complete, "workflow_task_attempt": 1}
        assert (await self.raw.post(f"/api/worker/workflow-tasks/{task['task_id']}/complete", json=body)).status_code == 200
        worker = await self.register(
            worker_id="activity-worker", task_queue="external-activities", supported_activity_types=["inventory.sync-page"]
        )
        poll = {"worker_id": worker, "task_queue": "external-activities"}
        leased = (await self.raw.post("/api/worker/activity-tasks/poll", json=poll)).json()["task"]
        return workflow_id, leased, worker

    async def events(self, workflow_id: str) -> list[dict[str, Any]]:
        """The history of a workflow's current run."""
        described = (await self.raw.get(f"/api/workflows/{workflow_id}")).json()
        history = await self.raw.get(f"/api/workflows/{workflow_id}/runs/{described['run_id']}/history")
        return list(history.json()["events"])


def says(body: dict[str, Any], expected: dict[str, Any], **own: Any) -> None:
    """The answer holds everything that is expected, with our own names in place of the fixture's."""
    for name, value in {**expected, **own}.items():
        assert body.get(name) == value, name
