"""What one transition of a schedule writes, and how a batch of them becomes the arguments of its statement.

The same kind of commit as that of runs (`store.commit.group`): many schedules, one statement; a write whose version no longer
matches stores nothing and does not touch the others. Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter

from store.columns import Column, Int8, columns_of, listed
from store.commit.given import APPLIED, RECEIVED, SENT, Given, Source
from store.commit.statement import unnested
from store.commit.writes import AppliedCommand, MessageRow
from store.sql import beside, filled


@dataclass(slots=True)
class AuditRow:
    """A row of `schedule_events`. `payload` is JSON text."""

    sequence: Int8
    event_id: str
    event_type: str
    payload: bytes
    recorded_at: Int8
    workflow_instance_id: str | None
    workflow_run_id: str | None


@dataclass(slots=True)
class ScheduleRow:
    """The columns of a schedule that every commit writes; `definition` None leaves the stored one."""

    status: str
    created_at: Int8
    updated_at: Int8
    wake_at: Int8 | None
    last_sequence: Int8
    published_sequence: Int8
    state: bytes
    definition: bytes | None


@dataclass(slots=True)
class ScheduleWrite:
    """Everything one schedule changes in one commit: stored whole, or not at all.

    `expected_version` 0 creates the row, which must not be there; otherwise the row's version must equal it. The new version is
    `expected_version + 1`.
    """

    schedule_key: str
    shard: int
    namespace: str
    schedule_id: str
    expected_version: int
    row: ScheduleRow
    events: list[AuditRow] = field(default_factory=list)
    sent: list[MessageRow] = field(default_factory=list)
    received: list[str] = field(default_factory=list)  # ids of messages applied by this commit
    applied: list[AppliedCommand] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes it writes, roughly."""
        return len(self.row.state) + len(self.row.definition or b"") + sum(len(message.body) for message in self.sent)


_I = Column("i", "int4")
_KEYS = [Source("schedule_key", "text", "schedule_key"), Source("shard", "int4", "shard")]
_NAMES = [Source(name, "text", name) for name in ("namespace", "schedule_id")]
_VERSION = [Source("version", "int8", "expected_version")]
_ROW = columns_of(ScheduleRow)

WRITES = Given([_I], [*_KEYS, *_NAMES, *_VERSION, *[Source(each.name, each.kind, f"row.{each.name}") for each in _ROW]])
EVENTS = Given([_I, Column("schedule_key", "text")], [Source(each.name, each.kind, each.name) for each in columns_of(AuditRow)])

_PARTS = beside(__file__, "schedules")
_LISTS = {
    "row": listed(_ROW),
    "row_set": listed(
        [each for each in _ROW if each.name not in ("published_sequence", "definition")], "{0} = u.{0}", ",\n        "
    ),
    "event": listed(columns_of(AuditRow)),
    "mail": listed(SENT.columns[1:]),
}


@cache
def statement() -> str:
    """The statement, for one array per column of `WRITES`, `EVENTS`, `SENT`, `RECEIVED`, `APPLIED`; returns who won."""
    groups = {"writes": WRITES, "events": EVENTS, "sent": SENT, "received": RECEIVED, "applied": APPLIED}
    return filled(_PARTS["commit"], **_LISTS, **unnested(groups))


_KEY = itemgetter(WRITES.index("schedule_key"))


def encode(writes: Sequence[ScheduleWrite]) -> tuple[str, list[Sequence[object]]]:
    """The statement for these writes and its arguments; rows are ordered by what they lock."""
    rows: dict[Given, list[tuple[object, ...]]] = {each: [] for each in (WRITES, EVENTS, SENT, RECEIVED, APPLIED)}
    for i, write in enumerate(writes):
        rows[WRITES].append(WRITES.row(i, write))
        rows[EVENTS] += [EVENTS.row(i, write.schedule_key, event) for event in write.events]
        rows[SENT] += [SENT.row(i, message) for message in write.sent]
        rows[RECEIVED] += [(i, message_id) for message_id in write.received]
        rows[APPLIED] += [APPLIED.row(i, command) for command in write.applied]
    rows[WRITES].sort(key=_KEY)
    args: list[Sequence[object]] = []
    for given, found in rows.items():
        args += list(zip(*found, strict=True)) if found else [()] * len(given.columns)
    return statement(), args


def check(write: ScheduleWrite) -> None:
    """Raise `ValueError` for a write that no statement can express."""
    if not write.expected_version and write.row.definition is None:
        raise ValueError(f"the write that creates schedule {write.schedule_key} has no definition")
