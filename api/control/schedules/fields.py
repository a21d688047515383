"""The bodies of requests to schedules (control-plane 11, operations 1.1, 1.6 to 1.8). Readers raise ValidationFailed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from actors.schedule.state import OVERLAP_POLICIES
from actors.visibility.values import moment
from api.control.annotations import read_search_attributes, schedule_memo
from api.control.schedules.spec_fields import read_action, read_spec
from api.control.workflows.start import WORKFLOW_ID
from api.http.errors import ApiError
from api.http.input.fields import Fields
from api.http.input.ids import new_ulid
from api.settings import Settings

LONGEST_ID = 128
LONGEST_NOTE = 1000
MOST_JITTER_SECONDS = 3600
MOST_RUNS = 1_000_000_000
LONGEST_CATCHUP_SECONDS = 366 * 86_400

DEFAULT_LIMIT = 100
MOST_LIMIT = 500

_LONGEST_TIME = 64
_LAST_SEQUENCE = (1 << 63) - 1
_EARLIEST = 0  # 1970, before which no times are written
_LATEST = 253_402_300_799_999_999  # the end of 9999


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a create or an update says. None: not said. `memo` and `search_attributes` may be said to be empty."""

    spec: dict[str, Any] | None
    action: dict[str, Any] | None
    overlap_policy: str | None
    jitter_seconds: int | None
    max_runs: int | None
    catchup_window_seconds: int | None
    note: str | None
    memo: bytes | UnsetType
    search_attributes: dict[str, Any] | UnsetType


def read_wanted(fields: Fields, settings: Settings, *, whole: bool) -> Wanted:
    """The fields that create and update share; `whole`: all that a schedule must have are required.

    Raises ApiError 422 `memo_too_large`, too.
    """
    spec = read_spec(fields, required=whole)
    action = read_action(fields, whole=whole)
    policy = overlap_policy(fields)
    jitter = fields.integer("jitter_seconds", low=0, high=MOST_JITTER_SECONDS)
    max_runs = fields.integer("max_runs", low=1, high=MOST_RUNS)
    catchup = fields.integer("catchup_window_seconds", low=0, high=LONGEST_CATCHUP_SECONDS)
    note = read_note(fields)
    attributes: dict[str, Any] | UnsetType = read_search_attributes(fields, settings)
    if fields.raw("search_attributes") is None:
        attributes = UNSET
    memo = schedule_memo(fields, settings)
    return Wanted(spec, action, policy, jitter, max_runs, catchup, note, UNSET if memo is None else memo, attributes)


def read_schedule_id(fields: Fields) -> str:
    """The id a create asks for, else a new one (upper case, as all ids the server gives to named things)."""
    return fields.identifier("schedule_id", longest=LONGEST_ID, pattern=WORKFLOW_ID) or new_ulid().upper()


def is_schedule_id(text: str) -> bool:
    """Whether a schedule could have this id."""
    return len(text) <= LONGEST_ID and WORKFLOW_ID.match(text) is not None


def overlap_policy(fields: Fields, default: str | None = None) -> str | None:
    """`overlap_policy`, `default` when absent."""
    return fields.choice("overlap_policy", OVERLAP_POLICIES, default=default)


def read_note(fields: Fields) -> str | None:
    """`note`, None when absent or blank."""
    return fields.text("note", longest=LONGEST_NOTE)


def read_range(fields: Fields) -> tuple[int, int]:
    """`start_time` and `end_time` of a backfill, microseconds; 0 stands in for a faulty one, which is noted."""
    return _time(fields, "start_time"), _time(fields, "end_time")


def _time(fields: Fields, name: str) -> int:
    text = fields.text(name, required=True, longest=_LONGEST_TIME)
    if text is None:
        return 0
    at = moment(text)
    if at is None:
        fields.fault(name, f"The {name.replace('_', ' ')} field must be an ISO-8601 date-time.")
    elif not _EARLIEST <= at <= _LATEST:
        fields.fault(name, f"The {name.replace('_', ' ')} field must lie between the years 1970 and 9999.")
    return at or 0


def read_page(query: dict[str, str]) -> tuple[int, int]:
    """`limit` and `after_sequence` of an audit page (operations 1.11); raises ApiError 422 `invalid_after_sequence`."""
    limit = Fields(dict(query)).integer("limit", default=DEFAULT_LIMIT) or DEFAULT_LIMIT
    after = query.get("after_sequence", "").strip()
    if after and not (after.isascii() and after.isdigit() and int(after[:20]) <= _LAST_SEQUENCE and len(after) <= 19):
        text = "The after_sequence parameter must be an integer of at least 0."
        raise ApiError(422, "invalid_after_sequence", text)
    return min(limit, MOST_LIMIT) if limit > 0 else DEFAULT_LIMIT, int(after or 0)
