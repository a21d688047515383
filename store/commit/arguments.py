"""How a batch of `WriteSet`s becomes the arguments of the commit statement."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from store.commit.statement import (
    APPLIED,
    CHANGE,
    CREATE,
    FIRST_RUN,
    NEXT_RUN,
    READY,
    RECEIVED,
    REQUESTS,
    SENT,
    SUCCESSOR,
    UNREADY,
    Columns,
    statement,
)
from store.commit.writes import ReadyTaskRow, WriteSet

Rows = list[tuple[object, ...]]


def encode(writes: Sequence[WriteSet]) -> tuple[str, list[Sequence[object]]]:
    """The statement for these writes and its arguments: one array per column, numbered as `statement` numbers them.

    Rows are ordered by what they lock, so that two nodes that write the same runs wait for each other instead of deadlocking.
    """
    change: Rows = []
    create: Rows = []
    others = _Others()
    for i, write in enumerate(writes):
        if write.expected_version:
            change.append((i, write.run_id, write.expected_version, *_mutable(write)))
        else:
            create.append(_creation(i, FIRST_RUN if write.new_instance else NEXT_RUN, write))
        others.add(i, write)
        successor = write.successor
        if successor is not None:
            create.append(_creation(i, SUCCESSOR, successor))
            others.add(i, successor)
    if len(change) > 1:
        change.sort(key=_RUN_ID)
    if len(create) > 1:
        create.sort(key=_WORKFLOW_ID)
    creates, messages = bool(create), bool(others.sent or others.received)
    args = [*_transpose(change, CHANGE), *_transpose(others.ready, READY), *_transpose(others.unready, UNREADY)]
    if creates:
        args += _transpose(create, CREATE)
    if messages:
        args += _transpose(others.sent, SENT)
        args += _transpose(others.received, RECEIVED)
    if others.requests:
        args += _transpose(others.requests, REQUESTS)
    if others.applied:
        args += _transpose(others.applied, APPLIED)
    return statement(creates, messages, bool(others.requests), bool(others.applied)), args


_RUN_ID = itemgetter(1)
_WORKFLOW_ID = itemgetter([name for name, _ in CREATE].index("workflow_id"))


def _transpose(rows: Rows, columns: Columns) -> Sequence[Sequence[object]]:
    return list(zip(*rows, strict=True)) if rows else [()] * len(columns)


def _mutable(write: WriteSet) -> tuple[object, ...]:
    row = write.row
    attributes = row.search_attributes
    return (
        row.status,
        row.closed_reason,
        row.closed_at,
        row.last_progress_at,
        row.wake_at,
        row.last_sequence,
        row.published_sequence,
        row.state,
        None if attributes is None else attributes.decode(),
        write.first_sequence,
        write.history,
    )


def _creation(i: int, kind: int, write: WriteSet) -> tuple[object, ...]:
    identity = write.identity
    if identity is None:
        raise ValueError(f"the write that creates run {write.run_id} has no identity")
    row = write.row
    return (
        i,
        kind,
        write.run_id,
        row.status,
        row.closed_reason,
        row.closed_at,
        row.last_progress_at,
        row.wake_at,
        row.last_sequence,
        row.published_sequence,
        row.state,
        (identity.search_attributes if row.search_attributes is None else row.search_attributes).decode(),
        write.first_sequence,
        write.history,
        identity.run_key,
        identity.shard,
        identity.namespace,
        identity.workflow_id,
        identity.run_number,
        identity.workflow_type,
        identity.task_queue,
        identity.business_key,
        identity.compatibility,
        identity.started_at,
        identity.memo,
    )


class _Others:
    """The rows of a batch that are not runs."""

    __slots__ = ("applied", "ready", "received", "requests", "sent", "unready")

    def __init__(self) -> None:
        self.ready: Rows = []
        self.unready: Rows = []
        self.sent: Rows = []
        self.received: Rows = []
        self.requests: Rows = []
        self.applied: Rows = []

    def add(self, i: int, write: WriteSet) -> None:
        if write.ready:
            self.ready += [_ready(i, task) for task in write.ready]
        if write.unready:
            # A task taken and made ready again in one commit stays: one statement cannot delete and insert the same row.
            kept = {task.task_id for task in write.ready}
            self.unready += [(i, task_id) for task_id in write.unready if task_id not in kept]
        if write.sent:
            self.sent += [(i, m.message_id, m.shard, m.namespace, m.workflow_id, m.run_id, m.body) for m in write.sent]
        if write.received:
            self.received += [(i, message_id) for message_id in write.received]
        if write.requests:
            self.requests += [(i, r.workflow_id, r.request_id, write.run_id, r.update_id) for r in write.requests]
        if write.applied:
            self.applied += [(i, command.key, command.answer) for command in write.applied]


def _ready(i: int, task: ReadyTaskRow) -> tuple[object, ...]:
    return (
        i,
        task.task_id,
        task.shard,
        task.namespace,
        task.queue,
        task.kind,
        task.type_name,
        task.compatibility,
        task.priority,
        task.fairness_key,
        task.fairness_weight,
        task.available_at,
    )


def check(write: WriteSet) -> None:
    """Raise `ValueError` for a write that no statement can express."""
    if not write.expected_version and write.identity is None:
        raise ValueError(f"the write that creates run {write.run_id} has no identity")
    successor = write.successor
    if successor is None:
        return
    if not write.expected_version:
        raise ValueError(f"run {write.run_id} cannot be created and followed by {successor.run_id} in one commit")
    if successor.expected_version or successor.identity is None or successor.successor is not None:
        raise ValueError(f"the successor {successor.run_id} of run {write.run_id} must be a plain creation")
