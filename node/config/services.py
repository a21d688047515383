"""Where Postgres and NATS are. Contract: configuration-and-security 6.7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from node.config.entry import (
    BOOL,
    PATH,
    SECRET,
    SECRET_OBJECTS,
    TEXT,
    ConfigError,
    Kind,
    Reader,
    Treatment,
    Unreadable,
    read_group,
    variable,
    whole,
)
from node.config.urls import checked_url

POSTGRES_WORDS = ("pgsql", "postgres", "postgresql")
EMBEDDED_WORDS = ("sqlite", "embedded")
NATS_WORDS = ("nats", "tls", "ws", "wss")


def _read_replicas(text: str) -> int:
    if text not in ("1", "3", "5"):
        raise Unreadable("1, 3 or 5")
    return int(text)


@dataclass(frozen=True)
class DatabaseConfig:
    """An external Postgres (`dsn`), or the embedded one (`dsn` None) with its data in `embedded_data_dir`."""

    dsn: str | None = field(repr=False)
    embedded_data_dir: str
    pool_size: int = variable(
        "DW_DB_POOL_SIZE",
        whole(1),
        10,
        "connections per process for single reads and small writes; a process opens these, DW_DB_SEARCH_POOL_SIZE and 8 more"
        " (2 for its lease, 2 for health, 2 for upkeep, 2 for commits), 22 by default",
    )
    search_pool_size: int = variable(
        "DW_DB_SEARCH_POOL_SIZE", whole(1), 4, "connections per process that read lists: so many run at a time"
    )
    search_queue: int = variable("DW_DB_SEARCH_QUEUE", whole(0), 16, "lists that may wait for those, more are answered 503")
    search_timeout_seconds: int = variable(
        "DW_DB_SEARCH_TIMEOUT_SECONDS", whole(1), 5, "how long a list may wait, and then run, before it is answered 503"
    )

    @property
    def embedded(self) -> bool:
        """Whether no external Postgres is configured."""
        return self.dsn is None


@dataclass(frozen=True)
class DatabaseParts:
    """The variables a database address is put together from."""

    url: str | None = variable("DW_DATABASE_URL", SECRET, None, "connection string of Postgres", alias="DB_URL")
    connection: str | None = variable("DB_CONNECTION", TEXT, None, "kind of database", treatment=Treatment.FRAMEWORK)
    host: str | None = variable("DB_HOST", TEXT, None, "host", treatment=Treatment.FRAMEWORK)
    port: int = variable("DB_PORT", whole(1, 65535), 5432, "port", treatment=Treatment.FRAMEWORK)
    database: str | None = variable("DB_DATABASE", TEXT, None, "database name, embedded: a path", treatment=Treatment.FRAMEWORK)
    username: str = variable("DB_USERNAME", TEXT, "workflow", "user", treatment=Treatment.FRAMEWORK)
    password: str | None = variable("DB_PASSWORD", SECRET, None, "password", treatment=Treatment.FRAMEWORK)


@dataclass(frozen=True)
class StorageConfig:
    """Payloads outside the database (operations 8). A namespace's policy names a profile by `config.disk`."""

    root: str | None = variable(
        "DW_EXTERNAL_STORAGE_ROOT",
        PATH,
        None,
        "folder of the driver local where a policy names none; unset: beside the data of the embedded Postgres, else none",
    )
    profiles: Mapping[str, Mapping[str, str]] = variable(
        "DW_EXTERNAL_STORAGE_PROFILES",
        SECRET_OBJECTS,
        lambda read: {},
        "credentials of object stores by profile: a JSON object of objects (access_key_id, secret_access_key, endpoint ...)",
    )
    aws_access_key_id: str | None = variable(
        "AWS_ACCESS_KEY_ID", SECRET, None, "of the profile s3, unless that is given", treatment=Treatment.FRAMEWORK
    )
    aws_secret_access_key: str | None = variable(
        "AWS_SECRET_ACCESS_KEY", SECRET, None, "of the profile s3", treatment=Treatment.FRAMEWORK
    )
    aws_region: str | None = variable("AWS_DEFAULT_REGION", TEXT, None, "of the profile s3", treatment=Treatment.FRAMEWORK)
    aws_endpoint: str | None = variable("AWS_ENDPOINT", TEXT, None, "of the profile s3", treatment=Treatment.FRAMEWORK)
    aws_path_style: bool = variable(
        "AWS_USE_PATH_STYLE_ENDPOINT", BOOL, True, "whether the bucket stands in the path", treatment=Treatment.FRAMEWORK
    )

    def all_profiles(self) -> Mapping[str, Mapping[str, str]]:
        """The profiles with the one that the AWS variables make."""
        if not self.aws_access_key_id or not self.aws_secret_access_key:
            return self.profiles
        options = {
            "access_key_id": self.aws_access_key_id,
            "secret_access_key": self.aws_secret_access_key,
            "region": self.aws_region or "us-east-1",
            "virtual_hosted_style_request": "false" if self.aws_path_style else "true",
        }
        if self.aws_endpoint:
            options["endpoint"] = self.aws_endpoint
        return {"s3": options, **self.profiles}


