"""Reads and checks the fields of a request; every fault becomes a text under its dotted key.

Field texts follow worker-protocol 2.4 ("The workflow type field is required."). Strings are trimmed and a blank optional one
counts as absent (control-plane 1.5); integers may be given as digit strings, booleans are never integers. What the server only
hands on is taken as JSON text (`Fields.opaque`), so that nothing in it need be understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from api.http.errors import ValidationFailed
from api.http.input import json_text
from api.http.input.json_text import Members, Sparse

# A century: far above any sense, and safely inside what times can hold.
LONGEST_SECONDS = 3_155_760_000

# Not more faulty fields of one request are told, and not more faults of one field.
MOST_FAULTS = 1000

# The JSON text a reader's object was read from, or what fetches it.
Source = bytes | Callable[[], bytes | Raw | None]

# What is wrong with a reference to a payload outside, by its member; nothing: it can be taken.
ReferenceFaults = Callable[[Any, str], dict[str, str]]

_UNREACHABLE = (".", "..")

_DIGITS = re.compile(r"-?[0-9]{1,18}\Z")
_TRUE = frozenset({"true", "1"})
_FALSE = frozenset({"false", "0"})


def label(name: str) -> str:
    """A field's name as texts show it."""
    return name.replace("_", " ")


def as_integer(value: Any) -> int | None:
    """The integer a JSON or query value stands for, None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1 << 53 else None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _DIGITS.match(text) else None
    return None


class Fields:
    """The fields of one object. Readers return a usable value and note faults; `check()` raises them all together.

    `prefix` is put before field names in error keys ("commands.3."). Several readers may share one `errors` map. Values in
    `data` may be texts not read yet (`api.http.input.json_text`): `get` reads them. `source`: see `Source`; without it opaque
    values are written anew. `reference_faults` judges references to payloads outside; without it none can be taken.
    """

    __slots__ = ("_source", "_texts", "data", "errors", "prefix", "reference_faults")

    def __init__(
        self,
        data: Members | Sparse,
        prefix: str = "",
        errors: dict[str, list[str]] | None = None,
        source: Source | None = None,
        reference_faults: ReferenceFaults | None = None,
    ) -> None:
        self.data = data
        self.reference_faults = reference_faults
        self.prefix = prefix
        self.errors: dict[str, list[str]] = {} if errors is None else errors
        self._source = source
        self._texts: Members | Sparse | None = None

    def has(self, name: str) -> bool:
        """Whether the field was sent, be it null."""
        return name in self.data

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether any of these was sent."""
        data = self.data
        return not names.isdisjoint(data) if isinstance(data, dict) else any(name in data for name in names)

    def get(self, name: str) -> Any:
        """The value of a field, None when absent. A long list or object is the text it is (`json_text.opened`)."""
        value = self.data.get(name)
        return json_text.opened(value) if type(value) is Raw else value

    def raw(self, name: str) -> bytes | Raw | None:
        """The JSON text of a field as sent, None when absent or null."""
        value = self.data.get(name)
        if value is None or type(value) is Raw:
            return None if value is None or json_text.is_null(value) else value
        if self._texts is None:
            text = self._source() if callable(self._source) else self._source
            if text is None:
                return json_text.text_of(value)
            self._texts = json_text.members(text)
        found: Raw | None = self._texts.get(name)
        return found

    def fault(self, name: str, text: str) -> None:
        """Notes a fault of field `name`."""
        key = self.prefix + name
        if key in self.errors or len(self.errors) < MOST_FAULTS:
            texts = self.errors.setdefault(key, [])
            if len(texts) < MOST_FAULTS:
                texts.append(text)

    def check(self) -> None:
        """Raises ValidationFailed when any fault was noted."""
        if self.errors:
            raise ValidationFailed(self.errors)

    def missing(self, name: str) -> None:
        """Notes that a required field is absent."""
        self.fault(name, f"The {label(name)} field is required.")

    def text(
        self,
        name: str,
        *,
        required: bool = False,
        longest: int | None = 255,
        pattern: re.Pattern[str] | None = None,
        blank_is_fault: bool = False,
    ) -> str | None:
        """A trimmed string of at most `longest` characters, None when absent or blank."""
        value = self.data.get(name)
        if type(value) is Raw:
            value = json_text.opened(value)
        if value is None:
            if required:
                self.missing(name)
            return None
        if not isinstance(value, str):
            self.fault(name, f"The {label(name)} field must be a string.")
            return None
        value = value.strip()
        if not value:
            if required:
                self.missing(name)
            elif blank_is_fault:
                self.fault(name, f"The {label(name)} field must not be blank.")
            return None
        if longest is not None and len(value) > longest:
            self.fault(name, f"The {label(name)} field must not be greater than {longest} characters.")
        elif pattern is not None and not pattern.match(value):
            self.fault(name, f"The {label(name)} field format is invalid.")
        elif "\x00" in value:
            self.fault(name, f"The {label(name)} field must not contain control characters.")
        else:
            return value
        return None

    def required_text(self, name: str, *, longest: int | None = 255, pattern: re.Pattern[str] | None = None) -> str:
        """`text` that must be there; "" stands in when it is faulty (check() raises before anybody uses it)."""
        return self.text(name, required=True, longest=longest, pattern=pattern) or ""

    def free_text(self, name: str, *, required: bool = False, longest: int | None = None) -> str | None:
        """A string kept as sent, blank ones included (messages, stack traces)."""
        value = self.data.get(name)
        if type(value) is Raw:
            value = json_text.opened(value)
        if value is None:
            if required:
                self.missing(name)
            return None
        if not isinstance(value, str):
            self.fault(name, f"The {label(name)} field must be a string.")
            return None
        if longest is not None and len(value) > longest:
            self.fault(name, f"The {label(name)} field must not be greater than {longest} characters.")
            return None
        return value

    def integer(
        self, name: str, *, low: int | None = None, high: int | None = None, default: int | None = None, required: bool = False
    ) -> int | None:
        """An integer within low..high (both inclusive), `default` when absent."""
        value = self.data.get(name)
        if type(value) is Raw:
            value = json_text.opened(value)
        if value is None or value == "":
            if required:
                self.missing(name)
            return default
        number = as_integer(value)
        if number is None:
            self.fault(name, f"The {label(name)} field must be an integer.")
        elif low is not None and number < low:
            self.fault(name, f"The {label(name)} field must be at least {low}.")
        elif high is not None and number > high:
            self.fault(name, f"The {label(name)} field must not be greater than {high}.")
        else:
            return number
        return default

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """A JSON boolean, or true/false/1/0 as text or number."""
        value = self.data.get(name)
        if type(value) is Raw:
            value = json_text.opened(value)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower() if isinstance(value, int | str) else ""
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        self.fault(name, f"The {label(name)} field must be true or false.")
        return default

    def object(self, name: str) -> dict[str, Any] | None:
        """A JSON object, None when absent. An empty list counts as an empty object."""
        value = self.get(name)
        if value is None or isinstance(value, dict):
            return value
        if value == []:
            return {}
        if json_text.kind(value) is dict:
            return json_text.opened_members(value)
        self.fault(name, f"The {label(name)} field must be an object.")
        return None

    def nested(self, name: str) -> Fields | None:
        """A reader of the members of a JSON object, None when absent. An empty list counts as an empty object."""
        value = self.get(name)
        if value is None:
            return None
        prefix = f"{self.prefix}{name}."
        if value == []:
            return Fields({}, prefix, self.errors)
        if json_text.kind(value) is not dict:
            self.fault(name, f"The {label(name)} field must be an object.")
            return None
        data = json_text.members(value) if type(value) is Raw else value
        return Fields(data, prefix, self.errors, lambda: self.raw(name), self.reference_faults)

    def shallow(self, name: str) -> dict[str, Any] | None:
        """A JSON object whose texts, booleans and small integers are read, all else being JSON text; None when absent."""
        if self.nested(name) is None or not self.without_nul(name):
            return None
        raw = self.raw(name)
        return json_text.shallow(raw) if raw is not None and bytes(raw) != b"[]" else {}

    def opaque(self, name: str) -> bytes | None:
        """The compact JSON text of a value that is only handed on, None when absent or null."""
        raw = self.raw(name)
        return None if raw is None else json_text.compact(raw)

    def opaque_object(self, name: str) -> bytes | None:
        """The same of a JSON object without NUL. An empty list counts as an empty object."""
        if self.nested(name) is None or not self.without_nul(name):
            return None
        text = self.opaque(name)
        return b"{}" if text == b"[]" else text

    def without_nul(self, name: str) -> bool:
        """Notes a fault and says False when a text in a value contains the character NUL."""
        raw = self.raw(name)
        if raw is None or not json_text.holds_nul(bytes(raw)):
            return True
        self.fault(name, f"The {label(name)} field must not contain NUL characters.")
        return False

    def identifier(
        self, name: str, *, required: bool = False, longest: int = 255, pattern: re.Pattern[str] | None = None
    ) -> str | None:
        """`text` that can be a segment of a URL: not `.` or `..`, which clients take out of paths (control-plane 5.1)."""
        value = self.text(name, required=required, longest=longest, pattern=pattern)
        if value in _UNREACHABLE:
            self.fault(name, f"The {label(name)} field must not be {value}.")
            return None
        return value

    def items(self, name: str) -> list[Any] | None:
        """A list, None when absent. The items of a long one are texts (`api.http.input.json_text.plain` opens them)."""
        value = self.get(name)
        found = json_text.listed(value)
        if found is None and value is not None:
            self.fault(name, f"The {label(name)} field must be a list.")
        return found

    def strings(self, name: str, *, longest: int = 255) -> list[str] | None:
        """A list of strings, trimmed, blank ones left out; None when absent."""
        value = self.items(name)
        if value is None:
            return None
        found: list[str] = []
        for index, sent in enumerate(value):
            item = json_text.plain(sent)
            if not isinstance(item, str):
                self.fault(f"{name}.{index}", f"The {label(name)}.{index} field must be a string.")
            elif len(item) > longest:
                self.fault(f"{name}.{index}", f"The {label(name)}.{index} field must not be greater than {longest} characters.")
            elif "\x00" in item:
                self.fault(f"{name}.{index}", f"The {label(name)}.{index} field must not contain control characters.")
            elif stripped := item.strip():
                found.append(stripped)
        return found

    def choice(self, name: str, allowed: tuple[str, ...], *, text: str | None = None, default: str | None = None) -> str | None:
        """One of `allowed`, compared exactly; `default` when absent or blank."""
        value = self.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return default
        if isinstance(value, str) and value.strip() in allowed:
            return value.strip()
        self.fault(name, text or f"The {label(name)} field must be one of {', '.join(allowed)}.")
        return default
