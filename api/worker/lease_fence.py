"""What a worker's calls about a leased task share: who holds it with which attempt, and how the work failed.

Contract: worker-protocol 4.7, 4.10, 7.4, 8.2, 8.3.
"""

from __future__ import annotations

from api.http.input.fields import Fields

_MAX_ATTEMPT = 2_147_483_647


def guard(fields: Fields, attempt_field: str) -> tuple[str, int]:
    """`lease_owner` and the attempt, the fence of workflow and query tasks; faults are noted."""
    owner = fields.required_text("lease_owner")
    attempt = fields.integer(attempt_field, low=1, high=_MAX_ATTEMPT, required=True)
    return owner, attempt or 0


def read_failure(fields: Fields) -> tuple[Fields, str]:
    """A reader of the required object `failure`, and its required message; faults are noted."""
    failure = fields.nested("failure")
    if failure is not None:
        return failure, failure.free_text("message", required=True) or ""
    if "failure" not in fields.errors:
        fields.missing("failure")
    return Fields({}, "failure.", fields.errors), ""
