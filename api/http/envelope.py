"""The envelopes of the two planes: version headers, constant body parts, and the `control_plane` object.

Worker plane: every body carries `protocol_version` and `server_capabilities`; both are serialized once and spliced in as bytes.
Control plane: workflow operations carry `control_plane` (control-plane 2).
"""

from __future__ import annotations

from typing import Any

import msgspec

CONTROL_VERSION = "2"
CONTROL_HEADER = "X-Durable-Workflow-Control-Plane-Version"
WORKER_HEADER = "X-Durable-Workflow-Protocol-Version"

RESPONSE_SCHEMA = "durable-workflow.v2.control-plane-response"
RESPONSE_VERSION = 1

PROJECTED_FIELDS = (
    "run_id",
    "workflow_type",
    "namespace",
    "business_key",
    "status",
    "status_bucket",
    "is_terminal",
    "task_queue",
    "run_number",
    "run_count",
    "workflow_count",
    "is_current_run",
    "compatibility",
    "started_at",
    "closed_at",
    "last_progress_at",
    "wait_kind",
    "wait_reason",
    "next_page_token",
    "command_id",
    "command_status",
    "command_source",
    "target_scope",
    "outcome",
    "reason",
    "rejection_reason",
    "validation_errors",
    "result",
    "result_envelope",
    "update_id",
    "update_status",
    "wait_for",
    "wait_timed_out",
    "wait_timeout_seconds",
    "blocked_reason",
    "message",
    "diagnostic_status",
)

CONTRACT: dict[str, Any] = {
    "schema": "durable-workflow.v2.control-plane-response.contract",
    "version": 1,
    "legacy_field_policy": "reject_non_canonical",
    "legacy_fields": {"query": "query_name", "signal": "signal_name", "update": "update_name", "wait_policy": "wait_for"},
}


def _operation(
    required: list[str] | None = None, success: list[str] | None = None, name_field: str | None = None
) -> dict[str, Any]:
    return {"operation_name_field": name_field, "required_fields": required or [], "success_fields": success or []}


_NAMED = ["workflow_id", "operation_name", "operation_name_field"]

OPERATIONS: dict[str, dict[str, Any]] = {
    "list": _operation(),
    "start": _operation(success=["workflow_id", "outcome"]),
    "describe": _operation(["workflow_id"]),
    "list_runs": _operation(["workflow_id"]),
    "describe_run": _operation(["workflow_id"], ["run_id"]),
    "debug_workflow": _operation(["workflow_id"], ["run_id", "diagnostic_status"]),
    "history": _operation(["workflow_id", "run_id"], ["next_page_token"]),
    "signal": _operation(_NAMED, ["outcome"], "signal_name"),
    "query": _operation(_NAMED, ["result"], "query_name"),
    "update": _operation(_NAMED, ["outcome"], "update_name"),
    "cancel": _operation(["workflow_id"], ["outcome"]),
    "terminate": _operation(["workflow_id"], ["outcome"]),
    "repair": _operation(["workflow_id"], ["outcome"]),
    "archive": _operation(["workflow_id"], ["outcome"]),
}

# The path parameters that name a signal, a query or an update.
NAME_FIELDS = frozenset(name for columns in OPERATIONS.values() if (name := columns["operation_name_field"]) is not None)

_CONTRACTS = {
    name: msgspec.Raw(
        msgspec.json.encode(
            {**CONTRACT, "required_fields": columns["required_fields"], "success_fields": columns["success_fields"]}
        )
    )
    for name, columns in OPERATIONS.items()
}

encode = msgspec.json.Encoder().encode


def add_control_plane(body: dict[str, Any], operation: str, path: dict[str, str]) -> None:
    """Adds `workflow_id`/`run_id` of the URL (when absent) and the `control_plane` object to a workflow operation's body."""
    for key in ("workflow_id", "run_id"):
        if key in path and key not in body:
            body[key] = path[key]
    name_field = OPERATIONS[operation]["operation_name_field"]
    control: dict[str, Any] = {"schema": RESPONSE_SCHEMA, "version": RESPONSE_VERSION, "operation": operation}
    if name_field is not None:
        control["operation_name"] = path.get(name_field)
        control["operation_name_field"] = name_field
    control["workflow_id"] = body.get("workflow_id")
    for key in PROJECTED_FIELDS:
        if key in body:
            control[key] = body[key]
    control["contract"] = _CONTRACTS[operation]
    body["control_plane"] = control


def spliceable(fields: dict[str, Any]) -> bytes:
    """A serialized object without its closing brace, ready to be continued by `splice`."""
    return encode(fields)[:-1]


def splice(prefix: bytes, body: bytes) -> bytes:
    """One object of the members of `prefix` (from `spliceable`) followed by those of the serialized object `body`."""
    if len(body) > 2:
        return prefix + b"," + body[1:]
    return prefix + b"}"


class WorkerEnvelope:
    """The constant part of worker-plane bodies, per accepted protocol version (worker-protocol 2.2, 2.4)."""

    def __init__(self, advertised: str, capabilities: dict[str, Any]) -> None:
        self.advertised = advertised
        major, _, minor = advertised.partition(".")
        self.supported = [f"{major}.{number}" for number in range(int(minor or 0) + 1)]
        self._prefixes = {
            version: spliceable({"protocol_version": version, "server_capabilities": capabilities})
            for version in self.supported
        }
        self._headers = {version: (WORKER_HEADER.lower().encode(), version.encode()) for version in self.supported}

    def accepts(self, version: str) -> bool:
        """Whether a request may use this version: same major as the advertised one and no higher minor."""
        return version in self._prefixes

    def header(self, version: str) -> tuple[bytes, bytes]:
        """The version header of an answer; the advertised version stands in for one that is not accepted."""
        return self._headers.get(version) or self._headers[self.advertised]

    def wrap(self, version: str, body: bytes) -> bytes:
        """The serialized object `body` with the constant members."""
        return splice(self._prefixes.get(version) or self._prefixes[self.advertised], body)
