"""One environment variable as a table row, and the rules by which it is read.

Contract: configuration-and-security 6.1. The dataclasses of this package carry one `Entry` per field, so that
configuration, documentation and the audit of the environment are one table.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

Group = TypeVar("Group")

# The column "alias" of the contract: the prefix that stands in the place of `DW_` in the legacy name.
SERVER_ALIAS = "WORKFLOW_SERVER_"
WORKFLOW_ALIAS = "WORKFLOW_"

UNSET_WORDS = frozenset({"null", "(null)", "empty", "(empty)"})
NULL_WORDS = frozenset({"null", "(null)"})
TRUE_WORDS = frozenset({"1", "true", "(true)", "on", "yes"})
FALSE_WORDS = frozenset({"0", "false", "(false)", "off", "no"})
INTEGER = re.compile(r"[+-]?[0-9]+\Z")


class ConfigError(Exception):
    """The environment asks for something this server refuses to start with; the message names the variable, never a secret."""


class Unreadable(ValueError):
    """A value that is not of the expected type; the text says what was expected."""


@dataclass(frozen=True)
class Kind:
    """How a text becomes a value: raises `Unreadable` for one it can not be."""

    name: str
    read: Callable[[str], Any]


class Treatment(Enum):
    """What this server makes of a variable of the existing one: the contract's column "Py", a word for it, its meaning."""

    KEEP = ("K", "keep", "as described")
    EQUIVALENT = ("E", "own way", "the same purpose by other means than in the existing server")
    RESTRICTED = ("R", "limited", "some values are refused at start")
    IGNORED = ("I", "none", "recognised so that an environment can be taken over, without effect")
    FRAMEWORK = ("framework", "common", "a name of older deployments")

    def __init__(self, contract: str, word: str, meaning: str) -> None:
        self.contract = contract
        self.word = word
        self.meaning = meaning


@dataclass(frozen=True)
class Entry:
    """One row of the table of variables. `default` may be a function of what was read before it, keyed by variable name.

    `not_yet`: why nothing follows from the variable so far; None when something does.
    """

    name: str
    kind: Kind
    default: Any
    about: str
    alias: str | None = None
    treatment: Treatment = Treatment.KEEP
    since: str = "0.1.0"
    empty_means: str | None = None
    not_yet: str | None = None

    @property
    def without_effect(self) -> str | None:
        """Why it makes no difference what the variable says; None when it makes one."""
        return self.about if self.treatment is Treatment.IGNORED else self.not_yet


