"""What an environment says to this server, name by name: known, older names, unknown ones (configuration-and-security 7).

Names only: no value is ever told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from node.config import Config, ConfigError, table
from node.config.entry import Entry, Reader, Treatment
from node.config.ignored import without_effect

PREFIX = "DW_"

# Names of compose files and clients: harmless here.
TOOLING = re.compile(r"DW_(SERVER_(IMAGE|TAG|PLATFORM)|ENV|CONFIG_HOME|CLI_.+|SMALL_CLUSTER_.+)\Z")

_NATS = "NATS takes the place of Redis, caches and queues: set DW_NATS_URL"

# Names of frameworks beside those of the table (configuration-and-security 6.7), and what is to be said of them: little.
FRAMEWORK: tuple[tuple[re.Pattern[str], str | None], ...] = (
    (re.compile(r"REDIS_(HOST|PORT|PASSWORD|USERNAME|DB|CACHE_DB|CLIENT|URL|PREFIX|CLUSTER|SCHEME)\Z"), _NATS),
    (re.compile(r"(CACHE_STORE|CACHE_PREFIX|QUEUE_CONNECTION|QUEUE_FAILED_DRIVER|MEMCACHED_.+)\Z"), _NATS),
    (re.compile(r"DB_(SOCKET|CHARSET|COLLATION|FOREIGN_KEYS)\Z"), "PostgreSQL has no use for it"),
    (re.compile(r"PHP_CLI_SERVER_WORKERS\Z"), "set DW_HTTP_WORKERS"),
    (re.compile(r"(DB_URL|APP_KEY)\Z"), None),
    (re.compile(r"APP_(NAME|ENV|DEBUG|URL|LOCALE|FALLBACK_LOCALE|FAKER_LOCALE|TIMEZONE|PREVIOUS_KEYS|CIPHER)\Z"), None),
    (re.compile(r"(APP_MAINTENANCE|LOG|SESSION|MAIL|BROADCAST|PUSHER)_.+\Z"), None),
    (re.compile(r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|DEFAULT_REGION|BUCKET|USE_PATH_STYLE_ENDPOINT)\Z"), None),
    (re.compile(r"(FILESYSTEM_DISK|VITE_APP_NAME|BCRYPT_ROUNDS)\Z"), None),
)


@dataclass(frozen=True)
class Note:
    """A name that is recognised and is `ignored`, or `replaced` by something of this server's own."""

    name: str
    disposition: str
    message: str


@dataclass(frozen=True)
class Audit:
    """What was found, each list sorted by name. `invalid`: names with what their values should have been."""

    known: tuple[str, ...]
    unknown: tuple[str, ...]
    legacy: Mapping[str, str]
    framework: tuple[str, ...]
    tooling: tuple[str, ...]
    notes: tuple[Note, ...]
    invalid: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether there is nothing unknown, old or invalid."""
        return not (self.unknown or self.legacy or self.invalid)

    def of_names(self) -> list[str]:
        """A line about all unknown names, and one for each older one."""
        lines = []
        if self.unknown:
            lines.append(f"warning: these names begin with {PREFIX} and mean nothing here: {', '.join(self.unknown)}")
        return lines + [f"warning: {old} still works and is deprecated: rename to {new}" for old, new in self.legacy.items()]

    def lines(self) -> list[str]:
        """Everything there is to say, a line each."""
        said = self.of_names()
        said += [f"warning: {name} has no valid value, expected: {expected}" for name, expected in self.invalid.items()]
        if self.ok:
            said.append(f"info: the environment is OK, {len(self.known)} {PREFIX} names recognised")
        return said + [f"note: {each.name} is {each.disposition}: {each.message}" for each in self.notes]

    def as_json(self, strict: bool) -> dict[str, Any]:
        """The object of `env-audit --json`."""
        return {
            "prefix": PREFIX,
            "known": list(self.known),
            "unknown": list(self.unknown),
            "legacy": [{"legacy": old, "replacement": new} for old, new in self.legacy.items()],
            "framework": list(self.framework),
            "tooling": list(self.tooling),
            "notes": [{"name": each.name, "disposition": each.disposition, "message": each.message} for each in self.notes],
            "invalid": [{"name": name, "expected": expected} for name, expected in self.invalid.items()],
            "strict": strict,
            "ok": self.ok,
        }


def audit(environment: Mapping[str, str]) -> Audit:
    """Sort the names of an environment. A name that is set to an empty value counts."""
    rows = table()
    by_name = {row.name: row for row in rows}
    by_alias = {row.alias: row for row in rows if row.alias is not None}
    known: list[str] = []
    unknown: list[str] = []
    framework: list[str] = []
    tooling: list[str] = []
    legacy: dict[str, str] = {}
    for name in sorted(environment):
        row = by_name.get(name)
        if row is not None:
            (framework if row.treatment is Treatment.FRAMEWORK else known).append(name)
        elif _of_a_framework(name):
            framework.append(name)
        elif name in by_alias:
            legacy[name] = by_alias[name].name
        elif TOOLING.match(name):
            tooling.append(name)
        elif name.startswith(PREFIX):
            unknown.append(name)
    reader = Reader(environment)
    reader.values["host name"] = ""
    for row in rows:
        reader.read(row)
    idle = without_effect(reader, rows)
    return Audit(
        known=tuple(known),
        unknown=tuple(unknown),
        legacy=legacy,
        framework=tuple(framework),
        tooling=tuple(tooling),
        notes=tuple(_notes(environment, reader, rows, idle)),
        invalid=dict(sorted({**_without(reader.invalid, idle), **_refused(environment)}.items())),
    )


def _of_a_framework(name: str) -> bool:
    return any(pattern.match(name) for pattern, _ in FRAMEWORK)


def _without(invalid: Mapping[str, str], idle: Mapping[str, str]) -> dict[str, str]:
    return {name: expected for name, expected in invalid.items() if name not in idle}


def _refused(environment: Mapping[str, str]) -> dict[str, str]:
    """The name that a start would be refused for, with the reason."""
    try:
        Config.read(environment, host_name="host")
    except ConfigError as error:
        name, _, reason = re.sub(r"\A(\w+)(?:=\S+)?:? ", r"\1\n", str(error)).partition("\n")
        return {name: reason}
    return {}


def _notes(environment: Mapping[str, str], reader: Reader, rows: Iterable[Entry], idle: Mapping[str, str]) -> list[Note]:
    """What is to be said of names that work otherwise than in the existing server, or not at all."""
    found = {name: Note(name, "ignored", why) for name, why in idle.items()}
    for row in rows:
        name = reader.name_of(row)
        if row.treatment is Treatment.EQUIVALENT and name is not None and name not in found:
            found[name] = Note(name, "replaced", f"it means here: {row.about}")
    for name in environment:
        said = next((about for pattern, about in FRAMEWORK if about is not None and pattern.match(name)), None)
        if said is not None:
            found[name] = Note(name, "replaced" if "set DW_" in said else "ignored", said)
    return [found[name] for name in sorted(found)]
