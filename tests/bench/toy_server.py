"""A small real HTTP server for the load generator: runs the standard workflow in memory, well or with a chosen mistake."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import orjson

Answer = tuple[int, dict[str, Any]]


class Queue:
    """One queue of ready tasks with waiting polls."""

    def __init__(self) -> None:
        self.tasks: asyncio.Queue[dict[str, Any]] = asyncio.Queue()


class ToyServer:
    """`mistake`: None, or what it does wrong: `result`, `order`, `twice`, `refuse`, `lose`, `pages`.

    `hold`: seconds a poll is held. `delay`: seconds every answer takes on top.
    """

    def __init__(self, mistake: str | None = None, hold: float = 0.5, delay: float = 0.0) -> None:
        self.mistake = mistake
        self.hold = hold
        self.delay = delay
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._ids = itertools.count(1)
        self._runs: dict[str, dict[str, Any]] = {}
        self._queues: dict[tuple[str, str], Queue] = {}
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ToyServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
                body = orjson.loads(await reader.readexactly(int(headers["content-length"]))) if method == "POST" else {}
                self.requests.append((path, headers))
                status, answer = await self._answer(path, body)
                await asyncio.sleep(self.delay)
                content = orjson.dumps(answer)
                # In two pieces, the second split once more: a client must not depend on how the bytes come.
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\ncontent-length: {len(content)}\r\n".encode()
                )
                await writer.drain()
                writer.write(b"\r\n" + content[:7])
                await asyncio.sleep(0)
                writer.write(content[7:])
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test is done with us
        finally:
            self._handlers.discard(task)
            writer.close()

    def _queue(self, family: str, name: str) -> Queue:
        return self._queues.setdefault((family, name), Queue())

    async def _answer(self, path: str, body: dict[str, Any]) -> Answer:
        parts = path.split("/")[2:]
        match parts:
            case ["health"]:
                return 200, {"status": "serving"}
            case ["worker", "register"]:
                return 201, {"registered": True, "server_capabilities": {"long_poll_timeout": self.hold}}
            case ["worker", ("workflow-tasks" | "activity-tasks") as family, "poll"]:
                return 200, {"task": await self._poll(family, body)}
            case ["worker", "workflow-tasks", run_id, "complete"]:
                return self._complete_workflow_task(self._runs[run_id], body)
            case ["worker", "activity-tasks", run_id, "complete"]:
                return self._complete_activity(self._runs[run_id], body)
            case ["workflows"]:
                return self._start(body)
            case ["workflows", _, "runs", run_id, "history"]:
                return self._history(self._runs[run_id])
        return 404, {"reason": "not_found", "message": path}

    def _start(self, body: dict[str, Any]) -> Answer:
        if self.mistake == "refuse":
            return 503, {"reason": "service_unavailable"}
        run: dict[str, Any] = {"run_id": f"run{next(self._ids)}", "id": body["workflow_id"], "queue": body["task_queue"]}
        run |= {"input": body["input"], "events": []}
        self._runs[run["run_id"]] = run
        self._record(run, "StartAccepted", {})
        self._record(run, "WorkflowStarted", {})
        self._offer_workflow_task(run)
        return 201, {"workflow_id": run["id"], "run_id": run["run_id"], "outcome": "started_new"}

    def _record(self, run: dict[str, Any], kind: str, payload: dict[str, Any]) -> None:
        run["events"].append({"sequence": len(run["events"]) + 1, "event_type": kind, "payload": payload})

    def _offer_workflow_task(self, run: dict[str, Any]) -> None:
        task = {"task_id": run["run_id"], "workflow_id": run["id"], "workflow_task_attempt": 1, "task_queue": run["queue"]}
        task |= {"arguments": run["input"], "history_events": list(run["events"]), "next_history_page_token": None}
        self._queue("workflow-tasks", run["queue"]).tasks.put_nowait(task)

    async def _poll(self, family: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return await asyncio.wait_for(self._queue(family, body["task_queue"]).tasks.get(), self.hold)
        except TimeoutError:
            return None

    def _complete_workflow_task(self, run: dict[str, Any], body: dict[str, Any]) -> Answer:
        (command,) = body["commands"]
        if command["type"] == "complete_workflow":
            self._record(run, "WorkflowCompleted", {"output": command["result"]["blob"], "payload_codec": "avro"})
            return 200, {"recorded": True, "run_status": "completed"}
        self._record(run, "ActivityScheduled", {})
        task = {"task_id": run["run_id"], "workflow_id": run["id"], "activity_attempt_id": "a", "attempt_number": 1}
        for _ in range({"twice": 2, "lose": 0}.get(self.mistake or "", 1)):
            self._queue("activity-tasks", command["queue"]).tasks.put_nowait(task | {"arguments": command["arguments"]})
        self._record(run, "ActivityStarted", {})
        return 200, {"recorded": True, "run_status": "waiting"}

    def _complete_activity(self, run: dict[str, Any], body: dict[str, Any]) -> Answer:
        blob = "AARbXQI=" if self.mistake == "result" else body["result"]["blob"]
        self._record(run, "ActivityCompleted", {"result": blob, "payload_codec": "avro"})
        self._offer_workflow_task(run)
        return 200, {"recorded": True, "outcome": "completed"}

    def _history(self, run: dict[str, Any]) -> Answer:
        events = list(run["events"])
        if self.mistake == "order":
            events[2], events[3] = events[3], events[2]
        return 200, {"events": events, "next_page_token": "Ng==" if self.mistake == "pages" else None}
