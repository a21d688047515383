"""How work is handed out and how much of it is allowed. Contract: configuration-and-security 6.4, 6.5, 6.6."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.config.entry import (
    BOOL,
    CAP,
    OBJECT,
    POSITIVE,
    SECRET,
    SERVER_ALIAS,
    TEXT,
    WORKFLOW_ALIAS,
    Treatment,
    choice,
    matching,
    variable,
    whole,
)

S, W = SERVER_ALIAS, WORKFLOW_ALIAS
MAX_POLL_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class PollingConfig:
    """Polls, leases, worker liveness."""

    poll_timeout_seconds: int = variable(
        "DW_WORKER_POLL_TIMEOUT", whole(0, MAX_POLL_TIMEOUT_SECONDS), 30, "how long a poll is held, 0 = answer at once", alias=S
    )
    poll_interval_ms: int = variable(
        "DW_WORKER_POLL_INTERVAL_MS",
        whole(1),
        1000,
        "forced re-check during a held poll",
        alias=S,
        not_yet="polls that wait are woken; without NATS ready tasks are read on a fixed period",
    )
    wake_signal_ttl_seconds: int = variable(
        "DW_WAKE_SIGNAL_TTL_SECONDS",
        POSITIVE,
        lambda read: max(read["DW_WORKER_POLL_TIMEOUT"] + 5, 60),
        "maximum age of wake messages",
        alias=S,
        treatment=Treatment.EQUIVALENT,
        not_yet="a wake-up is of use or lost at once, however old",
    )
    max_tasks_per_poll: int = variable(
        "DW_MAX_TASKS_PER_POLL",
        whole(1),
        1,
        "scales the candidates looked at per poll",
        alias=S,
        not_yet="a poll chooses among all ready tasks it may take",
    )
    expired_workflow_task_recovery_scan_limit: int = variable(
        "DW_EXPIRED_WORKFLOW_TASK_RECOVERY_SCAN_LIMIT",
        whole(1),
        5,
        "expired leases recovered per pass",
        alias=S,
        not_yet="every lease ends at its own deadline, without scans",
    )
    expired_workflow_task_recovery_ttl_seconds: int = variable(
        "DW_EXPIRED_WORKFLOW_TASK_RECOVERY_TTL_SECONDS",
        whole(1),
        5,
        "least time between recoveries of one task",
        alias=S,
        not_yet="every lease ends at its own deadline, without scans",
    )
    worker_protocol_version: str = variable(
        "DW_WORKER_PROTOCOL_VERSION", matching(r"[0-9]+\.[0-9]+", "MAJOR.MINOR"), "1.1", "advertised worker protocol", alias=S
    )
    history_page_size_max: int = variable("DW_HISTORY_PAGE_SIZE_MAX", whole(1, 1000), 1000, "largest history page", alias=S)
    history_page_size_default: int = variable(
        "DW_HISTORY_PAGE_SIZE_DEFAULT", whole(1), 500, "history page without a requested size", alias=S
    )
    workflow_task_timeout_seconds: int = variable(
        "DW_WORKFLOW_TASK_TIMEOUT", whole(1), 60, "workflow-task lease", alias="WORKFLOW_TASK_TIMEOUT"
    )
    activity_task_timeout_seconds: int = variable(
        "DW_ACTIVITY_TASK_TIMEOUT",
        whole(1),
        300,
        "activity-task lease without a stricter deadline",
        alias="ACTIVITY_TASK_TIMEOUT",
    )
    query_task_timeout_seconds: int = variable(
        "DW_QUERY_TASK_TIMEOUT",
        whole(0),
        lambda read: read["DW_WORKER_POLL_TIMEOUT"],
        "how long a query waits for a worker",
        alias=S,
    )
    query_task_lease_timeout_seconds: int = variable(
        "DW_QUERY_TASK_LEASE_TIMEOUT", whole(1), lambda read: read["DW_WORKFLOW_TASK_TIMEOUT"], "query-task lease", alias=S
    )
    query_task_ttl_seconds: int = variable(
        "DW_QUERY_TASK_TTL_SECONDS",
        whole(60),
        180,
        "retention of a query task",
        alias=S,
        not_yet="a query is kept for as long as its caller waits",
    )
    query_task_max_pending_per_queue: int = variable(
        "DW_QUERY_TASK_MAX_PENDING_PER_QUEUE", whole(1, 10000), 1024, "waiting queries per queue", alias=S
    )
    worker_stale_after_seconds: int = variable(
        "DW_WORKER_STALE_AFTER_SECONDS",
        whole(1),
        lambda read: max(2 * read["DW_WORKER_POLL_TIMEOUT"], 60),
        "age of the last contact after which a worker is stale",
        alias=S,
    )
    metrics_workflow_task_failure_type_limit: int = variable(
        "DW_METRICS_WORKFLOW_TASK_FAILURE_TYPE_LIMIT",
        whole(1, 100),
        20,
        "workflow types that the JSON metrics name as failing",
        alias=S,
    )
    metrics_open_run_limit: int = variable(
        "DW_METRICS_OPEN_RUN_LIMIT", whole(1), 20_000, "open runs of a namespace, newest first, that operator metrics look at"
    )

    @property
    def heartbeat_interval_seconds(self) -> int:
        """The heartbeat period workers are told (6.4 note b)."""
        return max(1, self.worker_stale_after_seconds // 3)


def _cap(kind: str, scope: str, about: str) -> Any:
    return variable(f"DW_{kind}_TASK_MAX_{scope}", CAP, None, about, alias=S)


@dataclass(frozen=True)
class AdmissionConfig:
    """Caps on leased and dispatched tasks, None = unlimited (configuration-and-security 6.8)."""

    workflow_leases_per_queue: int | None = _cap("WORKFLOW", "ACTIVE_LEASES_PER_QUEUE", "leased workflow tasks per queue")
    workflow_leases_per_namespace: int | None = _cap(
        "WORKFLOW", "ACTIVE_LEASES_PER_NAMESPACE", "leased workflow tasks per namespace"
    )
    workflow_dispatches_per_minute: int | None = _cap(
        "WORKFLOW", "DISPATCHES_PER_MINUTE", "workflow tasks per minute and queue"
    )
    workflow_dispatches_per_minute_per_namespace: int | None = _cap(
        "WORKFLOW", "DISPATCHES_PER_MINUTE_PER_NAMESPACE", "workflow tasks per minute and namespace"
    )
    activity_leases_per_queue: int | None = _cap("ACTIVITY", "ACTIVE_LEASES_PER_QUEUE", "leased activity tasks per queue")
    activity_leases_per_namespace: int | None = _cap(
        "ACTIVITY", "ACTIVE_LEASES_PER_NAMESPACE", "leased activity tasks per namespace"
    )
    activity_dispatches_per_minute: int | None = _cap(
        "ACTIVITY", "DISPATCHES_PER_MINUTE", "activity tasks per minute and queue"
    )
    activity_dispatches_per_minute_per_namespace: int | None = _cap(
        "ACTIVITY", "DISPATCHES_PER_MINUTE_PER_NAMESPACE", "activity tasks per minute and namespace"
    )
    overrides: Mapping[str, Any] = variable(
        "DW_TASK_QUEUE_ADMISSION_OVERRIDES",
        OBJECT,
        lambda read: {},
        "caps of single queues and namespaces",
        alias=S,
    )


@dataclass(frozen=True)
class LimitsConfig:
    """Sizes of requests and of their parts, 0 = off where the contract allows it."""

    history_events: int = variable(
        "DW_MAX_HISTORY_EVENTS", whole(1), 50_000, "events of one run", alias=W, treatment=Treatment.EQUIVALENT
    )
    history_retention_days: int = variable(
        "DW_HISTORY_RETENTION_DAYS", whole(1, 365), 30, "retention of a namespace created without one", alias=W
    )
    payload_bytes: int = variable("DW_MAX_PAYLOAD_BYTES", whole(1), 2_097_152, "HTTP body", alias=W)
    memo_bytes: int = variable("DW_MAX_MEMO_BYTES", whole(1), 262_144, "memo of a start or schedule", alias=W)
    search_attributes: int = variable("DW_MAX_SEARCH_ATTRIBUTES", whole(0), 100, "definitions per namespace", alias=W)
    search_attribute_key_length: int = variable(
        "DW_MAX_SEARCH_ATTRIBUTE_KEY_LENGTH", whole(0), 128, "bytes of a search-attribute key", alias=W
    )
    search_attribute_value_bytes: int = variable(
        "DW_MAX_SEARCH_ATTRIBUTE_VALUE_BYTES", whole(0), 2048, "bytes of a search-attribute value", alias=W
    )
    operation_name_length: int = variable(
        "DW_MAX_OPERATION_NAME_LENGTH", whole(0), 256, "bytes of a signal, query or update name", alias=W
    )
    pending_activities: int = variable("DW_MAX_PENDING_ACTIVITIES", whole(0), 2000, "open activities per run", alias=W)
    pending_children: int = variable("DW_MAX_PENDING_CHILDREN", whole(0), 2000, "open children per run", alias=W)


def _limit(name: str, default: int, about: str) -> Any:
    return variable(f"DW_V2_LIMIT_{name}", whole(0), default, about, alias=W)


@dataclass(frozen=True)
class EngineConfig:
    """What a run may do and how it is cared for (configuration-and-security 6.6)."""

    namespace: str | None = variable(
        "DW_V2_NAMESPACE",
        TEXT,
        None,
        "namespace of console commands",
        alias=W,
        treatment=Treatment.EQUIVALENT,
        not_yet="no console command needs it",
    )
    current_compatibility: str | None = variable(
        "DW_V2_CURRENT_COMPATIBILITY", TEXT, None, "build marker of runs started here", alias=W
    )
    compatibility_heartbeat_ttl_seconds: int = variable(
        "DW_V2_COMPATIBILITY_HEARTBEAT_TTL",
        whole(1),
        30,
        "how long after its last contact a worker is shown in cluster info, at least DW_WORKER_STALE_AFTER_SECONDS",
        alias=W,
    )
    continue_as_new_event_threshold: int = variable(
        "DW_V2_CONTINUE_AS_NEW_EVENT_THRESHOLD",
        whole(),
        10_000,
        "events after which continue-as-new is advised, <= 0 off",
        alias=W,
    )
    continue_as_new_size_bytes_threshold: int = variable(
        "DW_V2_CONTINUE_AS_NEW_SIZE_BYTES_THRESHOLD", whole(), 5_242_880, "the same by size, <= 0 off", alias=W
    )
    history_export_signing_key: str | None = variable(
        "DW_V2_HISTORY_EXPORT_SIGNING_KEY",
        SECRET,
        None,
        "HMAC key of history exports",
        alias=W,
    )
    history_export_signing_key_id: str | None = variable(
        "DW_V2_HISTORY_EXPORT_SIGNING_KEY_ID", TEXT, None, "name of that key", alias=W
    )
    update_wait_completion_timeout_seconds: int = variable(
        "DW_V2_UPDATE_WAIT_COMPLETION_TIMEOUT_SECONDS", whole(1), 10, "default wait of an update", alias=W
    )
    update_wait_poll_interval_ms: int = variable(
        "DW_V2_UPDATE_WAIT_POLL_INTERVAL_MS",
        whole(1),
        50,
        "re-check period of that wait",
        alias=W,
        treatment=Treatment.EQUIVALENT,
        not_yet="who waits for an update is woken",
    )
    limit_pending_activities: int = _limit("PENDING_ACTIVITIES", 2000, "open activities per run")
    limit_pending_children: int = _limit("PENDING_CHILDREN", 1000, "open children per run")
    limit_pending_timers: int = _limit("PENDING_TIMERS", 2000, "open timers per run")
    limit_pending_signals: int = _limit("PENDING_SIGNALS", 5000, "unapplied signals per run")
    limit_pending_updates: int = _limit("PENDING_UPDATES", 500, "open updates per run")
    limit_command_batch_size: int = _limit("COMMAND_BATCH_SIZE", 1000, "commands of one completion")
    limit_payload_size_bytes: int = _limit("PAYLOAD_SIZE_BYTES", 2_097_152, "one payload")
    limit_memo_size_bytes: int = _limit("MEMO_SIZE_BYTES", 262_144, "memo of a run")
    limit_search_attribute_size_bytes: int = _limit("SEARCH_ATTRIBUTE_SIZE_BYTES", 40_960, "all attributes of a run")
    limit_history_transaction_size: int = _limit("HISTORY_TRANSACTION_SIZE", 5000, "events of one transition")
    limit_warning_threshold_percent: int = variable(
        "DW_V2_LIMIT_WARNING_THRESHOLD_PERCENT", whole(0, 100), 80, "early warning, 0 = off", alias=W
    )
    matching_role_queue_wake: bool = variable(
        "DW_V2_MATCHING_ROLE_QUEUE_WAKE",
        BOOL,
        True,
        "whether nodes run the repair sweep",
        alias=W,
        treatment=Treatment.EQUIVALENT,
        not_yet="every node cares for the runs it hosts",
    )
    repair_redispatch_after_seconds: int = variable(
        "DW_V2_TASK_REPAIR_REDISPATCH_AFTER_SECONDS", whole(1), 3, "age of an undelivered task before repair", alias=W
    )
    repair_loop_throttle_seconds: int = variable(
        "DW_V2_TASK_REPAIR_LOOP_THROTTLE_SECONDS",
        whole(1),
        5,
        "least time between looks for what cluster info shows of repairs",
        alias=W,
    )
    repair_scan_limit: int = variable(
        "DW_V2_TASK_REPAIR_SCAN_LIMIT",
        whole(1),
        25,
        "tasks of one repair pass",
        alias=W,
    )
    repair_failure_backoff_max_seconds: int = variable(
        "DW_V2_TASK_REPAIR_FAILURE_BACKOFF_MAX_SECONDS", whole(1), 60, "ceiling of the repair backoff", alias=W
    )
    fleet_validation_mode: str = variable(
        "DW_V2_FLEET_VALIDATION_MODE",
        choice("warn", "fail"),
        "warn",
        "refuse starts no live worker supports",
        alias=W,
        not_yet="starts do not look at the workers",
    )
    scheduler_interval_seconds: int = variable(
        "DW_SCHEDULER_INTERVAL_SECONDS", whole(1), 10, "scheduler period", not_yet="schedules wake by themselves"
    )
