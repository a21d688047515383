"""The statement of a group commit.

One statement of data-modifying CTEs over `unnest` arrays. Each row it is given carries `i`, the position of its write in
the batch. `changed` (compare-and-set on the version) and `created` tell which writes won; every other part stores only rows
of writes that won, so a conflict spoils one run and not the batch. All parts see the database as it was when the statement
began.

A plan is made once, perhaps for empty tables, and must serve ten million rows. So the connection of `store.commit.group`
forbids what reads whole tables, and the text leaves the planner one way only: the gates `i = ANY (ARRAY(...))` need no join;
`key = ANY (ARRAY[u.key])` can be nothing but a look-up by `u`'s row, unlike `key = u.key`; and no second index holds the key.
"""

from __future__ import annotations

from functools import cache

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
CHANGE: Columns = (("i", "int4"), ("run_id", "text"), ("version", "int8"), *_MUTABLE)
CREATE: Columns = (
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
READY: Columns = (
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
UNREADY: Columns = (("i", "int4"), ("task_id", "text"))
RECEIVED: Columns = (("i", "int4"), ("mail_id", "text"))
SENT: Columns = (
    ("i", "int4"),
    ("mail_id", "text"),
    ("shard", "int4"),
    ("namespace", "text"),
    ("workflow_id", "text"),
    ("run_id", "text"),
    ("body", "bytea"),
)

APPLIED: Columns = (("i", "int4"), ("command_key", "text"), ("answer", "bytea"))
REQUESTS: Columns = (
    ("i", "int4"),
    ("workflow_id", "text"),
    ("request_id", "text"),
    ("run_id", "text"),
    ("update_id", "text"),
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
    WHERE r.run_id = ANY (ARRAY[u.run_id]) AND r.version = u.version {may_win}
    RETURNING
        u.i, u.run_id, u.first_sequence, u.last_sequence, u.history, u.wake_at,
        r.published_sequence < u.last_sequence AS unpublished
),
marked AS (
    UPDATE run_marks m
    SET wake_at = u.wake_at, unpublished = u.unpublished
    FROM changed u
    WHERE m.run_id = ANY (ARRAY[u.run_id])
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
    WHERE u.kind = 0 {may_win}
    ON CONFLICT DO NOTHING
    RETURNING current_run_id AS run_id
),
moved AS (
    UPDATE instances s
    SET current_run_id = u.run_id, run_count = s.run_count + 1
    FROM fresh u
    WHERE s.workflow_id = ANY (ARRAY[u.workflow_id])
        AND (u.kind = 2 OR (u.kind = 1 AND s.namespace = u.namespace AND s.run_count = u.run_number - 1 {may_win}))
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
born_marks AS (
    INSERT INTO run_marks (run_id, shard, wake_at, unpublished)
    SELECT run_id, shard, wake_at, published_sequence < last_sequence FROM created
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
    SELECT u.i FROM {received} AS u WHERE (SELECT true FROM mailbox b WHERE b.mail_id = u.mail_id) IS NULL
)"""
_MAIL_IS_THERE = "AND u.i <> ALL (ARRAY(SELECT i FROM missing))"

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

# A request id that is taken makes its write a conflict.
_SQL_TAKEN = """
taken AS MATERIALIZED (
    SELECT u.i FROM {requests} AS u WHERE (
        SELECT true FROM update_requests q WHERE q.workflow_id = u.workflow_id AND q.request_id = u.request_id
    )
)"""
_NOT_TAKEN = "AND u.i <> ALL (ARRAY(SELECT i FROM taken))"

_SQL_REQUESTS = """
requests_noted AS (
    INSERT INTO update_requests (workflow_id, request_id, run_id, update_id)
    SELECT workflow_id, request_id, run_id, update_id
    FROM {requests} AS u
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
)"""

# So does a command that was applied before, whatever the version: in this run or in one before it.
_SQL_REPEATED = """
repeated AS MATERIALIZED (
    SELECT u.i FROM {applied} AS u WHERE (SELECT true FROM applied_commands c WHERE c.command_key = u.command_key)
)"""
_NOT_REPEATED = "AND u.i <> ALL (ARRAY(SELECT i FROM repeated))"

_SQL_APPLIED = """
applied AS (
    INSERT INTO applied_commands (command_key, answer)
    SELECT command_key, answer FROM {applied} AS u WHERE answer IS NOT NULL AND u.i = ANY (ARRAY(SELECT i FROM won))
)"""


@cache
def statement(creates: bool, mails: bool, requests: bool, applied: bool) -> str:
    """The commit statement, with or without the parts for creations, mail, update requests and keys of commands.

    Returns one array: the positions that won.
    """
    parts = [_SQL_CHANGED, _SQL_CREATED if creates else _SQL_ONLY_CHANGED, _SQL_ROWS]
    gates: list[str] = []
    groups = {"change": CHANGE, "ready": READY, "unready": UNREADY}
    if creates:
        groups["create"] = CREATE
    if mails:
        parts = [_SQL_MISSING, *parts, _SQL_MAIL]
        groups |= {"sent": SENT, "received": RECEIVED}
        gates.append(_MAIL_IS_THERE)
    if requests:
        parts = [_SQL_TAKEN, *parts, _SQL_REQUESTS]
        groups["requests"] = REQUESTS
        gates.append(_NOT_TAKEN)
    if applied:
        parts = [_SQL_REPEATED, *parts, _SQL_APPLIED]
        groups["applied"] = APPLIED
        gates.append(_NOT_REPEATED)
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
    return text.replace("{may_win}", " ".join(gates))
