"""What each part of a node is told, out of the configuration of the process."""

from __future__ import annotations

from pathlib import Path

from actors.queue.admission.caps import AdmissionRules, KindCaps
from actors.queue.query_broker import QueryRules
from actors.run.rules import Limits, RequestLimits, Rules, StructuralLimits
from api.settings import AttributionSettings, AuthSettings, RepairPolicy, Settings, StorageRules
from bus.connection import BusOptions
from node.config import Config
from node.config.urls import without_login
from node.http.limits import EdgeLimits


def edge_limits(config: Config) -> EdgeLimits:
    """What the HTTP server is told."""
    http = config.http
    return EdgeLimits(
        target_bytes=http.max_target_bytes,
        header_bytes=http.max_header_bytes,
        body_bytes=config.limits.payload_bytes,
        connections=http.max_connections,
        unread_bytes=http.max_unread_bytes,
        head_seconds=http.head_seconds,
        body_seconds=http.body_seconds,
        idle_seconds=http.idle_seconds,
        unread_seconds=http.unread_seconds,
        linger_seconds=http.linger_seconds,
    )


def api_settings(config: Config) -> Settings:
    """What the HTTP surface is told."""
    polling, engine = config.polling, config.engine
    return Settings(
        server_id=config.server.server_id,
        version=config.server.version,
        default_namespace=config.server.default_namespace,
        auth=_auth(config),
        attribution=_attribution(config),
        rules=engine_rules(config, 0),
        admission=admission_rules(config),
        query_tasks_per_queue=polling.query_task_max_pending_per_queue,
        repair_policy=RepairPolicy(
            redispatch_after_seconds=engine.repair_redispatch_after_seconds,
            loop_throttle_seconds=engine.repair_loop_throttle_seconds,
            scan_limit=engine.repair_scan_limit,
            scan_strategy="scope_fair_round_robin",
            failure_backoff_max_seconds=engine.repair_failure_backoff_max_seconds,
            failure_backoff_strategy="exponential_by_repair_count",
        ),
        worker_protocol_version=polling.worker_protocol_version,
        poll_timeout_seconds=polling.poll_timeout_seconds,
        worker_stale_after_seconds=polling.worker_stale_after_seconds,
        worker_fleet_seconds=max(engine.compatibility_heartbeat_ttl_seconds, polling.worker_stale_after_seconds),
        history_page_size_default=polling.history_page_size_default,
        history_page_size_max=polling.history_page_size_max,
        history_retention_days=config.limits.history_retention_days,
        storage=_storage(config),
        export_key=(engine.history_export_signing_key or "").strip() or None,
        export_key_id=(engine.history_export_signing_key_id or "").strip() or None,
        metrics_failure_type_limit=config.polling.metrics_workflow_task_failure_type_limit,
        metrics_open_run_limit=config.polling.metrics_open_run_limit,
        current_compatibility=engine.current_compatibility,
        compression_enabled=config.http.compression_enabled,
        package_provenance=provenance(config) if config.http.expose_package_provenance else None,
        cache_store="embedded" if config.nats.embedded else "nats",
        update_wait_seconds=engine.update_wait_completion_timeout_seconds,
    )


def _storage(config: Config) -> StorageRules:
    database, storage = config.database, config.storage
    beside = f"{database.embedded_data_dir}/payloads" if database.embedded else None
    return StorageRules(root=storage.root or beside, profiles=storage.all_profiles())


def _auth(config: Config) -> AuthSettings:
    auth = config.auth
    return AuthSettings(
        driver=auth.driver,
        tokens=_given(worker=auth.worker_token, operator=auth.operator_token, admin=auth.admin_token),
        legacy_token=auth.token or "",
        signature_keys=_given(
            worker=auth.worker_signature_key, operator=auth.operator_signature_key, admin=auth.admin_signature_key
        ),
        legacy_signature_key=auth.signature_key or "",
        backward_compatible=auth.backward_compatible,
        provider=auth.provider,
        provider_seconds=auth.provider_timeout_seconds,
        provider_threads=auth.provider_threads,
    )


