"""The table of variables and the rules by which it is read (configuration-and-security 6)."""

from __future__ import annotations

import dataclasses
import re
import traceback
from typing import Any

import pytest

from node.config import GROUPS, Config, ConfigError, table
from node.config.entry import SECRET, Entry, Treatment, entries_of
from node.config.server import PROJECT_ROOT
from node.settings import api_settings, bus_options, limits


def read(**environment: str) -> Config:
    return Config.read(environment, host_name="host-1")


def field(config: Config, path: str) -> Any:
    """What the configuration says, or, for "effective.x", the limits made of it."""
    value: Any = limits(config) if path.startswith("effective.") else config
    for name in path.removeprefix("effective.").split("."):
        value = getattr(value, name)
    return value


DEFAULTS = [
    ("server.mode", "service"),
    ("server.server_id", "host-1"),
    ("server.node_id", "host-1"),
    ("server.default_namespace", "default"),
    ("server.shards", 64),
    ("server.server_key", None),
    ("auth.driver", "token"),
    ("auth.token", None),
    ("auth.backward_compatible", True),
    ("auth.caller_type_header", "X-Workflow-Caller-Type"),
    ("polling.poll_timeout_seconds", 30),
    ("polling.poll_interval_ms", 1000),
    ("polling.wake_signal_ttl_seconds", 60),
    ("polling.worker_protocol_version", "1.1"),
    ("polling.history_page_size_default", 500),
    ("polling.history_page_size_max", 1000),
    ("polling.query_task_timeout_seconds", 30),
    ("polling.query_task_lease_timeout_seconds", 60),
    ("polling.query_task_max_pending_per_queue", 1024),
    ("polling.workflow_task_timeout_seconds", 60),
    ("polling.activity_task_timeout_seconds", 300),
    ("polling.worker_stale_after_seconds", 60),
    ("polling.heartbeat_interval_seconds", 20),
    ("admission.workflow_leases_per_queue", None),
    ("admission.overrides", {}),
    ("limits.payload_bytes", 2_097_152),
    ("limits.history_events", 50_000),
    ("limits.history_retention_days", 30),
    ("engine.limit_pending_children", 1000),
    ("engine.continue_as_new_event_threshold", 10_000),
    ("http.host", "0.0.0.0"),
    ("http.port", 8080),
    ("http.compression_enabled", True),
    ("bootstrap.retries", 30),
    ("bootstrap.delay_seconds", 2),
    ("database.dsn", None),
    ("database.pool_size", 10),
    ("nats.prefix", "dw"),
    ("nats.replicas", 1),
    ("nats.servers", ["nats://127.0.0.1:4222"]),
    ("effective.pending_children", 1000),
    ("effective.pending_activities", 2000),
    ("effective.memo_bytes", 262_144),
]


@pytest.mark.parametrize(("path", "expected"), DEFAULTS)
def test_defaults(path: str, expected: Any) -> None:
    assert field(read(), path) == expected


