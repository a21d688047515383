"""Memo and search attributes of a run to start, now or by a schedule (control-plane 5.1, configuration-and-security 9.3)."""

from __future__ import annotations

import re
from typing import Any

from api.http.errors import ApiError
from api.http.input import json_text
from api.http.input.fields import Fields
from api.settings import Settings
from api.worker.commands.attributes import Unfit, attribute_value

_MEMO_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_ATTRIBUTE_KEY = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*\Z")


def start_memo(fields: Fields, settings: Settings) -> dict[str, Any] | bytes:
    """The memo of a start as JSON text, {} for none."""
    memo = fields.opaque_object("memo")
    if memo is None or memo == b"{}":
        return {}
    limit = settings.limits.memo_bytes
    if limit and len(memo) > limit:
        fields.fault("memo", f"The memo must not be greater than {limit} bytes.")
        return {}
    _check_names(fields, memo)
    return memo


def schedule_memo(fields: Fields, settings: Settings) -> bytes | None:
    """The memo of a schedule as JSON text, None when absent.

    Raises ValidationFailed for all faults noted so far, ApiError 422 `memo_too_large`: so it is to be read last.
    """
    memo = fields.opaque_object("memo")
    limit = settings.limits.memo_bytes
    if memo is not None and limit and len(memo) > limit:
        fields.check()
        raise ApiError(422, "memo_too_large", f"The memo must not be greater than {limit} bytes.", limit=limit)
    if memo is not None:
        _check_names(fields, memo)
    fields.check()
    return memo


def _check_names(fields: Fields, memo: bytes) -> None:
    for name in json_text.names(memo):
        if not _MEMO_KEY.match(name):
            fields.fault("memo", f"The memo key [{name[:80]}] must match [A-Za-z0-9_.:-]{{1,64}}.")


def read_search_attributes(fields: Fields, settings: Settings) -> dict[str, Any]:
    """The search attributes as sent, without those that are null; {} for none."""
    name = "search_attributes"
    attributes = fields.object(name)
    if not attributes:
        return {}
    size_limit = settings.limits.structural.search_attribute_size_bytes
    if size_limit and len(fields.opaque(name) or b"") > size_limit:
        fields.fault(name, f"The search attributes must not be greater than {size_limit} bytes.")
        return {}
    limits = settings.limits.request
    if len(attributes) > limits.max_search_attributes:
        fields.fault(name, f"The search attributes must not have more than {limits.max_search_attributes} keys.")
    found: dict[str, Any] = {}
    for key, value in attributes.items():
        if not _ATTRIBUTE_KEY.match(key):
            fields.fault(
                name, f"The search attribute key [{key[:80]}] must be a letter followed by letters, digits or underscores."
            )
        elif limits.max_search_attribute_key_length and len(key) > limits.max_search_attribute_key_length:
            text = (
                f"The search attribute key [{key[:80]}] must not be longer than {limits.max_search_attribute_key_length} bytes."
            )
            fields.fault(name, text)
        else:
            try:
                if value is not None:  # as null removes a name, it adds none
                    found[key] = attribute_value(value, limits.max_search_attribute_value_bytes)
            except Unfit as unfit:
                fields.fault(name, f"The search attribute [{key}] {unfit}")
    fields.without_nul(name)
    return found
