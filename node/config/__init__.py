"""The configuration of one process: frozen dataclasses read once from the environment.

Contract: configuration-and-security 6. Each field that is a variable carries its table row (`entry.Entry`).
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from node.config.entry import ConfigError, Entry, Reader, entries_of, read_group
from node.config.ignored import IGNORED, without_effect
from node.config.server import AuthConfig, BootstrapConfig, HttpConfig, ServerConfig
from node.config.services import DatabaseConfig, DatabaseParts, NatsConfig, StorageConfig, read_database
from node.config.work import MAX_POLL_TIMEOUT_SECONDS, AdmissionConfig, EngineConfig, LimitsConfig, PollingConfig

GROUPS = (
    ServerConfig,
    AuthConfig,
    HttpConfig,
    BootstrapConfig,
    PollingConfig,
    AdmissionConfig,
    LimitsConfig,
    EngineConfig,
    DatabaseParts,
    DatabaseConfig,
    StorageConfig,
    NatsConfig,
)


@dataclass(frozen=True)
class Config:
    """Everything a process is told from outside.

    `invalid` maps a variable to the type its value should have had (its default is used); `notes` are for the operator;
    `idle` maps each variable that is given, under the name it was given by, and makes no difference to the reason why.
    """

    server: ServerConfig
    auth: AuthConfig = dataclasses.field(repr=False)
    http: HttpConfig
    bootstrap: BootstrapConfig
    polling: PollingConfig
    admission: AdmissionConfig
    limits: LimitsConfig
    engine: EngineConfig = dataclasses.field(repr=False)
    database: DatabaseConfig
    storage: StorageConfig = dataclasses.field(repr=False)
    nats: NatsConfig = dataclasses.field(repr=False)
    invalid: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    idle: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, environment: Mapping[str, str], host_name: str | None = None) -> Config:
        """Read an environment by 6.1. `host_name` is the default server id. Raises `ConfigError` on a boot error."""
        reader = Reader(environment)
        reader.values["host name"] = host_name or socket.gethostname()
        notes: list[str] = []
        server = read_group(ServerConfig, reader)
        server = dataclasses.replace(server, names_node=not reader.given.isdisjoint(("DW_NODE_ID", "DW_SERVER_ID")))
        if server.mode != "service":
            raise ConfigError("DW_MODE: only `service` is supported")
        polling = read_group(PollingConfig, reader)
        if polling.history_page_size_default > polling.history_page_size_max:
            polling = dataclasses.replace(polling, history_page_size_default=polling.history_page_size_max)
        asked = reader.text("DW_WORKER_POLL_TIMEOUT") or reader.text("WORKFLOW_SERVER_WORKER_POLL_TIMEOUT") or ""
        if asked.isdigit() and int(asked) > MAX_POLL_TIMEOUT_SECONDS:
            notes.append(f"DW_WORKER_POLL_TIMEOUT: polls are held {MAX_POLL_TIMEOUT_SECONDS} seconds at most")
        config = cls(
            server=server,
            auth=read_group(AuthConfig, reader),
            http=read_group(HttpConfig, reader),
            bootstrap=read_group(BootstrapConfig, reader),
            polling=polling,
            admission=read_group(AdmissionConfig, reader),
            limits=read_group(LimitsConfig, reader),
            engine=read_group(EngineConfig, reader),
            database=read_database(reader, server.data_dir, notes),
            storage=read_group(StorageConfig, reader),
            nats=read_group(NatsConfig, reader),
        )
        config.nats.check()
        config._check_shared_services(notes)
        idle = without_effect(reader, table())
        return dataclasses.replace(config, invalid=dict(reader.invalid), notes=tuple(notes), idle=idle)

    def boot_lines(self) -> list[str]:
        """What an operator is told at start: a line for each value that is not understood, and each that makes no difference.

        No values, only names; one line per variable.
        """
        wrong = {name: expected for name, expected in self.invalid.items() if name not in self.idle}
        return [
            *[f"warning: {name} is not a valid {expected}, the default is used" for name, expected in wrong.items()],
            *[f"note: {note}" for note in self.notes],
            *[f"note: {name} has no effect: {why}" for name, why in self.idle.items()],
        ]

    def _check_shared_services(self, notes: list[str]) -> None:
        server = self.server
        if not server.multi_node or not server.validate_cache_backend or server.cache_validation_mode == "silent":
            return
        missing = [
            name for name, absent in (("DW_DATABASE_URL", self.database.embedded), ("DW_NATS_URL", not self.nats.url)) if absent
        ]
        if not missing:
            return
        text = f"DW_V2_MULTI_NODE: several nodes need an external Postgres and NATS; not set: {', '.join(missing)}"
        if server.cache_validation_mode == "fail":
            raise ConfigError(text)
        notes.append(text)

    def changed(
        self, *, host: str | None = None, port: int | None = None, node_id: str | None = None, server_id: str | None = None
    ) -> Config:
        """A copy with what the command line says; None leaves a value as it is."""
        http = dataclasses.replace(
            self.http, host=self.http.host if host is None else host, port=self.http.port if port is None else port
        )
        server = dataclasses.replace(
            self.server, node_id=node_id or self.server.node_id, server_id=server_id or self.server.server_id
        )
        return dataclasses.replace(self, http=http, server=server)


def table() -> list[Entry]:
    """All rows of the table of variables, those without effect too."""
    return [entry for group in GROUPS for _, entry in entries_of(group)] + list(IGNORED)


__all__ = [
    "AdmissionConfig",
    "AuthConfig",
    "BootstrapConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "EngineConfig",
    "HttpConfig",
    "LimitsConfig",
    "NatsConfig",
    "PollingConfig",
    "ServerConfig",
    "StorageConfig",
    "table",
]
