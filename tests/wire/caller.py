"""Raw protocol calls against a running server, as a worker or a starter of any language would make them."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.server import ServerProcess

PATIENCE_SECONDS = 30.0

COMPLETE = {"type": "complete_workflow", "result": {"done": True}}


def schedule(activity_type: str = "step", **options: Any) -> dict[str, Any]:
    """A command that schedules an activity."""
    return {"type": "schedule_activity", "activity_type": activity_type, "arguments": [1], **options}


class Caller:
    """Speaks both planes on one task queue of its own."""

    def __init__(self, client: httpx.AsyncClient, server: ServerProcess) -> None:
        self.client = client
        self.server = server
        self.queue = f"q-{secrets.token_hex(4)}"

    # -- control plane -------------------------------------------------------------------------------------------------

    async def start(self, workflow_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Start a workflow; the accepted answer."""
        body = {"workflow_id": workflow_id or f"w-{secrets.token_hex(6)}", "workflow_type": "job", "task_queue": self.queue}
        response = await self.client.post("/api/workflows", json={**body, **fields})
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def history(self, run: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
        """The control plane's history of a run."""
        path = f"/api/workflows/{run['workflow_id']}/runs/{run['run_id']}/history"
        response = await self.client.get(path, params=query)
        assert response.status_code == 200, response.text
        return list(response.json()["events"])

    async def types(self, run: dict[str, Any]) -> list[str]:
        """The event types of a run after the two of its start."""
        names = [event["event_type"] for event in await self.history(run)]
        assert names[:2] == ["StartAccepted", "WorkflowStarted"]
        return names[2:]

    async def until(self, run: dict[str, Any], event_type: str, count: int = 1) -> list[str]:
        """Wait until history holds that many events of a type; all types then."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (names := await self.types(run)).count(event_type) < count:
                await asyncio.sleep(0.02)
        return names

    # -- worker plane --------------------------------------------------------------------------------------------------

    async def call(self, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
        """A worker call."""
        return await self.client.post(f"/api/worker/{path}", json=body, **options)

    async def register(self, worker_id: str | None = None, **fields: Any) -> str:
        """Register a worker on the queue; its id."""
        worker_id = worker_id or f"worker-{secrets.token_hex(4)}"
        body = {"worker_id": worker_id, "task_queue": self.queue, "runtime": "external", **fields}
        response = await self.call("register", body)
        assert response.status_code == 201, response.text
        return worker_id

    async def poll_once(self, worker_id: str, kind: str = "workflow", **fields: Any) -> dict[str, Any] | None:
        """One poll; the task, or None."""
        body = {"worker_id": worker_id, "task_queue": self.queue, **fields}
        response = await self.call(f"{kind}-tasks/poll", body)
        assert response.status_code == 200, response.text
        task: dict[str, Any] | None = response.json()["task"]
        return task

    async def poll(self, worker_id: str, kind: str = "workflow", **fields: Any) -> dict[str, Any]:
        """Poll until there is a task."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                task = await self.poll_once(worker_id, kind, **fields)
                if task is not None:
                    return task

    def complete(self, task: dict[str, Any], *commands: dict[str, Any], **changed: Any) -> Any:
        """Complete a workflow task (to be awaited); `changed` replaces fields of the fence."""
        body = {
            "lease_owner": task["lease_owner"],
            "workflow_task_attempt": task["workflow_task_attempt"],
            "commands": list(commands or (COMPLETE,)),
        }
        return self.call(f"workflow-tasks/{task['task_id']}/complete", {**body, **changed})

    def workflow_call(self, verb: str, task: dict[str, Any], **fields: Any) -> Any:
        """Another call on a leased workflow task (to be awaited)."""
        body = {"lease_owner": task["lease_owner"], "workflow_task_attempt": task["workflow_task_attempt"]}
        return self.call(f"workflow-tasks/{task['task_id']}/{verb}", {**body, **fields})

    def activity_call(self, verb: str, task: dict[str, Any], **fields: Any) -> Any:
        """A call on an activity attempt (to be awaited)."""
        body = {"lease_owner": task["lease_owner"], "activity_attempt_id": task["activity_attempt_id"]}
        return self.call(f"activity-tasks/{task['task_id']}/{verb}", {**body, **fields})

    # -- a client that leaves ------------------------------------------------------------------------------------------

    async def open_poll(self, worker_id: str, kind: str = "workflow", **fields: Any) -> LeavingPoll:
        """A poll on a connection of its own, sent and held; it can be cut off at any moment."""
        body = json.dumps({"worker_id": worker_id, "task_queue": self.queue, **fields}).encode()
        head = (
            f"POST /api/worker/{kind}-tasks/poll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.server.token}\r\n"
            "X-Durable-Workflow-Protocol-Version: 1.0\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection = socket.socket()
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self.server.port))
        await loop.sock_sendall(connection, head.encode() + body)
        return LeavingPoll(connection)


class LeavingPoll:
    """A poll whose client goes away without having read a byte of its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def leave(self, *, abort: bool) -> None:
        """Close the connection, whatever came; `abort` with a reset instead of a farewell."""
        if abort:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


def reason_of(response: httpx.Response) -> tuple[int, str | None]:
    """Status and reason."""
    return response.status_code, response.json().get("reason")


@asynccontextmanager
async def caller_on(server: ServerProcess) -> AsyncIterator[Caller]:
    """A caller on this server."""
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
    async with server.client(limits=limits) as client:
        yield Caller(client, server)