def _attribution(config: Config) -> AttributionSettings:
    auth = config.auth
    return AttributionSettings(
        trusted=auth.trust_forwarded_attribution_headers,
        type_header=auth.caller_type_header.strip().lower().encode("latin-1", "replace"),
        label_header=auth.caller_label_header.strip().lower().encode("latin-1", "replace"),
        status_header=auth.auth_status_header.strip().lower().encode("latin-1", "replace"),
        method_header=auth.auth_method_header.strip().lower().encode("latin-1", "replace"),
    )


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def provenance(config: Config) -> dict[str, str] | None:
    """Source, ref and commit (configuration-and-security 6.5).

    The first three non-empty lines of the provenance file, None when it has fewer.
    """
    try:
        text = Path(config.http.package_provenance_path).read_text("utf-8", "replace")
    except OSError:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return dict(zip(("source", "ref", "commit"), lines, strict=False)) if len(lines) >= 3 else None


def limits(config: Config) -> Limits:
    """What requests and runs may be."""
    sizes, engine = config.limits, config.engine
    return Limits(
        request=RequestLimits(
            max_payload_bytes=sizes.payload_bytes,
            max_memo_bytes=sizes.memo_bytes,
            max_search_attributes=sizes.search_attributes,
            max_search_attribute_key_length=sizes.search_attribute_key_length,
            max_search_attribute_value_bytes=sizes.search_attribute_value_bytes,
            max_operation_name_length=sizes.operation_name_length,
            max_pending_activities=sizes.pending_activities,
            max_pending_children=sizes.pending_children,
        ),
        structural=StructuralLimits(
            pending_activity_count=engine.limit_pending_activities,
            pending_child_count=engine.limit_pending_children,
            pending_timer_count=engine.limit_pending_timers,
            pending_signal_count=engine.limit_pending_signals,
            pending_update_count=engine.limit_pending_updates,
            command_batch_size=engine.limit_command_batch_size,
            payload_size_bytes=engine.limit_payload_size_bytes,
            memo_size_bytes=engine.limit_memo_size_bytes,
            search_attribute_size_bytes=engine.limit_search_attribute_size_bytes,
            history_transaction_size=engine.limit_history_transaction_size,
            warning_threshold_percent=engine.limit_warning_threshold_percent,
        ),
        history_events=sizes.history_events,
    )


def engine_rules(config: Config, shards: int) -> Rules:
    """What the runs are told."""
    engine, polling = config.engine, config.polling
    return Rules(
        limits=limits(config),
        workflow_task_lease=polling.workflow_task_timeout_seconds,
        activity_task_lease=polling.activity_task_timeout_seconds,
        task_retry_base=engine.repair_redispatch_after_seconds,
        task_retry_max=engine.repair_failure_backoff_max_seconds,
        budget_events=max(0, engine.continue_as_new_event_threshold),
        budget_bytes=max(0, engine.continue_as_new_size_bytes_threshold),
        shards=shards,
    )


def admission_rules(config: Config) -> AdmissionRules:
    """The caps of task queues."""
    admission = config.admission
    return AdmissionRules(
        workflow=KindCaps(
            queue_leases=admission.workflow_leases_per_queue,
            namespace_leases=admission.workflow_leases_per_namespace,
            queue_dispatches=admission.workflow_dispatches_per_minute,
            namespace_dispatches=admission.workflow_dispatches_per_minute_per_namespace,
        ),
        activity=KindCaps(
            queue_leases=admission.activity_leases_per_queue,
            namespace_leases=admission.activity_leases_per_namespace,
            queue_dispatches=admission.activity_dispatches_per_minute,
            namespace_dispatches=admission.activity_dispatches_per_minute_per_namespace,
        ),
        overrides=admission.overrides,
    )


def query_rules(config: Config) -> QueryRules:
    """What the queries are told."""
    polling = config.polling
    return QueryRules(
        timeout=float(polling.query_task_timeout_seconds),
        lease=polling.query_task_lease_timeout_seconds,
        max_pending=polling.query_task_max_pending_per_queue,
    )


def bus_options(config: Config) -> BusOptions:
    """Where NATS is and how to log in."""
    nats = config.nats
    username, password, token = nats.username, nats.password, nats.token
    servers, user, secret = without_login(nats.servers)
    if (username, token, nats.creds_file) == (None, None, None) and user is not None:
        username, password, token = (None, None, user) if secret is None else (user, secret, None)
    return BusOptions(
        servers=servers,
        prefix=nats.prefix,
        replicas=nats.replicas,
        username=username,
        password=password,
        token=token,
        creds_file=nats.creds_file,
        ca_file=nats.ca_file,
    )