VALUES = [
    # derived defaults follow what they are derived from
    ({"DW_WORKER_POLL_TIMEOUT": "45"}, "polling.query_task_timeout_seconds", 45),
    ({"DW_WORKER_POLL_TIMEOUT": "60"}, "polling.wake_signal_ttl_seconds", 65),
    ({"DW_WORKER_POLL_TIMEOUT": "60"}, "polling.worker_stale_after_seconds", 120),
    ({"DW_WORKFLOW_TASK_TIMEOUT": "7"}, "polling.query_task_lease_timeout_seconds", 7),
    ({"DW_SERVER_ID": "a"}, "server.node_id", "a"),
    ({"DW_SERVER_ID": "a", "DW_NODE_ID": "b"}, "server.node_id", "b"),
    # aliases: S, W and whole names; never against a set DW_ name
    ({"WORKFLOW_SERVER_AUTH_TOKEN": "old"}, "auth.token", "old"),
    ({"WORKFLOW_SERVER_AUTH_TOKEN": "old", "DW_AUTH_TOKEN": "new"}, "auth.token", "new"),
    ({"WORKFLOW_SERVER_ID": "legacy"}, "server.server_id", "legacy"),
    ({"WORKFLOW_MAX_PAYLOAD_BYTES": "10"}, "limits.payload_bytes", 10),
    ({"WORKFLOW_V2_LIMIT_PENDING_TIMERS": "3"}, "engine.limit_pending_timers", 3),
    ({"WORKFLOW_TASK_TIMEOUT": "9"}, "polling.workflow_task_timeout_seconds", 9),
    ({"ACTIVITY_TASK_TIMEOUT": "8"}, "polling.activity_task_timeout_seconds", 8),
    ({"APP_KEY": "base64:abc"}, "server.server_key", "base64:abc"),
    # unset words, quotes, empty text
    ({"DW_SERVER_ID": "null"}, "server.server_id", "host-1"),
    ({"DW_SERVER_ID": "(EMPTY)"}, "server.server_id", "host-1"),
    ({"DW_SERVER_ID": ""}, "server.server_id", "host-1"),
    ({"DW_SERVER_ID": '"quoted"'}, "server.server_id", "quoted"),
    ({"DW_SERVER_ID": "''", "WORKFLOW_SERVER_ID": "alias"}, "server.server_id", "alias"),
    # an empty credential hides its alias, null does not; an empty compatibility flag is false
    ({"DW_AUTH_TOKEN": "", "WORKFLOW_SERVER_AUTH_TOKEN": "old"}, "auth.token", None),
    ({"DW_AUTH_TOKEN": "null", "WORKFLOW_SERVER_AUTH_TOKEN": "old"}, "auth.token", "old"),
    ({"DW_ADMIN_SIGNATURE_KEY": "", "WORKFLOW_SERVER_ADMIN_SIGNATURE_KEY": "k"}, "auth.admin_signature_key", None),
    ({"DW_AUTH_BACKWARD_COMPATIBLE": ""}, "auth.backward_compatible", False),
    ({"DW_AUTH_BACKWARD_COMPATIBLE": "null"}, "auth.backward_compatible", True),
    ({"DW_AUTH_BACKWARD_COMPATIBLE": "OFF"}, "auth.backward_compatible", False),
    # bools
    ({"DW_COMPRESSION_ENABLED": "No"}, "http.compression_enabled", False),
    ({"DW_COMPRESSION_ENABLED": "(false)"}, "http.compression_enabled", False),
    ({"DW_COMPRESSION_ENABLED": "perhaps"}, "http.compression_enabled", True),
    ({"DW_TRUST_FORWARDED_ATTRIBUTION_HEADERS": "yes"}, "auth.trust_forwarded_attribution_headers", True),
    # integers: range clamps, nonsense is the default
    ({"DW_WORKER_POLL_TIMEOUT": "-1"}, "polling.poll_timeout_seconds", 0),
    ({"DW_WORKER_POLL_TIMEOUT": "300"}, "polling.poll_timeout_seconds", 60),
    ({"DW_WORKER_POLL_TIMEOUT": "3.5"}, "polling.poll_timeout_seconds", 30),
    ({"DW_HISTORY_RETENTION_DAYS": "4000"}, "limits.history_retention_days", 365),
    ({"DW_QUERY_TASK_TTL_SECONDS": "1"}, "polling.query_task_ttl_seconds", 60),
    ({"DW_QUERY_TASK_MAX_PENDING_PER_QUEUE": "99999"}, "polling.query_task_max_pending_per_queue", 10000),
    ({"DW_BOOTSTRAP_RETRIES": "0"}, "bootstrap.retries", 1),
    ({"DW_WAKE_SIGNAL_TTL_SECONDS": "0"}, "polling.wake_signal_ttl_seconds", 60),
    ({"DW_V2_CONTINUE_AS_NEW_EVENT_THRESHOLD": "-1"}, "engine.continue_as_new_event_threshold", -1),
    ({"DW_HISTORY_PAGE_SIZE_MAX": "100"}, "polling.history_page_size_default", 100),
    ({"DW_HISTORY_PAGE_SIZE_MAX": "5000"}, "polling.history_page_size_max", 1000),
    # caps: only a positive number limits
    ({"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "5"}, "admission.workflow_leases_per_queue", 5),
    ({"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "0"}, "admission.workflow_leases_per_queue", None),
    ({"DW_ACTIVITY_TASK_MAX_DISPATCHES_PER_MINUTE": "-3"}, "admission.activity_dispatches_per_minute", None),
    # 0 = off, effective caps are the smaller of two
    ({"DW_MAX_PENDING_CHILDREN": "0"}, "effective.pending_children", 1000),
    ({"DW_MAX_PENDING_CHILDREN": "0", "DW_V2_LIMIT_PENDING_CHILDREN": "0"}, "effective.pending_children", 0),
    ({"DW_MAX_PENDING_ACTIVITIES": "7"}, "effective.pending_activities", 7),
    ({"DW_MAX_MEMO_BYTES": "7"}, "effective.memo_bytes", 7),
    ({"DW_V2_LIMIT_MEMO_SIZE_BYTES": "8"}, "effective.memo_bytes", 8),
    ({"DW_V2_LIMIT_MEMO_SIZE_BYTES": "0"}, "effective.memo_bytes", 262_144),
    # words
    ({"DW_DEFAULT_NAMESPACE": "Billing"}, "server.default_namespace", "billing"),
    ({"DW_DEFAULT_NAMESPACE": "not a name"}, "server.default_namespace", "default"),
    ({"DW_WORKER_PROTOCOL_VERSION": "1.x"}, "polling.worker_protocol_version", "1.1"),
    ({"DW_AUTH_DRIVER": "carrier-pigeon"}, "auth.driver", "carrier-pigeon"),
    ({"DW_NATS_REPLICAS": "2"}, "nats.replicas", 1),
    ({"DW_NATS_REPLICAS": "3"}, "nats.replicas", 3),
    ({"DW_NATS_URL": "nats://a:1, nats://b:2"}, "nats.servers", ["nats://a:1", "nats://b:2"]),
    ({}, "nats.republish_seconds", 3600),
    ({"DW_EVENTS_REPUBLISH_SECONDS": "0"}, "nats.republish_seconds", 0),
    ({"DW_TASK_QUEUE_ADMISSION_OVERRIDES": '{"*":{}}'}, "admission.overrides", {"*": {}}),
    ({"DW_TASK_QUEUE_ADMISSION_OVERRIDES": "[1]"}, "admission.overrides", {}),
    # the database
    ({"DW_DATABASE_URL": "postgres://u@h/d"}, "database.dsn", "postgresql://u@h/d"),
    ({"DB_URL": "postgresql://u@h/d?sslmode=require"}, "database.dsn", "postgresql://u@h/d?sslmode=require"),
    ({"DB_URL": "postgresql://a", "DW_DATABASE_URL": "postgresql://b"}, "database.dsn", "postgresql://b"),
    ({"DB_HOST": "db"}, "database.dsn", "postgresql://workflow@db:5432/durable_workflow"),
    (
        {"DB_HOST": "db", "DB_USERNAME": "u@x", "DB_PASSWORD": "p:/", "DB_DATABASE": "d", "DB_PORT": "1"},
        "database.dsn",
        "postgresql://u%40x:p%3A%2F@db:1/d",
    ),
    ({"DB_CONNECTION": "pgsql"}, "database.dsn", "postgresql://workflow@127.0.0.1:5432/durable_workflow"),
    ({"DB_CONNECTION": "sqlite", "DB_HOST": "ignored"}, "database.dsn", None),
    ({"DB_DATABASE": "/data/database.sqlite"}, "database.embedded_data_dir", "/data"),
    ({"DW_DATA_DIR": "/data"}, "database.embedded_data_dir", "/data"),
]


@pytest.mark.parametrize(("environment", "path", "expected"), VALUES)
def test_values(environment: dict[str, str], path: str, expected: Any) -> None:
    assert field(Config.read(environment, host_name="host-1"), path) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DW_WORKER_POLL_TIMEOUT", "soon", "int"),
        ("DW_COMPRESSION_ENABLED", "perhaps", "bool"),
        ("DW_TASK_QUEUE_ADMISSION_OVERRIDES", "{", "JSON object"),
        ("WORKFLOW_MAX_PAYLOAD_BYTES", "1e6", "int"),
    ],
)
def test_invalid_values_are_reported_by_name(name: str, value: str, expected: str) -> None:
    assert Config.read({name: value}).invalid == {name: expected}


def test_clamped_and_unset_values_are_not_invalid() -> None:
    assert read(DW_WORKER_POLL_TIMEOUT="-5", DW_MAX_PAYLOAD_BYTES="", DW_SERVER_ID="null").invalid == {}


@pytest.mark.parametrize(
    ("environment", "mentions"),
    [
        ({"DW_MODE": "embedded"}, "DW_MODE"),
        ({"DW_MODE": "something"}, "DW_MODE"),
        ({"WORKFLOW_SERVER_MODE": "embedded"}, "DW_MODE"),
        ({"DB_CONNECTION": "mysql"}, "pgsql"),
        ({"DB_CONNECTION": "sqlsrv"}, "pgsql"),
        ({"DW_DATABASE_URL": "mysql://root:hidden@h/d"}, "DW_DATABASE_URL"),
        ({"DW_DATABASE_URL": "postgresql://h/d", "DB_CONNECTION": "embedded"}, "DB_CONNECTION"),
        ({"DW_V2_MULTI_NODE": "1", "DW_V2_CACHE_VALIDATION_MODE": "fail"}, "DW_V2_MULTI_NODE"),
    ],
)
def test_boot_errors(environment: dict[str, str], mentions: str) -> None:
    with pytest.raises(ConfigError, match=mentions) as raised:
        Config.read(environment)
    assert "hidden" not in str(raised.value)


def test_several_nodes_with_external_services_are_fine() -> None:
    config = read(
        DW_V2_MULTI_NODE="1", DW_V2_CACHE_VALIDATION_MODE="fail", DW_DATABASE_URL="postgresql://h/d", DW_NATS_URL="nats://h"
    )
    assert config.notes == ()


@pytest.mark.parametrize(
    ("environment", "mentions"),
    [
        ({"DW_WORKER_POLL_TIMEOUT": "61"}, "60"),
        ({"DB_CONNECTION": "sqlite"}, "embedded"),
        ({"DW_V2_MULTI_NODE": "1"}, "DW_DATABASE_URL, DW_NATS_URL"),
    ],
)
def test_notes(environment: dict[str, str], mentions: str) -> None:
    (note,) = Config.read(environment).notes
    assert mentions in note


OBJECTS = "config|admission|http|auth|server|parts|database|nats|polling|limits|sizes|engine|bootstrap|self"
IDLE = [row for row in table() if row.without_effect]


@pytest.mark.parametrize("row", IDLE, ids=lambda row: row.name)
def test_a_variable_without_effect_is_named_in_one_line_when_it_is_given(row: Entry) -> None:
    for name in filter(None, (row.name, row.alias)):
        for text in ("hunter2", "3", "true", '{"a":{}}', "warn"):
            lines = Config.read({name: text}).boot_lines()
            assert lines == [f"note: {name} has no effect: {row.without_effect}"]


def test_nothing_is_said_of_variables_that_are_not_given() -> None:
    assert read().boot_lines() == []
    assert Config.read({row.name: word for row in IDLE for word in ("", "null")}).boot_lines() == []
    assert read(DW_SERIALIZER="avro").boot_lines() == []


def test_a_value_that_is_not_understood_is_named_in_one_line() -> None:
    assert read(DW_DB_POOL_SIZE="many").boot_lines() == ["warning: DW_DB_POOL_SIZE is not a valid int, the default is used"]
    named_twice = {"DW_SERVER_KEY": "new", "APP_KEY": "old"}
    assert [line.split()[1] for line in Config.read(named_twice).boot_lines()] == ["DW_SERVER_KEY"]


def test_only_variables_that_nothing_reads_are_without_effect() -> None:
    """The other way round: what the program reads of the configuration is not said to have no effect, and all else is."""
    idle = {field for group in GROUPS for field, row in entries_of(group) if row.without_effect}
    used = {field for group in GROUPS for field, _ in entries_of(group)} - idle
    text = "\n".join(path.read_text() for path in (PROJECT_ROOT / "node").rglob("*.py"))
    read_somewhere = set(re.findall(rf"(?=\b(?:{OBJECTS})\.(\w+))", text))
    assert used - read_somewhere == set()
    shown_only: set[str] = set()
    assert idle & read_somewhere == shown_only


def test_secrets_are_not_shown() -> None:
    secret = {entry.name: "hidden" for entry in table() if entry.kind is SECRET and not entry.name.endswith("_URL")}
    urls = {"DW_DATABASE_URL": "postgresql://u:hidden@h/d", "DW_NATS_URL": "nats://u:hidden@h"}
    config = read(**secret, **urls)
    shown = [config, *(getattr(config, each.name) for each in dataclasses.fields(config)), api_settings(config)]
    shown += [bus_options(config), bus_options(read(DW_NATS_URL="nats://u:hidden@h")), api_settings(config).auth]
    assert [each for each in shown if "hidden" in repr(each)] == []
    assert "hidden" not in repr(read(DB_HOST="h", DB_PASSWORD="hidden"))


# Each has the secret `hunter2`, parts of which drivers would take for a host, a port, a database or a parameter.
AMBIGUOUS = [
    f"{{scheme}}://u:{password}@h:1000/d"
    for password in (
        "hun/ter2", "hun#ter2", "hun?ter2", "hun@ter2", "hun:ter2", "12/hunter2", "12#hunter2", "12?hunter2", "12?a=hunter2",
        "[hunter2", "hunter2]", "hun ter2", "hun\tter2", "hun\nter2", "/hunter2", "@hunter2", "#hunter2",
    )
]  # fmt: skip
AMBIGUOUS += ["{scheme}://u:p@h:hunter2/d", "{scheme}://u:p@h:99999/hunter2", "hunter2", "{scheme}:hunter2", "hunter2://u:p@h"]


@pytest.mark.parametrize("url", AMBIGUOUS)
@pytest.mark.parametrize(("name", "scheme"), [("DW_DATABASE_URL", "postgresql"), ("DB_URL", "pgsql"), ("DW_NATS_URL", "nats")])
def test_an_address_that_can_be_read_in_two_ways_is_refused_without_repeating_it(name: str, scheme: str, url: str) -> None:
    if name == "DW_NATS_URL":
        url = url.replace("/d", "")
        if url == "hunter2":
            return  # a host
    with pytest.raises(ConfigError) as caught:
        read(**{name: url.format(scheme=scheme)})
    said = "".join(traceback.format_exception(caught.value))
    assert not re.search("hun|ter2", said)
    assert re.search("expected (postgresql|nats)://", said)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%2F%23%3F%40%3A%25@h:5432/d",
        "postgresql://u:p@h1:1,h2:2,h3/d?sslmode=require",
        "postgresql://u@/d?host=/run/postgres&port=5432",
        "postgresql://u:p@[::1]:5432/d",
        "postgresql:///d",
        "pgsql://h",
    ],
)
def test_addresses_of_databases(url: str) -> None:
    assert read(DW_DATABASE_URL=url).database.dsn == url.replace("pgsql:", "postgresql:")