class Reader:
    """Reads entries from one environment and keeps what it found to be invalid."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.values: dict[str, Any] = {}
        self.invalid: dict[str, str] = {}
        self.given: set[str] = set()

    def read(self, entry: Entry) -> Any:
        """The value of an entry: its variable, else its alias, else its default. Also kept in `values`."""
        value = self._given(entry)
        if value is None:
            value = entry.default(self.values) if callable(entry.default) else entry.default
        self.values[entry.name] = value
        return value

    def text(self, name: str) -> str | None:
        """A decoded value, None when unset (configuration-and-security 6.1)."""
        raw = self.environment.get(name)
        return None if raw is None else decode(raw)

    def name_of(self, entry: Entry) -> str | None:
        """The name under which a variable says something, valid or not: its own, else its alias; None when it is unset."""
        names = (entry.name, entry.alias)
        return next((name for name in names if name is not None and self.text(name) is not None), None)

    def _given(self, entry: Entry) -> Any:
        for name in (entry.name, entry.alias):
            if name is None or name not in self.environment:
                continue
            text = self.text(name)
            if text is None:
                # null is unset, but an empty value of some variables is a statement of its own
                raw = strip_quotes(self.environment[name].strip()).lower()
                if entry.empty_means == "hides the alias" and raw not in NULL_WORDS:
                    return None
                if entry.empty_means == "false" and raw not in NULL_WORDS:
                    self.given.add(entry.name)
                    return False
                continue
            try:
                value = entry.kind.read(text)
            except Unreadable as error:
                self.invalid[name] = str(error)
                return None
            self.given.add(entry.name)
            return value
        return None


def strip_quotes(raw: str) -> str:
    """Without one pair of surrounding quotes."""
    if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "'\"":
        return raw[1:-1]
    return raw


def decode(raw: str) -> str | None:
    """The text of a raw environment value, None when it means unset: null and empty words, empty text."""
    text = strip_quotes(raw.strip())
    return None if not text or text.lower() in UNSET_WORDS else text


# -- kinds -------------------------------------------------------------------------------------------------------------


def _read_bool(text: str) -> bool:
    if text.lower() in TRUE_WORDS:
        return True
    if text.lower() in FALSE_WORDS:
        return False
    raise Unreadable("bool")


def _integer(text: str) -> int:
    if not INTEGER.match(text):
        raise Unreadable("int")
    return int(text)


def _read_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise Unreadable("JSON object") from None
    if not isinstance(value, dict):
        raise Unreadable("JSON object")
    return value


def _read_objects(text: str) -> dict[str, dict[str, str]]:
    value = _read_object(text)
    if not all(isinstance(each, dict) and all(isinstance(item, str) for item in each.values()) for each in value.values()):
        raise Unreadable("JSON object of objects of texts")
    return value


TEXT = Kind("str", lambda text: text)
SECRET = Kind("secret", lambda text: text)
SECRET_OBJECTS = Kind("secret", _read_objects)
PATH = Kind("path", lambda text: text)
BOOL = Kind("bool", _read_bool)
OBJECT = Kind("JSON object", _read_object)
WORDS = Kind("list", lambda text: tuple(part.strip() for part in text.split(",") if part.strip()))


def whole(low: int | None = None, high: int | None = None) -> Kind:
    """A decimal integer, clamped to the range."""

    def read(text: str) -> int:
        value = _integer(text)
        if low is not None:
            value = max(low, value)
        return value if high is None else min(high, value)

    return Kind("int", read)


def _read_cap(text: str) -> int | None:
    value = _integer(text)
    return value if value > 0 else None


CAP = Kind("int", _read_cap)  # a positive number, anything else is no limit


def _read_positive(text: str) -> int:
    value = _integer(text)
    if value <= 0:
        raise Unreadable("positive int")
    return value


POSITIVE = Kind("int", _read_positive)


def choice(*words: str) -> Kind:
    """One of some words, lower-cased."""

    def read(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise Unreadable(" | ".join(words))
        return word

    return Kind("enum", read)


def matching(pattern: str, expected: str, change: Callable[[str], str] = str) -> Kind:
    """A text that is `expected`, by a pattern."""
    compiled = re.compile(rf"(?:{pattern})\Z")

    def read(text: str) -> str:
        if not compiled.match(text):
            raise Unreadable(expected)
        return change(text)

    return Kind("str", read)


# -- fields ------------------------------------------------------------------------------------------------------------


def variable(
    name: str,
    kind: Kind,
    default: Any,
    about: str,
    *,
    alias: str | None = None,
    treatment: Treatment = Treatment.KEEP,
    since: str = "0.1.0",
    empty_means: str | None = None,
    not_yet: str | None = None,
) -> Any:
    """A dataclass field that is read from `name`. `alias` ending in "_" is a prefix in place of `DW_`, else a whole name."""
    if alias is not None and alias.endswith("_"):
        alias += name.removeprefix("DW_")
    entry = Entry(name, kind, default, about, alias, treatment, since, empty_means, not_yet)
    return dataclasses.field(metadata={"entry": entry}, repr=kind.name != SECRET.name)


def entries_of(group: type[Any]) -> list[tuple[str, Entry]]:
    """The table rows of a configuration dataclass with their field names, in order."""
    return [(each.name, each.metadata["entry"]) for each in dataclasses.fields(group) if "entry" in each.metadata]


def read_group(group: type[Group], reader: Reader, **given: Any) -> Group:
    """Build a configuration dataclass; `given` are its fields that are no variables."""
    values = {name: reader.read(entry) for name, entry in entries_of(group)}
    return group(**values, **given)
