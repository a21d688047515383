"""A client of one test over plain HTTP: control plane and worker in one."""

from __future__ import annotations

import itertools
from typing import Any

import httpx

_numbers = itertools.count(1)


class Http:
    """A client of one test, with a task queue and a registered worker of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.queue = f"q-{next(_numbers)}"
        self.worker = f"w-{self.queue}"

    async def call(self, method: str, path: str, status: int, body: Any = None, **headers: str) -> dict[str, Any]:
        response = await self.client.request(method, f"/api{path}", json=body, headers=headers or None)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        result: dict[str, Any] = response.json()
        return result

    async def post(self, path: str, status: int, **body: Any) -> dict[str, Any]:
        return await self.call("POST", path, status, body)

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        return await self.call("GET", path, status)

    async def register(self, **fields: Any) -> None:
        await self.post(
            "/worker/register", 201, **{"worker_id": self.worker, "task_queue": self.queue, "runtime": "external", **fields}
        )

    async def start(self, status: int = 201, **fields: Any) -> dict[str, Any]:
        return await self.post("/workflows", status, **{"workflow_type": "order", "task_queue": self.queue, **fields})

    async def poll(self, kind: str = "workflow", **fields: Any) -> Any:
        body = await self.post(f"/worker/{kind}-tasks/poll", 200, worker_id=self.worker, task_queue=self.queue, **fields)
        return body["task"]

    async def complete(self, task: dict[str, Any], *commands: Any, status: int = 200, **fields: Any) -> dict[str, Any]:
        body = {"lease_owner": self.worker, "workflow_task_attempt": task["workflow_task_attempt"], "commands": list(commands)}
        return await self.post(f"/worker/workflow-tasks/{task['task_id']}/complete", status, **{**body, **fields})

    async def waiting(self, workflow_id: str, *commands: Any, **fields: Any) -> str:
        """Start a workflow and complete its first task with `commands`, or an open condition wait; the run id."""
        run_id: str = (await self.start(workflow_id=workflow_id, **fields))["run_id"]
        await self.complete(await self.poll(), *(commands or ({"type": "open_condition_wait", "condition_key": "go"},)))
        return run_id

    async def closed(self, workflow_id: str, **fields: Any) -> str:
        """Start a workflow and complete it; the run id."""
        return await self.waiting(workflow_id, {"type": "complete_workflow", "result": "done"}, **fields)

    async def events(self, workflow_id: str, run_id: str) -> list[dict[str, Any]]:
        """The whole history of a run."""
        history: list[dict[str, Any]] = (await self.get(f"/workflows/{workflow_id}/runs/{run_id}/history"))["events"]
        return history

    async def types(self, workflow_id: str, run_id: str) -> list[str]:
        """The event types of a run, in order."""
        return [event["event_type"] for event in await self.events(workflow_id, run_id)]
