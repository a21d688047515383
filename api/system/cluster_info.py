"""Cluster info (control-plane 3.3)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api.control.worker_fleet import worker_fleet
from api.http import envelope
from api.http.request import Request
from api.http.response import Response
from api.settings import Settings
from api.system.capabilities import capabilities, server_capabilities
from api.system.manifests import manifest
from api.system.repair import RepairGlance

SUPPORTED_SDK_VERSIONS = {"php": ">=1.0", "python": ">=0.2,<1.0", "cli": ">=0.1,<1.0"}

REQUEST_SCHEMA = "durable-workflow.v2.control-plane-request.contract"
REQUEST_VERSION = 1

REQUEST_CONTRACT: dict[str, Any] = {
    "schema": REQUEST_SCHEMA,
    "version": REQUEST_VERSION,
    "operations": {
        "list": {
            "fields": {
                "status": {
                    "canonical_values": ["running", "completed", "failed"],
                    "rejected_aliases": {
                        "cancelled": "failed",
                        "terminated": "failed",
                        "pending": "running",
                        "waiting": "running",
                    },
                }
            }
        },
        "start": {
            "fields": {
                "duplicate_policy": {
                    "canonical_values": ["fail", "use-existing"],
                    "rejected_aliases": {"use_existing": "use-existing"},
                },
                "execution_timeout_seconds": {"type": "integer", "min": 1},
                "run_timeout_seconds": {"type": "integer", "min": 1},
                "payload_codec": {
                    "type": "string",
                    "canonical_values": ["avro"],
                    "description": "Codec of the workflow payloads; taken from the input envelope when absent.",
                },
            },
            "unsupported_fields": [
                "workflow_execution_timeout",
                "workflow_run_timeout",
                "workflow_task_timeout",
                "retry_policy",
                "idempotency_key",
                "request_id",
            ],
        },
        "update": {
            "fields": {"wait_for": {"canonical_values": ["accepted", "completed"]}},
            "removed_fields": {"wait_policy": "Use wait_for."},
        },
    },
}

_WORKER_MANIFESTS = (
    "external_execution_surface_contract",
    "external_executor_config_contract",
    "invocable_carrier_contract",
    "external_task_input_contract",
    "external_task_result_contract",
)


def _static_info(settings: Settings) -> dict[str, Any]:
    """The parts of cluster info that follow from configuration alone."""
    worker_protocol: dict[str, Any] = {
        "version": settings.worker_protocol_version,
        "server_capabilities": server_capabilities(settings),
    }
    for name in _WORKER_MANIFESTS:
        worker_protocol[name] = manifest(name)
    worker_protocol["external_executor_config_contract"]["runtime"] = {
        "configured": False,
        "status": "not_configured",
        "source": None,
        "overlay": None,
        "summary": {"carrier_count": 0, "mapping_count": 0, "mapping_kinds": {}},
        "errors": [],
    }
    auth_composition = manifest("auth_composition_contract")
    return {
        "server_id": settings.server_id,
        "version": settings.version,
        "default_namespace": settings.default_namespace,
        "supported_sdk_versions": SUPPORTED_SDK_VERSIONS,
        "capabilities": capabilities(settings),
        "limits": asdict(settings.limits.request),
        "structural_limits": asdict(settings.limits.structural),
        "client_compatibility": _client_compatibility(settings),
        "auth_composition_contract": auth_composition,
        "control_plane": {
            "version": envelope.CONTROL_VERSION,
            "header": envelope.CONTROL_HEADER,
            "response_contract": {
                "schema": envelope.RESPONSE_SCHEMA,
                "version": envelope.RESPONSE_VERSION,
                "contract": envelope.CONTRACT,
                "projected_fields": list(envelope.PROJECTED_FIELDS),
                "operations": envelope.OPERATIONS,
            },
            "request_contract": REQUEST_CONTRACT,
        },
        "worker_protocol": worker_protocol,
        "bridge_adapter_outcome_contract": manifest("bridge_adapter_outcome_contract"),
    }


def _reference(name: str) -> dict[str, Any]:
    document = manifest(name)
    return {"schema": document["schema"], "version": document["version"]}


def _client_compatibility(settings: Settings) -> dict[str, Any]:
    control = ["auth_composition.version", "control_plane.version", "control_plane.request_contract"]
    return {
        "schema": "durable-workflow.v2.client-compatibility",
        "version": 1,
        "authority": "protocol_manifests",
        "top_level_version_role": "informational",
        "fail_closed": True,
        "required_protocols": {
            "auth_composition": _reference("auth_composition_contract"),
            "control_plane": {
                "version": envelope.CONTROL_VERSION,
                "header": envelope.CONTROL_HEADER,
                "request_contract": {"schema": REQUEST_SCHEMA, "version": REQUEST_VERSION},
            },
            "worker_protocol": {
                "version": settings.worker_protocol_version,
                "header": envelope.WORKER_HEADER,
                **{name: _reference(name) for name in _WORKER_MANIFESTS},
            },
        },
        "clients": {
            "cli": {"supported_versions": SUPPORTED_SDK_VERSIONS["cli"], "requires": control},
            "sdk-python": {
                "supported_versions": SUPPORTED_SDK_VERSIONS["python"],
                "requires": [*control, "worker_protocol.version", *(f"worker_protocol.{name}" for name in _WORKER_MANIFESTS)],
            },
        },
    }


class _Manifests:
    """The constant part of the answer, serialized at the first request."""

    def __init__(self) -> None:
        self._prefix: bytes | None = None

    def prefix(self, settings: Settings) -> bytes:
        """`settings`: the node's, the same at every call."""
        if self._prefix is None:
            self._prefix = envelope.spliceable(_static_info(settings))
        return self._prefix


async def cluster_info(request: Request) -> Response:
    """GET /api/cluster/info: the constant manifests and the live worker fleet."""
    services, settings = request.services, request.services.settings
    listed = await services.workers.listing(request.namespace)
    live: dict[str, Any] = {
        "worker_fleet": worker_fleet(request.namespace, listed, settings, services.clock.now()),
        "task_repair": {
            "policy": asdict(settings.repair_policy),
            "candidates": await services.kept(RepairGlance).candidates(services),
        },
    }
    principal = request.principal
    is_admin = principal is None or not principal.roles or principal.roles[0] == "admin"
    if settings.package_provenance is not None and is_admin:
        live["package_provenance"] = settings.package_provenance
    return Response(200, envelope.splice(services.kept(_Manifests).prefix(settings), envelope.encode(live)))
