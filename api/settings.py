"""What the HTTP surface needs to know from configuration. The composition root fills it; nothing here reads the environment.

Durations are seconds, sizes bytes. Defaults and meaning: contract configuration-and-security 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.run.rules import DEFAULT_RULES, Rules

ROLES = ("worker", "operator", "admin")


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Credentials and rules of authentication (configuration-and-security 2). Empty text means "not configured"."""

    driver: str = "token"
    tokens: dict[str, str] = field(default_factory=dict, repr=False)  # role -> token
    legacy_token: str = field(default="", repr=False)
    signature_keys: dict[str, str] = field(default_factory=dict, repr=False)  # role -> key
    legacy_signature_key: str = field(default="", repr=False)
    backward_compatible: bool = True


@dataclass(frozen=True, slots=True)
class AttributionSettings:
    """Which headers of a trusted proxy name the caller. Lower-case bytes, empty: that field is never taken from a header."""

    trusted: bool = False
    label_header: bytes = b"x-workflow-caller-label"
    status_header: bytes = b"x-workflow-auth-status"
    method_header: bytes = b"x-workflow-auth-method"


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits enforced at the HTTP edge and shown in cluster info (control-plane 3.3 `limits`)."""

    max_payload_bytes: int = 2_097_152
    max_memo_bytes: int = 262_144
    max_search_attributes: int = 100
    max_search_attribute_key_length: int = 128
    max_search_attribute_value_bytes: int = 2048
    max_operation_name_length: int = 256
    max_pending_activities: int = 2000
    max_pending_children: int = 2000


@dataclass(frozen=True, slots=True)
class StructuralLimits:
    """Engine limits, shown in cluster info only (control-plane 3.3 `structural_limits`, engine-semantics 11.1)."""

    pending_activity_count: int = 2000
    pending_child_count: int = 1000
    pending_timer_count: int = 2000
    pending_signal_count: int = 5000
    pending_update_count: int = 500
    command_batch_size: int = 1000
    payload_size_bytes: int = 2_097_152
    memo_size_bytes: int = 262_144
    search_attribute_size_bytes: int = 40_960
    history_transaction_size: int = 5000
    warning_threshold_percent: int = 80


@dataclass(frozen=True, slots=True)
class RepairPolicy:
    """The task repair policy shown in cluster info (control-plane 12.3)."""

    redispatch_after_seconds: int = 3
    loop_throttle_seconds: int = 5
    scan_limit: int = 25
    scan_strategy: str = "scope_fair_round_robin"
    failure_backoff_max_seconds: int = 60
    failure_backoff_strategy: str = "exponential_by_repair_count"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the API reads from configuration. `rules` are those of the runs, for what a run's state is measured with."""

    server_id: str = "durable-workflow"
    version: str = "2.0.0"
    default_namespace: str = "default"
    auth: AuthSettings = field(default_factory=AuthSettings)
    attribution: AttributionSettings = field(default_factory=AttributionSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    structural_limits: StructuralLimits = field(default_factory=StructuralLimits)
    repair_policy: RepairPolicy = field(default_factory=RepairPolicy)
    rules: Rules = DEFAULT_RULES
    worker_protocol_version: str = "1.1"
    poll_timeout_seconds: int = 30
    worker_stale_after_seconds: int = 60
    update_wait_seconds: int = 10  # how long an update with `wait_for: completed` is waited for
    history_page_size_default: int = 500
    history_page_size_max: int = 1000
    history_retention_days: int = 30
    current_compatibility: str | None = None
    compression_enabled: bool = True
    package_provenance: dict[str, str] | None = None  # shown to admins when set (control-plane 3.3)
    cache_store: str = "nats"  # name of the coordination store in /api/ready

    @property
    def heartbeat_interval_seconds(self) -> int:
        """The cadence answered to workers (worker-protocol 3.5)."""
        return min(60, max(1, self.worker_stale_after_seconds // 3))
