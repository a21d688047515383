"""Reads and checks the fields of a request; every fault becomes a text under its dotted key.

Field texts follow worker-protocol 2.4 ("The workflow type field is required."). Strings are trimmed and a blank optional one
counts as absent (control-plane 1.5); integers may be given as digit strings, booleans are never integers.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from api.errors import ValidationFailed

# A century: far above any sense, and safely inside what times can hold.
LONGEST_SECONDS = 3_155_760_000

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


def has_nul(value: Any) -> bool:
    """Whether a JSON value contains a NUL character, which the store cannot keep in texts."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(has_nul(item) for item in value)


class Fields:
    """The fields of one object. Readers return a usable value and note faults; `check()` raises them all together.

    `prefix` is put before field names in error keys ("commands.3."). Several readers may share one `errors` map.
    """

    __slots__ = ("data", "errors", "prefix")

    def __init__(self, data: dict[str, Any], prefix: str = "", errors: dict[str, list[str]] | None = None) -> None:
        self.data = data
        self.prefix = prefix
        self.errors: dict[str, list[str]] = {} if errors is None else errors

    def fault(self, name: str, text: str) -> None:
        """Notes a fault of field `name`."""
        self.errors.setdefault(self.prefix + name, []).append(text)

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
        value = self.data.get(name)
        if value is None or isinstance(value, dict):
            return value
        if value == []:
            return {}
        self.fault(name, f"The {label(name)} field must be an object.")
        return None

    def storable(self, name: str) -> None:
        """Notes a fault when a plain JSON value cannot be stored: integers above 64 bits, NUL characters."""
        packed = self.portable(name)
        if b"\x00" in packed and has_nul(self.data.get(name)):
            self.fault(name, f"The {label(name)} field must not contain NUL characters.")

    def portable(self, name: str) -> bytes:
        """Notes a fault when a plain JSON value cannot travel between nodes: integers above 64 bits. Returns it packed."""
        value = self.data.get(name)
        if value is None:
            return b""
        try:
            return msgspec.msgpack.encode(value)
        except (OverflowError, RecursionError, ValueError):
            self.fault(name, f"The {label(name)} field must not contain integers of more than 64 bits.")
            return b""

    def strings(self, name: str, *, longest: int = 255) -> list[str] | None:
        """A list of strings, trimmed, blank ones left out; None when absent."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            self.fault(name, f"The {label(name)} field must be a list.")
            return None
        found: list[str] = []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.fault(f"{name}.{index}", f"The {label(name)}.{index} field must be a string.")
            elif len(item) > longest:
                self.fault(f"{name}.{index}", f"The {label(name)}.{index} field must not be greater than {longest} characters.")
            elif stripped := item.strip():
                found.append(stripped)
        return found

    def choice(self, name: str, allowed: tuple[str, ...], *, text: str | None = None, default: str | None = None) -> str | None:
        """One of `allowed`, compared exactly; `default` when absent or blank."""
        value = self.data.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return default
        if isinstance(value, str) and value.strip() in allowed:
            return value.strip()
        self.fault(name, text or f"The {label(name)} field must be one of {', '.join(allowed)}.")
        return default
