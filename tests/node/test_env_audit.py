"""The audit of an environment: `dw-server env-audit`, and what a start makes of it (configuration-and-security 7)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from node.config import table
from node.config.audit import Note, audit
from node.config.entry import Treatment
from tests.support.commands import run

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "contract" / "configuration-and-security.md"

MIXED = {
    "DW_AUTH_TOKEN": "hunter2-a",
    "DW_POLLING_CACHE_PATH": "/hunter2-b",
    "DW_NATS_PASWORD": "hunter2-c",
    "DW_ZEBRA": "",
    "WORKFLOW_SERVER_WORKER_TOKEN": "hunter2-d",
    "DW_WORKER_TOKEN": "hunter2-e",
    "ACTIVITY_TASK_TIMEOUT": "9",
    "DW_DB_POOL_SIZE": "hunter2-f",
    "APP_KEY": "hunter2-g",
    "APP_NAME": "hunter2-h",
    "REDIS_HOST": "hunter2-i",
    "DB_CONNECTION": "sqlite",
    "LOG_CHANNEL": "stack",
    "DW_SERVER_TAG": "0.2",
    "DW_CLI_COLOR": "1",
    "PATH": "/bin",
    "DW_AUTH_PROVIDER": "a:B",
}


def test_names_are_sorted() -> None:
    found = audit(MIXED)
    assert found.known == (
        "DW_AUTH_PROVIDER",
        "DW_AUTH_TOKEN",
        "DW_DB_POOL_SIZE",
        "DW_POLLING_CACHE_PATH",
        "DW_WORKER_TOKEN",
    )
    assert found.unknown == ("DW_NATS_PASWORD", "DW_ZEBRA")
    assert found.legacy == {
        "ACTIVITY_TASK_TIMEOUT": "DW_ACTIVITY_TASK_TIMEOUT",
        "WORKFLOW_SERVER_WORKER_TOKEN": "DW_WORKER_TOKEN",
    }
    assert found.framework == ("APP_KEY", "APP_NAME", "DB_CONNECTION", "LOG_CHANNEL", "REDIS_HOST")
    assert found.tooling == ("DW_CLI_COLOR", "DW_SERVER_TAG")
    assert found.invalid == {"DW_DB_POOL_SIZE": "int"}
    assert not found.ok
    assert [(each.name, each.disposition) for each in found.notes] == [
        ("APP_KEY", "ignored"),
        ("DW_AUTH_PROVIDER", "replaced"),
        ("DW_POLLING_CACHE_PATH", "ignored"),
        ("REDIS_HOST", "replaced"),
    ]
    assert "DW_NATS_URL" in found.notes[-1].message


def test_lines() -> None:
    lines = audit(MIXED).lines()
    assert "DW_" in lines[0] and "DW_NATS_PASWORD, DW_ZEBRA" in lines[0]
    assert [line for line in lines if "deprecated" in line] == [
        "warning: ACTIVITY_TASK_TIMEOUT still works and is deprecated: rename to DW_ACTIVITY_TASK_TIMEOUT",
        "warning: WORKFLOW_SERVER_WORKER_TOKEN still works and is deprecated: rename to DW_WORKER_TOKEN",
    ]
    assert "warning: DW_DB_POOL_SIZE has no valid value, expected: int" in lines
    assert not [line for line in lines if "is OK" in line]
    assert audit({"DW_AUTH_TOKEN": "x", "HOME": "/"}).lines() == ["info: the environment is OK, 1 DW_ names recognised"]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"DW_MODE": "embedded"}, "DW_MODE"),
        ({"DB_CONNECTION": "mysql"}, "DB_CONNECTION"),
        ({"DB_CONNECTION": "embedded", "DW_DATABASE_URL": "postgresql://h/d"}, "DB_CONNECTION"),
        ({"DW_DATABASE_URL": "mysql://u:hunter2@h/d"}, "DW_DATABASE_URL"),
        ({"DW_NATS_URL": "nats://u:hunter2@h:0"}, "DW_NATS_URL"),
        ({"DW_V2_MULTI_NODE": "1", "DW_V2_CACHE_VALIDATION_MODE": "fail"}, "DW_V2_MULTI_NODE"),
        ({"DW_COMPRESSION_ENABLED": "perhaps"}, "DW_COMPRESSION_ENABLED"),
    ],
)
def test_what_a_start_would_refuse_or_not_understand_is_invalid(environment: dict[str, str], name: str) -> None:
    found = audit(environment)
    assert list(found.invalid) == [name] and not found.ok
    assert "hunter2" not in "".join(found.lines())


def test_notes_and_framework_names_are_no_faults() -> None:
    found = audit({"REDIS_HOST": "x", "DW_SERIALIZER": "json", "APP_ENV": "x", "DW_SERVER_KEY": "k", "DB_CHARSET": "utf8"})
    assert found.ok and [each.name for each in found.notes] == ["DB_CHARSET", "DW_SERIALIZER", "DW_SERVER_KEY", "REDIS_HOST"]
    assert isinstance(found.notes[0], Note)


def test_every_row_is_recognised() -> None:
    for row in table():
        kind = "framework" if row.treatment is Treatment.FRAMEWORK else "known"
        assert row.name in getattr(audit({row.name: ""}), kind), row.name
        if row.alias is not None:
            found = audit({row.alias: ""})
            assert row.alias in found.legacy or row.alias in found.framework, row.alias
            assert found.unknown == ()


def contract_names() -> dict[str, str | None]:
    """Every variable of the contract's tables with its older name; None when it has none."""
    text = CONTRACT.read_text(encoding="utf-8")
    found: dict[str, str | None] = {}
    for line in text[text.index("### 6.2") : text.index("### 6.8")].splitlines():
        if not line.startswith("| `DW_"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`(DW_[A-Z0-9_]+)`", cells[0])
        for name in names:
            short = name.removeprefix("DW_")
            alias: str | None = None
            if len(cells) == 7:
                prefixes = {"S": f"WORKFLOW_SERVER_{short}", "-": None}
                alias = cells[5].strip("`").split(" (")[0]
                alias = f"WORKFLOW_{short}" if cells[5].startswith("W") and not cells[5].startswith("WO") else alias
                alias = prefixes.get(alias or "-", alias)
            elif name.startswith("DW_V2_") and "alias none" not in cells[0]:
                alias = f"WORKFLOW_{short}"
            found[name] = alias
    return found


# Names that this server gives an older name of its own: a framework's.
OWN_ALIASES = {"DW_SERVER_KEY": "APP_KEY"}


def test_the_table_has_every_variable_of_the_contract() -> None:
    rows = {row.name: row.alias for row in table()}
    told = contract_names() | {"DW_SERIALIZER": "WORKFLOW_SERIALIZER"}
    assert len(told) > 110
    assert sorted(set(told) - set(rows)) == []
    assert {name: rows[name] for name in told} == told | OWN_ALIASES


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    for name in ("env-audit", "env:audit"):
        clean = run(name, "--strict", env={"DW_AUTH_TOKEN": "x"})
        assert (clean.returncode, clean.stdout) == (0, "") and "OK" in clean.stderr
    assert run("env-audit", env=MIXED | {"DW_ENV_AUDIT_STRICT": "1"}).returncode == 0
    strict = run("env-audit", "--strict", env=MIXED)
    assert strict.returncode == 1 and "rename to DW_WORKER_TOKEN" in strict.stderr and "hunter2" not in strict.stderr
    shown = run("env-audit", "--strict", "--json", env=MIXED)
    assert shown.returncode == 1 and "hunter2" not in shown.stdout + shown.stderr
    told: dict[str, Any] = json.loads(shown.stdout)
    assert list(told) == [
        "prefix", "known", "unknown", "legacy", "framework", "tooling", "notes", "invalid", "strict", "ok",
    ]  # fmt: skip
    assert (told["prefix"], told["strict"], told["ok"]) == ("DW_", True, False)
    assert told["legacy"][0] == {"legacy": "ACTIVITY_TASK_TIMEOUT", "replacement": "DW_ACTIVITY_TASK_TIMEOUT"}
    assert told["invalid"] == [{"name": "DW_DB_POOL_SIZE", "expected": "int"}]
    assert set(told["notes"][0]) == {"name", "disposition", "message"}
    # what would be refused at start can be asked about all the same
    assert run("env-audit", "--json", "--strict", env={"DW_MODE": "embedded"}).returncode == 1


@pytest.mark.parametrize("command", ["bootstrap", "serve", "dev"])
def test_a_start_says_what_it_found_and_is_refused_if_it_is_strict(command: str, tmp_path: Path) -> None:
    place = {"DW_DATABASE_URL": "postgresql://127.0.0.1:1/x", "DW_DATA_DIR": str(tmp_path)}
    for strict in ("1", "true"):
        done = run(command, env={**place, **MIXED, "DB_CONNECTION": "pgsql", "DW_ENV_AUDIT_STRICT": strict})
        assert done.returncode == 1
        assert "DW_NATS_PASWORD, DW_ZEBRA" in done.stderr and "DW_ENV_AUDIT_STRICT" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_older_names_work_and_are_hinted_at() -> None:
    quick = {"WORKFLOW_SERVER_BOOTSTRAP_RETRIES": "1", "DW_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    done = run("bootstrap", env=quick)
    assert done.returncode == 1
    assert "WORKFLOW_SERVER_BOOTSTRAP_RETRIES still works and is deprecated: rename to DW_BOOTSTRAP_RETRIES" in done.stderr
    assert "after 1 attempt" in done.stderr or "1 of 1" in done.stderr or done.stderr.count("attempt") <= 2
