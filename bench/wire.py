"""Ready request bytes for the server's HTTP contract, with everything constant of a request serialized once.

Contract: worker-protocol 2.1, 3.1, 4.1, 4.6, 4.9, 7.1, 7.3; control-plane 1.2, 5.1, 5.7, 6.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from bench.http import Address

CONTROL_PLANE_VERSION = "2"
WORKER_PROTOCOL_VERSION = "1.1"
SDK_VERSION = "durable-workflow-python/0.4.84"


class Wire:
    """Builds requests to one server for one namespace and token."""

    def __init__(self, address: Address, token: str, namespace: str = "default") -> None:
        common = f"Host: {address.host}:{address.port}\r\nAuthorization: Bearer {token}\r\nX-Namespace: {namespace}\r\n"
        control = f"{common}X-Durable-Workflow-Control-Plane-Version: {CONTROL_PLANE_VERSION}\r\n"
        worker = f"{common}X-Durable-Workflow-Protocol-Version: {WORKER_PROTOCOL_VERSION}\r\n"
        has_body = "Content-Type: application/json\r\nContent-Length: "
        self._control_get = f" HTTP/1.1\r\n{control}\r\n".encode()
        self._worker_post = f" HTTP/1.1\r\n{worker}{has_body}".encode()
        self._control_post = f" HTTP/1.1\r\n{control}{has_body}".encode()
        self._poll = {
            family: f"POST /api/worker/{family}-tasks/poll".encode() + self._worker_post for family in ("workflow", "activity")
        }
        self.health = f"GET /api/health HTTP/1.1\r\n{common}\r\n".encode()

    def list_workflows(self, filters: dict[str, str]) -> bytes:
        """control-plane 5.3."""
        return f"GET /api/workflows?{urlencode(filters)}".encode() + self._control_get

    def retention_pass(self, run_ids: list[str]) -> bytes:
        """control-plane 12.5."""
        return _with_body(b"POST /api/system/retention/pass" + self._control_post, {"run_ids": run_ids})

    def start_workflow(
        self, workflow_id: str, workflow_type: str, task_queue: str, input_blob: str, attributes: dict[str, Any] | None = None
    ) -> bytes:
        """control-plane 5.1, with the fields and timeouts the SDK always sends."""
        more = {} if attributes is None else {"search_attributes": attributes}
        return _with_body(
            b"POST /api/workflows" + self._control_post,
            {
                "workflow_id": workflow_id,
                "workflow_type": workflow_type,
                "task_queue": task_queue,
                "input": {"codec": "avro", "blob": input_blob},
                "execution_timeout_seconds": 3600,
                "run_timeout_seconds": 600,
                **more,
            },
        )

    def start_activity(self, activity_id: str, activity_type: str, task_queue: str, input_blob: str) -> bytes:
        """control-plane 10, with the timeout that the standard workflow gives its activity."""
        return _with_body(
            b"POST /api/activities" + self._control_post,
            {
                "activity_type": activity_type,
                "task_queue": task_queue,
                "activity_id": activity_id,
                "input": {"codec": "avro", "blob": input_blob},
                "start_to_close_timeout_seconds": 60,
            },
        )

    def history(self, workflow_id: str, run_id: str, page_token: str | None = None) -> bytes:
        """control-plane 6.1: the whole history, or with a token the page of 1,000 events behind it."""
        query = f"?page_size=1000&next_page_token={quote(page_token, safe='')}" if page_token else ""
        return f"GET /api/workflows/{workflow_id}/runs/{run_id}/history{query}".encode() + self._control_get

    def signal(self, workflow_id: str, name: str, arguments: list[Any]) -> bytes:
        """control-plane 5.7, with an input in plain JSON."""
        path = f"POST /api/workflows/{workflow_id}/signal/{name}".encode()
        return _with_body(path + self._control_post, {"input": arguments})

    def create_schedule(self, body: dict[str, Any]) -> bytes:
        """control-plane 11."""
        return _with_body(b"POST /api/schedules" + self._control_post, body)

    def describe_schedule(self, schedule_id: str) -> bytes:
        """control-plane 11."""
        return f"GET /api/schedules/{schedule_id}".encode() + self._control_get

    def register(self, worker_id: str, task_queue: str, workflow_types: tuple[str, ...], activity_type: str) -> bytes:
        """worker-protocol 3.1, as a worker of the measured SDK generation."""
        return _with_body(
            b"POST /api/worker/register" + self._worker_post,
            {
                "worker_id": worker_id,
                "task_queue": task_queue,
                "runtime": "python",
                "sdk_version": SDK_VERSION,
                "supported_workflow_types": list(workflow_types),
                "workflow_definition_fingerprints": {},
                "supported_activity_types": [activity_type],
            },
        )

    def poll_template(self, family: str, worker_id: str, task_queue: str) -> tuple[bytes, bytes]:
        """Head and tail of a poll of `family` ("workflow" or "activity"); a number of 32 hex digits goes between them."""
        body = orjson.dumps({"worker_id": worker_id, "task_queue": task_queue, "poll_request_id": f"{family}-poll-{'#' * 32}"})
        head, tail = body.split(b"#" * 32)
        return b"%b%d\r\n\r\n%b" % (self._poll[family], len(body), head), tail

    def history_page(self, task_id: str, lease_owner: str, attempt: int, page_token: str) -> bytes:
        """worker-protocol 4.6, with the fields the SDK sends."""
        return _with_body(
            f"POST /api/worker/workflow-tasks/{task_id}/history".encode() + self._worker_post,
            {"lease_owner": lease_owner, "workflow_task_attempt": attempt, "next_history_page_token": page_token},
        )

    def complete_workflow_task(self, task_id: str, lease_owner: str, attempt: int, commands: list[dict[str, Any]]) -> bytes:
        """worker-protocol 4.9."""
        return _with_body(
            f"POST /api/worker/workflow-tasks/{task_id}/complete".encode() + self._worker_post,
            {"lease_owner": lease_owner, "workflow_task_attempt": attempt, "commands": commands},
        )

    def complete_activity_task(self, task_id: str, lease_owner: str, attempt_id: str, result: dict[str, str]) -> bytes:
        """worker-protocol 7.3."""
        return _with_body(
            f"POST /api/worker/activity-tasks/{task_id}/complete".encode() + self._worker_post,
            {"activity_attempt_id": attempt_id, "lease_owner": lease_owner, "result": result},
        )


class Node(NamedTuple):
    """A server under load."""

    address: Address
    wire: Wire


def _with_body(head: bytes, body: dict[str, Any]) -> bytes:
    content = orjson.dumps(body)
    return b"%b%d\r\n\r\n%b" % (head, len(content), content)
