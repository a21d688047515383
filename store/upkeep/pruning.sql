-- Statements of store/upkeep/pruning.py.

-- name: expired
-- Closed runs of a namespace ($1) with an end in [$2, $3), earliest first, $5 at most; of the shards whose two characters in ids are
-- in $4, NULL: of all. Enters the index of ends where the last look stopped, so that what was deleted since is not walked over.
SELECT s.run_id, s.ended_at
FROM run_status s
WHERE s.namespace = $1 AND s.ended_at >= $2 AND s.ended_at < $3 AND NOT s.kept
    AND ($4::text[] IS NULL OR substr(s.run_id, 11, 2) = ANY ($4))
ORDER BY s.ended_at
LIMIT $5

-- name: looked_at
-- What decides whether runs may be pruned: `state` says whether one is archived.
SELECT run_id, namespace, version, closed_reason IS NULL AS is_open, published_sequence < last_sequence AS unpublished, state
FROM runs
WHERE run_id = ANY ($1)

-- name: kept
-- Archived runs ($1) are not looked at again.
UPDATE run_status s
SET kept = true
FROM runs r
WHERE r.run_id = ANY ($1) AND s.namespace = r.namespace AND s.ended_at = r.closed_at AND s.run_id = r.run_id

-- name: prune
-- Runs ($1) at these versions ($2) go with all they have, and leave a bare row: one statement, all of it or nothing. A run that
-- changed since it was looked at (it was archived), or is locked by whoever prunes it just now, is left alone; so nobody waits here
-- and no lock is waited for in a circle. Group commits lock runs in the order of their ids, as this does.
WITH chosen AS MATERIALIZED (
    SELECT r.run_id
    FROM unnest($1::text[], $2::int8[]) AS u(run_id, version)
    JOIN runs r ON r.run_id = ANY (ARRAY[u.run_id]) AND r.version = u.version
    WHERE r.closed_reason IS NOT NULL AND r.published_sequence >= r.last_sequence
    ORDER BY r.run_id
    FOR UPDATE OF r SKIP LOCKED
),
gone AS (
    DELETE FROM runs r
    WHERE r.run_id = ANY (ARRAY(SELECT run_id FROM chosen))
    RETURNING r.*
),
bare AS (
    INSERT INTO pruned_runs (
        started_at, closed_at, run_number, chained, run_id, namespace, workflow_id, workflow_type, task_queue, business_key,
        compatibility, status, closed_reason
    )
    SELECT
        g.started_at, coalesce(g.closed_at, g.last_progress_at), g.run_number,
        coalesce((SELECT i.run_count > 1 FROM instances i WHERE i.workflow_id = g.workflow_id), true),
        g.run_id, g.namespace, g.workflow_id, g.workflow_type, g.task_queue, g.business_key, g.compatibility, g.status,
        g.closed_reason
    FROM gone g
),
marks AS (
    DELETE FROM run_marks m WHERE m.run_id = ANY (ARRAY(SELECT run_id FROM chosen))
),
events AS (
    DELETE FROM history h WHERE h.run_id = ANY (ARRAY(SELECT run_id FROM chosen))
),
requests AS (
    DELETE FROM update_requests q
    USING gone g
    WHERE q.workflow_id = ANY (ARRAY[g.workflow_id]) AND q.run_id = g.run_id
    RETURNING q.run_id
)
SELECT
    g.run_id, g.last_sequence, g.memo <> '{}' AS has_memo,
    CASE WHEN g.search_attributes <> '{}' THEN (SELECT count(*) FROM jsonb_object_keys(g.search_attributes)) ELSE 0 END,
    (SELECT count(*) FROM requests q WHERE q.run_id = g.run_id)
FROM gone g
