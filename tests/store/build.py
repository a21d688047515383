"""Builders of writes for the store's tests."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from store.commit.writes import MessageRow, ReadyTaskRow, RunIdentity, RunRow, WriteSet

NOW = 1_777_000_000_000_000


def events(first: int, count: int) -> bytes:
    return b"\n".join(b'{"sequence":%d}' % n for n in range(first, first + count))


def row(last_sequence: int, *, status: str = "waiting", wake_at: int | None = None, **changes: object) -> RunRow:
    values: dict[str, object] = {
        "closed_reason": None,
        "closed_at": None,
        "last_progress_at": NOW,
        "published_sequence": 0,
        "state": b"state-%d" % last_sequence,
    }
    values.update(changes)
    return RunRow(status=status, wake_at=wake_at, last_sequence=last_sequence, **values)  # type: ignore[arg-type]


def ready_task(task_id: str, *, queue: str = "q", priority: int = 5, available_at: int = NOW, shard: int = 2) -> ReadyTaskRow:
    return ReadyTaskRow(task_id, shard, "default", queue, "workflow", "Greeter", None, priority, None, 1, available_at)


def message(message_id: str, *, shard: int = 1) -> MessageRow:
    return MessageRow(message_id, shard, "default", "wf", None, b"hello")


@dataclass
class RunFixture:
    """A run under test: knows its ids, and the version and sequence a single writer would expect."""

    workflow_id: str = field(default_factory=lambda: "wf-" + secrets.token_hex(6))
    run_number: int = 1
    shard: int = 1
    namespace: str = "default"
    key: str = field(default_factory=lambda: secrets.token_hex(8)[:15])
    version: int = 0
    sequence: int = 0

    @property
    def run_id(self) -> str:
        return f"01kp2r0000{self.key}r"

    def task_id(self, number: int) -> str:
        return f"{number:010d}{self.key}t"

    def identity(self, **changes: object) -> RunIdentity:
        values: dict[str, object] = {
            "task_queue": "q",
            "business_key": None,
            "compatibility": None,
            "started_at": NOW,
            "memo": b'{"b": 1, "a": "\\u0000"}',
            "search_attributes": b'{"Region":"north"}',
        }
        values.update(changes)
        return RunIdentity(
            self.key,
            self.shard,
            self.namespace,
            self.workflow_id,
            self.run_number,
            workflow_type="Greeter",
            **values,  # type: ignore[arg-type]
        )

    def create(self, *, count: int = 2, new_instance: bool = True, **parts: object) -> WriteSet:
        """The write that creates this run with `count` events; other fields of `WriteSet` by name."""
        values: dict[str, object] = {"row": row(count, status="pending"), "identity": self.identity()}
        values.update(parts)
        return WriteSet(
            run_id=self.run_id,
            expected_version=0,
            new_instance=new_instance,
            first_sequence=1,
            history=events(1, count),
            **values,  # type: ignore[arg-type]
        )

    def change(self, *, count: int = 1, **parts: object) -> WriteSet:
        """The next write of this run as its single writer sees it: `count` further events."""
        values: dict[str, object] = {"row": row(self.sequence + count)}
        values.update(parts)
        return WriteSet(
            run_id=self.run_id,
            expected_version=self.version,
            first_sequence=self.sequence + 1 if count else 0,
            history=events(self.sequence + 1, count),
            **values,  # type: ignore[arg-type]
        )

    def stored(self, version: int, sequence: int) -> RunFixture:
        """Note what is stored now."""
        self.version, self.sequence = version, sequence
        return self