@pytest.mark.parametrize(
    ("environment", "servers", "login"),
    [
        ({}, ("nats://127.0.0.1:4222",), (None, None, None)),
        ({"DW_NATS_URL": "h1, h2:2"}, ("nats://h1", "nats://h2:2"), (None, None, None)),
        ({"DW_NATS_URL": "nats://u:p%2F%40@h"}, ("nats://h",), ("u", "p/@", None)),
        (
            {"DW_NATS_URL": "tls://to%23ken@h1:1,tls://to%23ken@[::1]:2"},
            ("tls://h1:1", "tls://[::1]:2"),
            (None, None, "to#ken"),
        ),
        ({"DW_NATS_URL": "nats://u:p@h", "DW_NATS_USERNAME": "v", "DW_NATS_PASSWORD": "q"}, ("nats://h",), ("v", "q", None)),
        ({"DW_NATS_URL": "nats://a:1@h1,nats://b:2@h2"}, ("nats://a:1@h1", "nats://b:2@h2"), (None, None, None)),
    ],
)
def test_addresses_of_nats(
    environment: dict[str, str], servers: tuple[str, ...], login: tuple[str | None, str | None, str | None]
) -> None:
    options = bus_options(read(**environment))
    assert options.servers == servers
    assert (options.username, options.password, options.token) == login


