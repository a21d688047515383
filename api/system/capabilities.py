"""What this server can do, said in one place: `server_capabilities` of every worker answer and `capabilities` of cluster info.

Contract: worker-protocol 2.5, control-plane 3.3. What is not there yet is `False` or left out of the command list.
"""

from __future__ import annotations

from typing import Any

from api.settings import Settings
from api.worker.commands.readers import READERS

SUPPORTED_COMMANDS = tuple(READERS)

_ENCODINGS = ["gzip", "deflate"]

CAPABILITIES: dict[str, bool] = {
    "workflow_tasks": True,
    "activity_tasks": True,
    "signals": True,
    "queries": True,
    "updates": True,
    "schedules": True,
    "schedule_jitter": True,
    "schedule_max_runs": True,
    "search_attributes": True,
    "history_export": True,
    "continue_as_new": True,
    "child_workflows": True,
    "activity_timeouts": True,
    "activity_retry_policy": True,
    "child_workflow_retry_policy": True,
    "child_workflow_timeouts": True,
    "parent_close_policy": True,
    "non_retryable_failures": True,
    "history_retention": True,
    "payload_codec_envelope": True,
    "payload_codec_envelope_responses": True,
    "bridge_adapter_outcome_contract": True,
    "external_executor_config_contract": False,
    "invocable_carrier_contract": False,
}


def response_compression(settings: Settings) -> list[str]:
    """The encodings answers may be compressed with."""
    return list(_ENCODINGS) if settings.compression_enabled else []


def capabilities(settings: Settings) -> dict[str, Any]:
    """`capabilities` of cluster info."""
    return {**CAPABILITIES, "payload_codecs": ["avro"], "response_compression": response_compression(settings)}


def server_capabilities(settings: Settings) -> dict[str, Any]:
    """`server_capabilities` of worker answers and cluster info."""
    return {
        "long_poll_timeout": settings.poll_timeout_seconds,
        "supported_workflow_task_commands": list(SUPPORTED_COMMANDS),
        "workflow_task_poll_request_idempotency": True,
        "history_page_size_default": settings.history_page_size_default,
        "history_page_size_max": settings.history_page_size_max,
        "query_tasks": True,
        "activity_retry_policy": True,
        "activity_timeouts": True,
        "child_workflow_retry_policy": True,
        "child_workflow_timeouts": True,
        "parent_close_policy": True,
        "non_retryable_failures": True,
        "response_compression": response_compression(settings),
        "history_compression": {"supported_encodings": list(_ENCODINGS), "compression_threshold": 50},
        "external_execution_surface": {
            "schema": "durable-workflow.v2.external-execution-surface.contract",
            "version": 1,
            "name": "activity_grade_external_execution",
        },
        "external_executor_config": {
            "schema": "durable-workflow.v2.external-executor-config.contract",
            "version": 1,
            "config_schema": "durable-workflow.external-executor.config",
            "config_schema_version": 1,
        },
        "invocable_carrier": {
            "schema": "durable-workflow.v2.invocable-carrier.contract",
            "version": 1,
            "carrier_type": "invocable_http",
        },
        "external_task_input": {"schema": "durable-workflow.v2.external-task-input.contract", "version": 1},
        "external_task_result": {"schema": "durable-workflow.v2.external-task-result.contract", "version": 1},
    }
