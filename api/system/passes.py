"""What the maintenance passes share: their fields and the form of their reports (control-plane 12.3 to 12.5)."""

from __future__ import annotations

from typing import Any

from api.http.input.fields import Fields, label
from api.http.response import Response

SCAN_LIMIT = 100
_LONGEST_ID = 128


def scan_limit(fields: Fields) -> int:
    """`limit`: at least 1, capped, by default as many as one pass may take."""
    return min(fields.integer("limit", low=1) or SCAN_LIMIT, SCAN_LIMIT)


def id_list(fields: Fields, name: str) -> list[str] | None:
    """A list of up to 100 ids of 1 to 128 characters; None when it was not sent."""
    sent = fields.items(name)
    if sent is None:
        return None
    if len(sent) > SCAN_LIMIT:
        fields.fault(name, f"The {label(name)} field must not have more than {SCAN_LIMIT} items.")
        return None
    before = len(fields.errors)
    found = fields.strings(name, longest=_LONGEST_ID) or []
    if len(found) < len(sent) and len(fields.errors) == before:
        fields.fault(name, f"The {label(name)} field must not have blank items.")
    return found


def answer(results: list[dict[str, Any]], done: str) -> Response:
    """The report of a pass over `results`, of which those with the outcome `done` had an effect: 207 when one failed."""
    outcomes = [result["outcome"] for result in results]
    failed = outcomes.count("error")
    body = {
        "processed": len(results),
        done: outcomes.count(done),
        "skipped": outcomes.count("skipped"),
        "failed": failed,
        "results": results,
    }
    return Response(207 if failed else 200, body)
