"""Who this server is, whom it trusts and where it listens. Contract: configuration-and-security 6.2, 6.3, 6.5, 6.7."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node.config.entry import (
    BOOL,
    PATH,
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
from node.version import VERSION

S, W = SERVER_ALIAS, WORKFLOW_ALIAS
PROJECT_ROOT = Path(__file__).resolve().parents[2]
HIDES = "hides the alias"
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


@dataclass(frozen=True)
class ServerConfig:
    """Identity and mode."""

    mode: str = variable(
        "DW_MODE",
        TEXT,
        "service",
        "tasks wait for external workers; nothing else is supported",
        alias=S,
        treatment=Treatment.RESTRICTED,
    )
    server_id: str = variable(
        "DW_SERVER_ID", TEXT, lambda read: read["host name"], "name of this node in cluster info", alias=W
    )
    node_id: str = variable(
        "DW_NODE_ID",
        TEXT,
        lambda read: read["DW_SERVER_ID"],
        "identity of this node in placement and on the bus, unique per process",
    )
    server_key: str | None = variable(
        "DW_SERVER_KEY",
        SECRET,
        None,
        "secret for opaque cursors, the same on all nodes",
        alias="APP_KEY",
        treatment=Treatment.EQUIVALENT,
        not_yet="page tokens hold positions only and are not signed",
    )
    default_namespace: str = variable(
        "DW_DEFAULT_NAMESPACE",
        matching(r"[a-zA-Z0-9._-]{1,128}", "namespace name", str.lower),
        "default",
        "namespace of a request that names none",
        alias=S,
    )
    external_executor_config_path: str | None = variable(
        "DW_EXTERNAL_EXECUTOR_CONFIG_PATH",
        PATH,
        None,
        "JSON configuration of external executors",
        alias=S,
        not_yet="there are no external executors",
    )
    external_executor_config_overlay: str | None = variable(
        "DW_EXTERNAL_EXECUTOR_CONFIG_OVERLAY",
        TEXT,
        None,
        "overlay of that file to apply",
        alias=S,
        not_yet="there are no external executors",
    )
    shards: int = variable("DW_SHARDS", whole(1, 1024), 64, "number of shards, fixed by the first bootstrap")
    clock_skew_seconds: int = variable(
        "DW_CLOCK_SKEW_SECONDS",
        whole(1),
        5,
        "the database's clock is always followed; a node whose own differs by more says so in readiness and log",
    )
    data_dir: str = variable("DW_DATA_DIR", PATH, ".dw-data", "directory of the embedded services' data")
    version: str = variable("APP_VERSION", TEXT, VERSION, "`version` in cluster info", treatment=Treatment.FRAMEWORK)
    log_level: str = variable(
        "LOG_LEVEL", choice(*LOG_LEVELS), "info", "least severity that is logged", treatment=Treatment.FRAMEWORK
    )
    log_format: str = variable(
        "DW_LOG_FORMAT",
        choice("text", "json"),
        "text",
        "lines as text, or each as a JSON object with fields",
    )
    multi_node: bool = variable(
        "DW_V2_MULTI_NODE", BOOL, False, "declares several nodes", alias=W, treatment=Treatment.EQUIVALENT
    )
    validate_cache_backend: bool = variable(
        "DW_V2_VALIDATE_CACHE_BACKEND",
        BOOL,
        True,
        "whether several nodes are checked for shared services",
        alias=W,
        treatment=Treatment.EQUIVALENT,
    )
    cache_validation_mode: str = variable(
        "DW_V2_CACHE_VALIDATION_MODE",
        choice("fail", "warn", "silent"),
        "warn",
        "consequence of a failed check of shared services",
        alias=W,
        treatment=Treatment.EQUIVALENT,
    )
    env_audit_strict: bool = variable(
        "DW_ENV_AUDIT_STRICT",
        BOOL,
        False,
        "do not start with names of the environment that are unknown, old, or have values of the wrong type",
    )
    shutdown_grace_seconds: int = variable("DW_SHUTDOWN_GRACE_SECONDS", whole(0), 30, "drain time after SIGTERM")
    names_node: bool = False
    """Whether the identity was configured; otherwise it is only the host name, which several nodes of a host would share."""


@dataclass(frozen=True)
class AuthConfig:
    """Whom requests are believed to come from (2, 5)."""

    provider: str | None = variable(
        "DW_AUTH_PROVIDER",
        TEXT,
        None,
        "import path `package.module:Class` of what decides in the place of the driver and its credentials",
        alias=S,
        treatment=Treatment.EQUIVALENT,
    )
    provider_timeout_seconds: int = variable(
        "DW_AUTH_PROVIDER_TIMEOUT_SECONDS", whole(1), 10, "how long a provider may take to answer, then 503"
    )
    provider_threads: int = variable(
        "DW_AUTH_PROVIDER_THREADS", whole(1, 256), 16, "methods of a provider without `async` that run at a time"
    )
    driver: str = variable("DW_AUTH_DRIVER", TEXT, "token", "`none`, `token` or `signature`", alias=S)
    token: str | None = variable("DW_AUTH_TOKEN", SECRET, None, "legacy single bearer token", alias=S, empty_means=HIDES)
    signature_key: str | None = variable("DW_SIGNATURE_KEY", SECRET, None, "legacy single HMAC key", alias=S, empty_means=HIDES)
    worker_token: str | None = variable("DW_WORKER_TOKEN", SECRET, None, "token of role worker", alias=S, empty_means=HIDES)
    operator_token: str | None = variable(
        "DW_OPERATOR_TOKEN", SECRET, None, "token of role operator", alias=S, empty_means=HIDES
    )
    admin_token: str | None = variable("DW_ADMIN_TOKEN", SECRET, None, "token of role admin", alias=S, empty_means=HIDES)
    worker_signature_key: str | None = variable(
        "DW_WORKER_SIGNATURE_KEY", SECRET, None, "HMAC key of role worker", alias=S, empty_means=HIDES
    )
    operator_signature_key: str | None = variable(
        "DW_OPERATOR_SIGNATURE_KEY", SECRET, None, "HMAC key of role operator", alias=S, empty_means=HIDES
    )
    admin_signature_key: str | None = variable(
        "DW_ADMIN_SIGNATURE_KEY", SECRET, None, "HMAC key of role admin", alias=S, empty_means=HIDES
    )
    backward_compatible: bool = variable(
        "DW_AUTH_BACKWARD_COMPATIBLE", BOOL, True, "whether the legacy credential is honoured", alias=S, empty_means="false"
    )
    trust_forwarded_attribution_headers: bool = variable(
        "DW_TRUST_FORWARDED_ATTRIBUTION_HEADERS", BOOL, False, "whether a proxy names the caller", alias=S
    )
    caller_type_header: str = variable(
        "DW_CALLER_TYPE_HEADER", TEXT, "X-Workflow-Caller-Type", "header of the caller's type, for schedules", alias=S
    )
    caller_label_header: str = variable(
        "DW_CALLER_LABEL_HEADER", TEXT, "X-Workflow-Caller-Label", "header of the caller's label", alias=S
    )
    auth_status_header: str = variable(
        "DW_AUTH_STATUS_HEADER", TEXT, "X-Workflow-Auth-Status", "header of the authentication status", alias=S
    )
    auth_method_header: str = variable(
        "DW_AUTH_METHOD_HEADER", TEXT, "X-Workflow-Auth-Method", "header of the authentication method", alias=S
    )

    @property
    def has_credential(self) -> bool:
        """Whether the driver in use has any credential set."""
        if self.driver == "token":
            return any((self.token, self.worker_token, self.operator_token, self.admin_token))
        keys = (self.signature_key, self.worker_signature_key, self.operator_signature_key, self.admin_signature_key)
        return any(keys)

    @property
    def names_credential(self) -> bool:
        """Whether any credential of any driver, or a provider, is set."""
        return any(
            (
                self.provider,
                self.token,
                self.worker_token,
                self.operator_token,
                self.admin_token,
                self.signature_key,
                self.worker_signature_key,
                self.operator_signature_key,
                self.admin_signature_key,
            )
        )


@dataclass(frozen=True)
class HttpConfig:
    """Where requests come in and how answers go out."""

    host: str = variable("DW_HTTP_HOST", TEXT, "0.0.0.0", "listen address")
    port: int = variable("DW_HTTP_PORT", whole(0, 65535), 8080, "listen port")
    workers: int = variable("DW_HTTP_WORKERS", whole(1), 1, "node processes on this port")
    max_target_bytes: int = variable("DW_HTTP_MAX_TARGET_BYTES", whole(1024), 8192, "longest request target, else 414")
    max_header_bytes: int = variable(
        "DW_HTTP_MAX_HEADER_BYTES",
        whole(1024),
        16384,
        "bytes of a request's header fields, and of the trailer fields and chunk extensions behind them, else 431",
    )
    max_connections: int = variable(
        "DW_HTTP_MAX_CONNECTIONS",
        whole(0),
        0,
        "open connections of a node; 0: as many as there are descriptors, less a reserve",
    )
    max_unread_bytes: int = variable(
        "DW_HTTP_MAX_UNREAD_BYTES",
        whole(65536),
        64 * 1024 * 1024,
        "memory of answers that clients do not read, above it those that wait longest are dropped",
    )
    head_seconds: int = variable("DW_HTTP_HEAD_SECONDS", whole(1), 30, "time for the head of a request, then 408")
    body_seconds: int = variable("DW_HTTP_BODY_SECONDS", whole(1), 120, "time for the body of a request, then 408")
    idle_seconds: int = variable(
        "DW_HTTP_IDLE_SECONDS", whole(1), 75, "time a connection may stay without a request; a poll that is held is one"
    )
    unread_seconds: int = variable(
        "DW_HTTP_UNREAD_SECONDS", whole(1), 30, "time without progress after which an answer that is not read is dropped"
    )
    linger_seconds: int = variable(
        "DW_HTTP_LINGER_SECONDS", whole(1), 10, "time in which the rest of a request that was refused is read and thrown away"
    )
    compression_enabled: bool = variable("DW_COMPRESSION_ENABLED", BOOL, True, "compress large JSON answers", alias=S)
    expose_package_provenance: bool = variable(
        "DW_EXPOSE_PACKAGE_PROVENANCE", BOOL, False, "show source, ref and commit to admins", alias=S
    )
    package_provenance_path: str = variable(
        "DW_PACKAGE_PROVENANCE_PATH",
        PATH,
        str(PROJECT_ROOT / ".package-provenance"),
        "file with source, ref and commit",
        alias=S,
        treatment=Treatment.EQUIVALENT,
    )


@dataclass(frozen=True)
class BootstrapConfig:
    """How often and how patiently bootstrap is tried (configuration-and-security 8.3)."""

    retries: int = variable("DW_BOOTSTRAP_RETRIES", whole(1), 30, "attempts", alias=S)
    delay_seconds: int = variable("DW_BOOTSTRAP_DELAY_SECONDS", whole(0), 2, "seconds between attempts", alias=S)