def test_names_node() -> None:
    assert not read().server.names_node
    assert read(DW_SERVER_ID="x").server.names_node
    assert not read(DW_SERVER_ID="").server.names_node


def test_every_row_is_complete_and_unique() -> None:
    rows = table()
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    assert all(row.about and row.since for row in rows)
    assert {row.treatment.contract for row in rows} == {"K", "E", "I", "R", "framework"}
    assert not {row.alias for row in rows if row.alias} & set(names) - {"APP_KEY"}


def test_every_row_takes_effect() -> None:
    """Each variable of the table changes the configuration when it is set to something else."""
    plain = read()
    samples = {"bool": ("1", "0"), "int": ("3", "1"), "JSON object": ('{"a":{}}',), "enum": ("fail", "debug", "silent")}
    special = {
        "DW_MODE": None,
        "DB_CONNECTION": ("pgsql",),
        "DW_DATABASE_URL": ("postgresql://elsewhere",),
        "DW_WORKER_PROTOCOL_VERSION": ("1.0",),
        "DW_DEFAULT_NAMESPACE": ("other",),
        "DB_PORT": ("1",),
        "DW_EXTERNAL_STORAGE_PROFILES": ('{"s3":{"region":"r"}}',),
        "DW_QUERY_TASK_TTL_SECONDS": ("999",),
    }
    beside = {"DB_PORT", "DB_DATABASE", "DB_USERNAME", "DB_PASSWORD"}
    for row in table():
        if row.treatment is Treatment.IGNORED or special.get(row.name, ()) is None:
            continue
        base = {"DB_HOST": "h"} if row.name in beside else {}
        before = Config.read(base, host_name="host-1") if base else plain
        texts = special.get(row.name) or samples.get(row.kind.name) or ("something",)
        changed = [Config.read({**base, row.name: text}, host_name="host-1") for text in texts]
        assert any(config != before for config in changed), row.name


def test_table_covers_the_names_of_its_groups() -> None:
    assert all(re.fullmatch(r"(DW|DB|APP|LOG|AWS)_[A-Z0-9_]+", row.name) for row in table())
