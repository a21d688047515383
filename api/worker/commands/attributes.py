"""The change of search attributes a workflow asks for, checked and normalised (worker-protocol 5.8)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from actors.run.commands.steps import UpsertSearchAttributes
from actors.visibility.values import typed
from api.http.input import json_text
from api.http.input.fields import Fields

_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_LONGEST = 255
_INT8 = range(-(1 << 63), 1 << 63)

TYPES = ("string", "keyword", "keyword_list", "int", "float", "bool", "datetime")
_CUSTOM_TYPES = {"string": "keyword", "float": "double"}  # where they are not called the same


class Unfit(Exception):
    """A value no attribute can have; the text says why."""


def read_attributes(fields: Fields) -> dict[str, Any]:
    """`attributes` of an upsert: strings trimmed, blank ones None, None deletes the key. Faults go to `attributes`."""
    name = "attributes"
    sent = fields.object(name)
    if not sent:
        if fields.prefix + name not in fields.errors:
            fields.missing(name)
        return {}
    found: dict[str, Any] = {}
    for key, value in sent.items():
        if not _KEY.match(key):
            fields.fault(name, f"The search attribute key [{key[:80]}] must match [A-Za-z0-9_.:-]{{1,64}}.")
            continue
        try:
            found[key] = _value(value)
        except Unfit as unfit:
            fields.fault(name, f"The search attribute [{key}] {unfit}")
    return found


def attribute_value(value: Any, longest: int) -> Any:
    """The value of an attribute as it was sent (`Fields.object`). `longest`: bytes of a text, 0 for any. Raises Unfit."""
    if isinstance(value, str):
        if longest and len(value.encode()) > longest:
            raise Unfit(f"must not be longer than {longest} bytes.")
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit("must not be a number that no double can hold.")
        return value
    if isinstance(value, int):
        if value not in _INT8:
            raise Unfit("must not be an integer of more than 64 bits.")
        return value
    listed = json_text.listed(value)
    if listed is not None:
        listed = [json_text.plain(item) for item in listed]
    if listed is None or not all(isinstance(item, str) for item in listed):
        raise Unfit("must be a scalar, null or a list of strings.")
    return [attribute_value(item, longest) for item in listed]


def _value(value: Any) -> Any:
    value = attribute_value(value, 0)
    if isinstance(value, str):
        return _text(value) or None
    return [text for item in value if (text := _text(item))] if isinstance(value, list) else value


def _text(value: str) -> str:
    text = value.strip()
    if len(text) > _LONGEST:
        raise Unfit(f"must not be longer than {_LONGEST} characters.")
    if "\x00" in text:
        raise Unfit("must not contain NUL characters.")
    return text


def read_attribute_types(fields: Fields) -> dict[str, str]:
    """`attribute_types` of an upsert, key to type. Faults go to `attribute_types`."""
    name = "attribute_types"
    sent = fields.object(name)
    found: dict[str, str] = {}
    for key, word in (sent or {}).items():
        if not _KEY.match(key):
            fields.fault(name, f"The search attribute key [{key[:80]}] must match [A-Za-z0-9_.:-]{{1,64}}.")
        elif not isinstance(word, str) or word.strip() not in TYPES:
            fields.fault(name, f"The type of the search attribute [{key}] must be one of {', '.join(TYPES)}.")
        else:
            found[key] = word.strip()
    return found


def typed_upsert(command: UpsertSearchAttributes, definitions: Mapping[str, str]) -> UpsertSearchAttributes:
    """The change as it is stored: in the types defined, else in those the command names (operations 5.4)."""
    named = {key: _CUSTOM_TYPES.get(kind, kind) for key, kind in command.attribute_types.items()}
    return UpsertSearchAttributes(typed(command.attributes, {**named, **definitions}), command.attribute_types)
