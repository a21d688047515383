"""How a batch of `WriteSet`s becomes the arguments of the commit statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from store.commit.given import (
    APPLIED,
    CHANGE,
    CREATE,
    FIRST_RUN,
    FREED,
    NEXT_RUN,
    PERMITS,
    READY,
    RECEIVED,
    REQUESTS,
    SENT,
    SUCCESSOR,
    UNREADY,
    Given,
)
from store.commit.statement import statement
from store.commit.writes import WriteSet

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
            change.append(CHANGE.row(i, write))
        else:
            create.append(CREATE.row(i, FIRST_RUN if write.new_instance else NEXT_RUN, write))
        others.add(i, write)
        successor = write.successor
        if successor is not None:
            create.append(CREATE.row(i, SUCCESSOR, successor))
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
    permits = bool(others.permits or others.freed)
    if permits:
        others.permits.sort(key=_PLACE)
        args += _transpose(others.permits, PERMITS)
        args += _transpose(others.freed, FREED)
    return statement(creates, messages, bool(others.requests), bool(others.applied), permits), args


_RUN_ID = itemgetter(CHANGE.index("run_id"))
_WORKFLOW_ID = itemgetter(CREATE.index("workflow_id"))
_PLACE = itemgetter(PERMITS.index("scope"), PERMITS.index("number"))


def _transpose(rows: Rows, given: Given) -> Sequence[Sequence[object]]:
    return list(zip(*rows, strict=True)) if rows else [()] * len(given.columns)


@dataclass(slots=True)
class _Others:
    """The rows of a batch that are not runs."""

    ready: Rows = field(default_factory=list)
    unready: Rows = field(default_factory=list)
    sent: Rows = field(default_factory=list)
    received: Rows = field(default_factory=list)
    requests: Rows = field(default_factory=list)
    applied: Rows = field(default_factory=list)
    permits: Rows = field(default_factory=list)
    freed: Rows = field(default_factory=list)

    def add(self, i: int, write: WriteSet) -> None:
        if write.ready:
            self.ready += [READY.row(i, task) for task in write.ready]
        if write.unready:
            # A task taken and made ready again in one commit stays: one statement cannot delete and insert the same row.
            kept = {task.task_id for task in write.ready}
            self.unready += [(i, task_id) for task_id in write.unready if task_id not in kept]
        if write.sent:
            self.sent += [SENT.row(i, message) for message in write.sent]
        if write.received:
            self.received += [(i, message_id) for message_id in write.received]
        if write.requests:
            self.requests += [REQUESTS.row(i, write.run_id, request) for request in write.requests]
        if write.applied:
            self.applied += [APPLIED.row(i, command) for command in write.applied]
        if write.permits:
            self.permits += [PERMITS.row(i, permit) for permit in write.permits]
        if write.freed:
            self.freed += [(i, scope, number, write.run_id) for scope, number in write.freed]


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
