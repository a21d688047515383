-- The commit statement in parts: a list of data-modifying CTEs over arrays, put together by store/commit/statement.py, which
-- also says why they are written as they are. `{change}`, `{ready}` ... stand for what unnests the arrays of that name,
-- `{may_win}` for the gates of the parts that can make a write a conflict; lists of columns come from the rows' dataclasses.
-- How they look put together: tests/store/golden/.

-- name: changed
-- Compare-and-set on the version of each run: what it returns has won. `run_marks` follows, under the lock of the row
-- in `runs`.
changed AS (
    UPDATE runs r
    SET version = r.version + 1,
        {run_set},
        published_sequence = greatest(r.published_sequence, u.published_sequence),
        search_attributes = coalesce(u.search_attributes::jsonb, r.search_attributes)
    FROM {change}
    WHERE r.run_id = ANY (ARRAY[u.run_id]) AND r.version = u.version {may_win}
    RETURNING
        u.i, u.run_id, u.first_sequence, u.last_sequence, u.history, u.wake_at, u.leases,
        r.published_sequence < u.last_sequence AS unpublished
),
marked AS (
    UPDATE run_marks m
    SET wake_at = u.wake_at, unpublished = u.unpublished, leases = u.leases
    FROM changed u
    WHERE m.run_id = ANY (ARRAY[u.run_id])
)

-- name: created
-- New runs. `kind` 0: a first run, which needs the workflow id free; 1: a next run, whose number must follow; 2: a successor,
-- whose predecessor must have won.
fresh AS MATERIALIZED (
    SELECT u.* FROM {create} WHERE u.kind <> 2 OR u.i = ANY (ARRAY(SELECT i FROM changed))
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
    INSERT INTO runs (run_id, version, {run_identity}, {run_row}, search_attributes)
    SELECT run_id, 1, {run_identity}, {run_row}, search_attributes::jsonb
    FROM created
),
born_marks AS (
    INSERT INTO run_marks (run_id, shard, wake_at, unpublished, leases)
    SELECT run_id, shard, wake_at, published_sequence < last_sequence, leases FROM created
),
won AS MATERIALIZED (
    SELECT i FROM changed UNION ALL SELECT i FROM created WHERE kind <> 2
),
recorded AS MATERIALIZED (
    SELECT run_id, first_sequence, last_sequence, history FROM changed
    UNION ALL
    SELECT run_id, first_sequence, last_sequence, history FROM created
)

-- name: only_changed
-- What `created` ends with, for a batch that creates nothing.
won AS MATERIALIZED (SELECT i FROM changed),
recorded AS (SELECT run_id, first_sequence, last_sequence, history FROM changed)

-- name: rows
-- History and ready tasks of the writes that won.
history_added AS (
    INSERT INTO history (run_id, first_sequence, last_sequence, body)
    SELECT run_id, first_sequence, last_sequence, history FROM recorded WHERE first_sequence > 0
),
ready_added AS (
    INSERT INTO ready_tasks ({ready_task})
    SELECT {ready_task}
    FROM {ready}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
    ON CONFLICT (task_id) DO UPDATE
    SET {ready_task_set}
),
ready_taken AS (
    DELETE FROM ready_tasks t
    WHERE t.task_id = ANY (ARRAY(SELECT u.task_id FROM {unready} WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
)

-- name: missing
-- A message that is gone was applied by an earlier commit: a write that applies it again is a conflict, whatever its version.
missing AS MATERIALIZED (
    SELECT u.i FROM {received} WHERE (SELECT true FROM mailbox b WHERE b.mail_id = u.mail_id) IS NULL
)

-- name: mail
-- Messages that were sent, and those that were applied, by the writes that won.
mail_sent AS (
    INSERT INTO mailbox ({mail})
    SELECT {mail}
    FROM {sent}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_applied AS (
    DELETE FROM mailbox b
    WHERE b.mail_id = ANY (ARRAY(SELECT u.mail_id FROM {received} WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
)

-- name: taken
-- A request id that is taken makes its write a conflict.
taken AS MATERIALIZED (
    SELECT u.i FROM {requests} WHERE (
        SELECT true FROM update_requests q WHERE q.workflow_id = u.workflow_id AND q.request_id = u.request_id
    )
)

-- name: requests
-- Request ids of the updates that were accepted.
requests_noted AS (
    INSERT INTO update_requests (workflow_id, request_id, run_id, update_id)
    SELECT workflow_id, request_id, run_id, update_id
    FROM {requests}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
)

-- name: repeated
-- A command that was applied before makes its write a conflict, whatever the version: in this run or in one before it.
repeated AS MATERIALIZED (
    SELECT u.i FROM {applied} WHERE (SELECT true FROM applied_commands c WHERE c.command_key = u.command_key)
)

-- name: applied
-- Commands that were applied and what they were answered.
applied AS (
    INSERT INTO applied_commands (command_key, answer)
    SELECT command_key, answer FROM {applied} WHERE answer IS NOT NULL AND u.i = ANY (ARRAY(SELECT i FROM won))
)

-- name: occupied
-- A place that somebody has makes its write a conflict. Where two nodes take it at once neither sees the other's here: the primary
-- key lets one of the statements through, and the writes of the other go once more, each alone.
occupied AS MATERIALIZED (
    SELECT u.i FROM {permits} WHERE (
        SELECT true FROM admission_permits p WHERE p.scope = u.scope AND p.number = u.number
    )
)

-- name: permits
-- Places taken by leases that are granted, and given back by those that ended.
permits_taken AS (
    INSERT INTO admission_permits ({permit})
    SELECT {permit}
    FROM {permits}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
permits_freed AS (
    DELETE FROM admission_permits p
    USING {freed}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
        AND p.scope = ANY (ARRAY[u.scope]) AND p.number = ANY (ARRAY[u.number]) AND p.run_id = u.run_id
)
