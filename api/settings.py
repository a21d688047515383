"""What the HTTP surface needs to know from configuration. The composition root fills it; nothing here reads the environment.

Durations are seconds, sizes bytes. Nothing has a default here: those stand in `node/config`, with the variables (contract
configuration-and-security 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.queue.admission.caps import AdmissionRules
from actors.run.rules import Limits, Rules

ROLES = ("worker", "operator", "admin")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Credentials and rules of authentication (configuration-and-security 2). Empty text means "not configured"."""

    driver: str
    tokens: dict[str, str] = field(repr=False)  # role -> token
    legacy_token: str = field(repr=False)
    signature_keys: dict[str, str] = field(repr=False)  # role -> key
    legacy_signature_key: str = field(repr=False)
    backward_compatible: bool
    provider: str | None  # import path of what decides instead of the driver
    provider_seconds: int  # how long it may take for one answer
    provider_threads: int  # how many of its plain methods run at a time


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """Which headers of a trusted proxy name the caller. Lower-case bytes, empty: that field is never taken from a header."""

    trusted: bool
    type_header: bytes
    label_header: bytes
    status_header: bytes
    method_header: bytes


@dataclass(frozen=True, slots=True)
class RepairPolicy:
    """The task repair policy shown in cluster info (control-plane 12.3)."""

    redispatch_after_seconds: int
    loop_throttle_seconds: int
    scan_limit: int
    scan_strategy: str
    failure_backoff_max_seconds: int
    failure_backoff_strategy: str


@dataclass(frozen=True, slots=True)
class StorageRules:
    """Where payloads outside the database may lie (operations 8). `root`: the folder of the driver `local`, None for none;
    `profiles`: credentials of object stores by name, as obstore names them.
    """

    root: str | None
    profiles: Mapping[str, Mapping[str, str]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the API reads from configuration. `rules` are those of the runs; `limits` are theirs."""

    server_id: str
    version: str
    default_namespace: str
    auth: AuthSettings
    attribution: AttributionSettings
    rules: Rules
    admission: AdmissionRules  # the caps of task queues
    query_tasks_per_queue: int  # how many may wait
    repair_policy: RepairPolicy
    worker_protocol_version: str
    poll_timeout_seconds: int
    worker_stale_after_seconds: int
    worker_fleet_seconds: int  # how long after its last contact a worker is shown in cluster info
    update_wait_seconds: int  # how long an update with `wait_for: completed` is waited for
    history_page_size_default: int
    history_page_size_max: int
    history_retention_days: int
    storage: StorageRules
    export_key: str | None = field(repr=False)  # of the signature of exports
    export_key_id: str | None
    metrics_failure_type_limit: int  # workflow types shown as failing
    metrics_open_run_limit: int  # open runs looked at for the metrics of a namespace
    current_compatibility: str | None
    compression_enabled: bool
    package_provenance: dict[str, str] | None  # shown to admins when set (control-plane 3.3)
    cache_store: str  # name of the coordination store in /api/ready

    @property
    def limits(self) -> Limits:
        """What requests and runs may be, the same that the runs are told."""
        return self.rules.limits

    @property
    def heartbeat_interval_seconds(self) -> int:
        """The cadence answered to workers (worker-protocol 3.5)."""
        return min(60, max(1, self.worker_stale_after_seconds // 3))