@dataclass(frozen=True)
class NatsConfig:
    """NATS servers and the prefix that separates deployments sharing them. `url` None = embedded or the local default."""

    url: str | None = variable("DW_NATS_URL", SECRET, None, "comma-separated server URLs")
    username: str | None = variable("DW_NATS_USERNAME", TEXT, None, "user")
    password: str | None = variable("DW_NATS_PASSWORD", SECRET, None, "password")
    token: str | None = variable("DW_NATS_TOKEN", SECRET, None, "token")
    creds_file: str | None = variable("DW_NATS_CREDS_FILE", TEXT, None, "credentials file")
    ca_file: str | None = variable("DW_NATS_CA_FILE", TEXT, None, "TLS certificate authority")
    prefix: str = variable("DW_NATS_PREFIX", TEXT, "dw", "prefix of subjects and streams")
    replicas: int = variable("DW_NATS_REPLICAS", Kind("int", _read_replicas), 1, "JetStream replicas, 1, 3 or 5")
    republish_seconds: int = variable(
        "DW_EVENTS_REPUBLISH_SECONDS",
        whole(0),
        3600,
        "how long before a loss of the event stream events are published again, 0 = none",
    )
    embedded: bool = False
    """Whether it is a private one of `dw-server dev`."""

    @property
    def servers(self) -> list[str]:
        """Server URLs, the local default when none is configured."""
        named = [part.strip() for part in (self.url or "nats://127.0.0.1:4222").split(",") if part.strip()]
        return [part if "://" in part else f"nats://{part}" for part in named]

    def check(self) -> None:
        """Raise `ConfigError` for a URL that can not be read."""
        for server in self.servers:
            parts = checked_url("DW_NATS_URL", server, NATS_WORDS, "nats://user:password@host:port, several with commas")
            if parts.path not in ("", "/") or parts.query:
                raise ConfigError("DW_NATS_URL: expected nats://user:password@host:port, and nothing behind it")


def read_database(reader: Reader, data_dir: str, notes: list[str]) -> DatabaseConfig:
    """The database by the rules of `DB_CONNECTION`. Raises `ConfigError` for a kind that is not supported."""
    parts = read_group(DatabaseParts, reader)
    kind = parts.connection.strip().lower() if parts.connection else None
    given: dict[str, Any] = {"dsn": None, "embedded_data_dir": data_dir}
    if kind is not None and kind not in POSTGRES_WORDS and kind not in EMBEDDED_WORDS:
        raise ConfigError("DB_CONNECTION: only pgsql (an external Postgres) and embedded are supported")
    if kind in EMBEDDED_WORDS or (kind is None and not parts.url and not parts.host):
        if parts.url and reader.text("DW_DATABASE_URL"):
            raise ConfigError(f"DB_CONNECTION={kind} contradicts DW_DATABASE_URL: unset one of them")
        if kind == "sqlite":
            notes.append("DB_CONNECTION: sqlite is replaced by the embedded Postgres")
        if parts.database and "/" in parts.database:
            path = PurePath(parts.database)
            given["embedded_data_dir"] = str(path.parent if path.suffix else path)
    else:
        given["dsn"] = _checked("DW_DATABASE_URL", parts.url) if parts.url else _checked("DB_HOST", _joined(parts))
    return read_group(DatabaseConfig, reader, **given)


def _checked(name: str, url: str) -> str:
    checked_url(name, url, POSTGRES_WORDS, "postgresql://user:password@host:port/database")
    return "postgresql" + url[url.index("://") :]


def _joined(parts: DatabaseParts) -> str:
    user = quote(parts.username, safe="")
    if parts.password:
        user += ":" + quote(parts.password, safe="")
    host = parts.host or "127.0.0.1"
    database = quote(parts.database or "durable_workflow", safe="")
    if host.startswith("/"):
        return f"postgresql://{user}@/{database}?host={quote(host, safe='/')}&port={parts.port}"
    return f"postgresql://{user}@{f'[{host}]' if ':' in host else host}:{parts.port}/{database}"
