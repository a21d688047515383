"""The commit of schedules: all of a write or nothing, and a conflict spoils no other write of its batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from store import applied, run_messages, schedules
from store.commit.group import ScheduleCommit
from store.commit.schedule_writes import AuditRow, ScheduleRow, ScheduleWrite
from store.commit.writes import AppliedCommand
from store.connections.pool import Database
from tests.store.build import NOW, message

KEYS = [f"{number:026d}" for number in range(5)]


@pytest.fixture
async def commits(db: Database) -> AsyncIterator[ScheduleCommit]:
    made = ScheduleCommit(db.dsn)
    await made.start()
    yield made
    await made.stop()


def write(
    key: str,
    version: int,
    *,
    sequences: Sequence[int] = (),
    received: Sequence[str] = (),
    sent: Sequence[str] = (),
    key_of_command: str | None = None,
    definition: bytes | None = None,
    state: bytes = b"state",
) -> ScheduleWrite:
    row = ScheduleRow("active", NOW, NOW, NOW + 5, max(sequences, default=0), 0, state, definition)
    return ScheduleWrite(
        schedule_key=key,
        shard=3,
        namespace="default",
        schedule_id=f"s-{key}",
        expected_version=version,
        row=row,
        events=[AuditRow(each, f"e{each}", "ScheduleCreated", b"{}", NOW, None, None) for each in sequences],
        sent=[message(each, shard=-4) for each in sent],
        received=list(received),
        applied=[] if key_of_command is None else [AppliedCommand(key_of_command, b"answer")],
    )


def new(key: str, **more: object) -> ScheduleWrite:
    return write(key, 0, definition=b"definition", **more)  # type: ignore[arg-type]


async def test_a_write_is_stored_whole(db: Database, commits: ScheduleCommit) -> None:
    assert await commits.commit(new(KEYS[0], sequences=[1, 2], sent=["m1"], key_of_command="k1"))
    assert await commits.commit(write(KEYS[0], 1, sequences=[3], received=["m1"], state=b"two"))
    (stored,) = await schedules.load(db, [KEYS[0]])
    assert (stored.version, stored.state, stored.definition, stored.last_sequence) == (2, b"two", b"definition", 3)
    events = await schedules.events(db, KEYS[0], 0, 10)
    assert [event.sequence for event in events] == [1, 2, 3]
    assert await run_messages.pending(db, [3], 10) == []
    assert await applied.find(db, ["k1"]) == {"k1": b"answer"}
    assert await schedules.due(db, [3, 4], NOW + 5, 10) == [(KEYS[0], NOW + 5)]
    assert await schedules.due(db, [3], NOW + 4, 10) == []


async def test_what_loses_stores_nothing_and_spoils_no_other(db: Database, commits: ScheduleCommit) -> None:
    assert await commits.commit(new(KEYS[0], sequences=[1], key_of_command="k1"))
    assert await commits.commit(new(KEYS[1], sequences=[1]))
    assert await commits.commit(new(KEYS[2], sequences=[1]))
    lost = [
        new(KEYS[0], sequences=[2], sent=["n0"]),  # it is there
        write(KEYS[0], 5, sequences=[2], sent=["n1"]),  # another version
        write(KEYS[1], 1, sequences=[2], sent=["n2"], received=["gone"]),  # the message was applied
        write(KEYS[2], 1, sequences=[2], sent=["n3"], key_of_command="k1"),  # the command was
    ]
    outcomes = await asyncio.gather(*map(commits.commit, [*lost, new(KEYS[3], sequences=[1], sent=["yes"])]))
    assert outcomes == [False, False, False, False, True]
    assert [row.message_id for row in await run_messages.pending(db, [3], 10)] == ["yes"]
    assert [stored.version for stored in await schedules.load(db, KEYS)] == [1, 1, 1, 1]
    for key in KEYS[:3]:
        assert len(await schedules.events(db, key, 0, 10)) == 1


async def test_a_creation_needs_a_definition(commits: ScheduleCommit) -> None:
    with pytest.raises(ValueError, match="no definition"):
        commits.commit(write(KEYS[0], 0))


async def test_what_was_published_is_remembered_and_never_forgotten(db: Database, commits: ScheduleCommit) -> None:
    assert await commits.commit(new(KEYS[0], sequences=[1, 2, 3]))
    assert await schedules.unpublished(db, [3], 10) == [(KEYS[0], 0)]
    await schedules.mark_published(db, [(KEYS[0], 2)])
    await schedules.mark_published(db, [(KEYS[0], 1)])
    assert await schedules.unpublished(db, [3], 10) == [(KEYS[0], 2)]
    await schedules.mark_published(db, [(KEYS[0], 3)])
    assert await schedules.unpublished(db, [3], 10) == []
    assert await schedules.recorded_since(db, [3], NOW, None) == [(KEYS[0], 1)]
    assert await schedules.recorded_since(db, [3], NOW, "other") == []
    assert await schedules.waiting_since_later(db, [3], NOW - 1) == [KEYS[0]]
    assert await schedules.waiting_since_later(db, [3], NOW) == []
