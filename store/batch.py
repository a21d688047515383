"""The statement of a group commit, and how a batch of `RunWrite`s becomes its arguments.

One statement of data-modifying CTEs over `unnest` arrays. Each row it is given carries `i`, the position of its write in
the batch. `changed` (compare-and-set on the version) and `created` tell which writes won; every other part stores only rows
of writes that won, so a conflict spoils one run and not the batch. All parts see the database as it was when the statement
began.

Plans are the same for a table of ten rows and of ten million only because the connection of `store.commit` forbids plans
that read whole tables. That is why the gates are `i = ANY (ARRAY(...))`, which needs no join.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import itemgetter

from store.writes import RunWrite

# Kinds of creation.
FIRST_RUN, NEXT_RUN, SUCCESSOR = 0, 1, 2

Columns = tuple[tuple[str, str], ...]

_MUTABLE: Columns = (
    ("status", "text"),
    ("closed_reason", "text"),
    ("closed_at", "int8"),
    ("last_progress_at", "int8"),
    ("wake_at", "int8"),
    ("last_sequence", "int8"),
    ("published_sequence", "int8"),
    ("state", "bytea"),
    ("search_attributes", "text"),
    ("first_sequence", "int8"),
    ("history", "bytea"),
)
_CHANGE: Columns = (("i", "int4"), ("run_id", "text"), ("version", "int8"), *_MUTABLE)
_CREATE: Columns = (
    ("i", "int4"),
    ("kind", "int4"),
    ("run_id", "text"),
    *_MUTABLE,
    ("run_key", "text"),
    ("shard", "int4"),
    ("namespace", "text"),
    ("workflow_id", "text"),
    ("run_number", "int4"),
    ("workflow_type", "text"),
    ("task_queue", "text"),
    ("business_key", "text"),
    ("compatibility", "text"),
    ("started_at", "int8"),
    ("memo", "bytea"),
)
_READY: Columns = (
    ("i", "int4"),
    ("task_id", "text"),
    ("shard", "int4"),
    ("namespace", "text"),
    ("queue", "text"),
    ("kind", "text"),
    ("type_name", "text"),
    ("compatibility", "text"),
    ("priority", "int4"),
    ("fairness_key", "text"),
    ("fairness_weight", "int4"),
    ("available_at", "int8"),
)
_UNREADY: Columns = (("i", "int4"), ("task_id", "text"))
_RECEIVED: Columns = (("i", "int4"), ("mail_id", "text"))
_SENT: Columns = (
    ("i", "int4"),
    ("mail_id", "text"),
    ("shard", "int4"),
    ("namespace", "text"),
    ("workflow_id", "text"),
    ("run_id", "text"),
    ("body", "bytea"),
)

_SQL_CHANGED = """
changed AS (
    UPDATE runs r
    SET version = r.version + 1,
        status = u.status,
        closed_reason = u.closed_reason,
        closed_at = u.closed_at,
        last_progress_at = u.last_progress_at,
        wake_at = u.wake_at,
        last_sequence = u.last_sequence,
        published_sequence = greatest(r.published_sequence, u.published_sequence),
        search_attributes = coalesce(u.search_attributes::jsonb, r.search_attributes),
        state = u.state
    FROM {change} AS u
    WHERE r.run_id = u.run_id AND r.version = u.version {mail_is_there}
    RETURNING u.i, u.run_id, u.first_sequence, u.last_sequence, u.history
)"""

# A first run needs the workflow id free; a next run needs its number to follow; a successor needs its predecessor to have won.
_SQL_CREATED = """
fresh AS MATERIALIZED (
    SELECT u.* FROM {create} AS u WHERE u.kind <> 2 OR u.i = ANY (ARRAY(SELECT i FROM changed))
),
claimed AS (
    INSERT INTO instances (workflow_id, namespace, workflow_type, shard, current_run_id, run_count)
    SELECT u.workflow_id, u.namespace, u.workflow_type, u.shard, u.run_id, 1
    FROM fresh u
    WHERE u.kind = 0 {mail_is_there}
    ON CONFLICT DO NOTHING
    RETURNING current_run_id AS run_id
),
moved AS (
    UPDATE instances s
    SET current_run_id = u.run_id, run_count = s.run_count + 1
    FROM fresh u
    WHERE s.workflow_id = u.workflow_id
        AND (u.kind = 2 OR (u.kind = 1 AND s.namespace = u.namespace AND s.run_count = u.run_number - 1 {mail_is_there}))
    RETURNING u.run_id
),
created AS MATERIALIZED (
    SELECT u.* FROM fresh u
    WHERE u.kind = 2 OR u.run_id = ANY (ARRAY(SELECT run_id FROM claimed UNION ALL SELECT run_id FROM moved))
),
born AS (
    INSERT INTO runs (
        run_id, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility,
        started_at, memo, version, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence,
        published_sequence, search_attributes, state
    )
    SELECT
        run_id, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility,
        started_at, memo, 1, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence,
        published_sequence, search_attributes::jsonb, state
    FROM created
),
won AS MATERIALIZED (
    SELECT i FROM changed UNION ALL SELECT i FROM created WHERE kind <> 2
),
recorded AS MATERIALIZED (
    SELECT run_id, first_sequence, last_sequence, history FROM changed
    UNION ALL
    SELECT run_id, first_sequence, last_sequence, history FROM created
)"""

_SQL_ONLY_CHANGED = """
won AS MATERIALIZED (SELECT i FROM changed),
recorded AS (SELECT run_id, first_sequence, last_sequence, history FROM changed)"""

_SQL_ROWS = """
history_added AS (
    INSERT INTO history (run_id, first_sequence, last_sequence, body)
    SELECT run_id, first_sequence, last_sequence, history FROM recorded WHERE first_sequence > 0
),
ready_added AS (
    INSERT INTO ready_tasks (
        task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at
    )
    SELECT
        task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at
    FROM {ready} AS u
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
    ON CONFLICT (task_id) DO UPDATE
    SET shard = excluded.shard,
        namespace = excluded.namespace,
        queue = excluded.queue,
        kind = excluded.kind,
        type_name = excluded.type_name,
        compatibility = excluded.compatibility,
        priority = excluded.priority,
        fairness_key = excluded.fairness_key,
        fairness_weight = excluded.fairness_weight,
        available_at = excluded.available_at
),
ready_taken AS (
    DELETE FROM ready_tasks t
    WHERE t.task_id = ANY (ARRAY(SELECT u.task_id FROM {unready} AS u WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
)"""

# A message that is gone was applied by an earlier commit: a write that applies it again is a conflict, whatever its version.
_SQL_MISSING = """
missing AS MATERIALIZED (
    SELECT u.i FROM {received} AS u WHERE NOT EXISTS (SELECT FROM mailbox b WHERE b.mail_id = u.mail_id)
)"""
_SQL_MAIL_IS_THERE = "AND u.i <> ALL (ARRAY(SELECT i FROM missing))"

_SQL_MAIL = """
mail_sent AS (
    INSERT INTO mailbox (mail_id, shard, namespace, workflow_id, run_id, body)
    SELECT mail_id, shard, namespace, workflow_id, run_id, body
    FROM {sent} AS u
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_applied AS (
    DELETE FROM mailbox b
    WHERE b.mail_id = ANY (ARRAY(SELECT u.mail_id FROM {received} AS u WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
)"""


@cache
def statement(creates: bool, mails: bool) -> str:
    """The commit statement, with or without the parts for creations and mail. Returns one array: the positions that won."""
    parts = [_SQL_CHANGED, _SQL_CREATED if creates else _SQL_ONLY_CHANGED, _SQL_ROWS]
    groups = {"change": _CHANGE, "ready": _READY, "unready": _UNREADY}
    if creates:
        groups["create"] = _CREATE
    if mails:
        parts = [_SQL_MISSING, *parts, _SQL_MAIL]
        groups |= {"sent": _SENT, "received": _RECEIVED}
    tables: dict[str, str] = {}
    number = 0
    for name, columns in groups.items():
        arrays = ", ".join(f"${number + k}::{kind}[]" for k, (_, kind) in enumerate(columns, start=1))
        number += len(columns)
        tables[name] = f"unnest({arrays})"
    text = "WITH" + ",".join(parts) + "\nSELECT ARRAY(SELECT i FROM won)"
    for name, table in tables.items():
        head = f"{table} AS u"
        names = ", ".join(column for column, _ in groups[name])
        text = text.replace(f"{{{name}}} AS u", f"{head}({names})")
    return text.replace("{mail_is_there}", _SQL_MAIL_IS_THERE if mails else "")


def encode(writes: Sequence[RunWrite]) -> tuple[str, list[Sequence[object]]]:
    """The statement for these writes and its arguments: one array per column, numbered as `statement` numbers them.

    Rows are ordered by what they lock, so that two nodes that write the same runs wait for each other instead of deadlocking.
    """
    change: list[tuple[object, ...]] = []
    create: list[tuple[object, ...]] = []
    ready: list[tuple[object, ...]] = []
    unready: list[tuple[object, ...]] = []
    sent: list[tuple[object, ...]] = []
    received: list[tuple[object, ...]] = []
    for i, write in enumerate(writes):
        if write.expected_version:
            change.append((i, write.run_id, write.expected_version, *_mutable(write)))
        else:
            create.append(_creation(i, FIRST_RUN if write.new_instance else NEXT_RUN, write))
        _add_rows(i, write, ready, unready, sent, received)
        successor = write.successor
        if successor is not None:
            create.append(_creation(i, SUCCESSOR, successor))
            _add_rows(i, successor, ready, unready, sent, received)
    if len(change) > 1:
        change.sort(key=_RUN_ID)
    if len(create) > 1:
        create.sort(key=_WORKFLOW_ID)
    creates, mails = bool(create), bool(sent or received)
    args = [*_transpose(change, _CHANGE), *_transpose(ready, _READY), *_transpose(unready, _UNREADY)]
    if creates:
        args += _transpose(create, _CREATE)
    if mails:
        args += _transpose(sent, _SENT)
        args += _transpose(received, _RECEIVED)
    return statement(creates, mails), args


_RUN_ID = itemgetter(1)
_WORKFLOW_ID = itemgetter([name for name, _ in _CREATE].index("workflow_id"))


def _transpose(rows: list[tuple[object, ...]], columns: Columns) -> Sequence[Sequence[object]]:
    return list(zip(*rows, strict=True)) if rows else [()] * len(columns)


def _mutable(write: RunWrite) -> tuple[object, ...]:
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


def _creation(i: int, kind: int, write: RunWrite) -> tuple[object, ...]:
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


def _add_rows(
    i: int,
    write: RunWrite,
    ready: list[tuple[object, ...]],
    unready: list[tuple[object, ...]],
    sent: list[tuple[object, ...]],
    received: list[tuple[object, ...]],
) -> None:
    kept: set[str] = set()
    if write.ready:
        for task in write.ready:
            ready.append(
                (
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
            )
            kept.add(task.task_id)
    if write.unready:
        # A task that is taken and made ready again in one commit stays: one statement cannot delete and insert the same row.
        unready += [(i, task_id) for task_id in write.unready if task_id not in kept]
    if write.sent:
        sent += [(i, mail.mail_id, mail.shard, mail.namespace, mail.workflow_id, mail.run_id, mail.body) for mail in write.sent]
    if write.received:
        received += [(i, mail_id) for mail_id in write.received]


def check(write: RunWrite) -> None:
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
