"""References to payloads outside the database: their form, and what makes one unacceptable (operations 8.2, 8.3). Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from actors.payload_storage.location import Location
from actors.run.times import Micros

SCHEMA = "durable-workflow.v2.external-payload-reference.v1"
LONGEST_URI = 4096

_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")


def faults_of(reference: Any, codec: str, location: Location | None, now: Micros) -> dict[str, str]:
    """What is wrong with a reference, by the member it is wrong with ("" for the whole); nothing is fetched.

    `codec`: of the envelope; `location`: where the namespace's payloads lie, None while it has no usable storage.
    """
    if not isinstance(reference, dict):
        return {"": "The external storage field must be an object."}
    found: dict[str, str] = {}
    if reference.get("codec", codec if location is None else None) != codec:
        found["codec"] = "The reference has another codec than its envelope."
    if location is None:
        return found or {"": "External payload references need an external storage driver, which this namespace has not."}
    if reference.get("schema") != SCHEMA:
        found["schema"] = f"The schema must be {SCHEMA}."
    sha256, size, uri = reference.get("sha256"), reference.get("size_bytes"), reference.get("uri")
    if not isinstance(sha256, str) or not _SHA256.match(sha256):
        found["sha256"] = "The sha256 must be 64 hexadecimal digits."
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 63:
        found["size_bytes"] = "The size must be a number of bytes, 0 or more."
    if not isinstance(uri, str) or not uri or len(uri) > LONGEST_URI:
        found["uri"] = f"The uri must be a text of at most {LONGEST_URI} characters."
    elif location.key_of(uri) is None:
        found["uri"] = "The uri lies outside the external storage of the namespace."
    if reference.get("expires_at") is not None and (fault := _expiry(reference["expires_at"], now)):
        found["expires_at"] = fault
    return found


def _expiry(value: Any, now: Micros) -> str | None:
    if not isinstance(value, str) or not _TIME.match(value):
        return "The time must be RFC 3339 with a zone."
    try:
        at = datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
    except ValueError:
        return "The time must be RFC 3339 with a zone."
    return "The reference has expired." if at.timestamp() * 1e6 <= now else None
