-- Statements of store/upkeep/namespace_removal.py. Each looks in its own snapshot whether the namespace ($1) still is to be removed:
-- one that was made anew meanwhile keeps what it has, and what was there before is not seen any more by then.

-- name: runs
-- Up to $2 runs with all they have, open or not. A workflow id goes with the last of its runs, so that no other namespace can take it
-- while some are left. Runs that are written just now are left for the next time.
WITH chosen AS MATERIALIZED (
    SELECT r.run_id
    FROM runs r
    WHERE r.run_id = ANY (ARRAY(
        SELECT o.run_id FROM runs o
        WHERE o.namespace = $1 AND EXISTS (SELECT FROM namespaces n WHERE n.name = $1 AND n.status <> 'active')
        LIMIT $2
    ))
    ORDER BY r.run_id
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM runs r WHERE r.run_id = ANY (ARRAY(SELECT run_id FROM chosen)) RETURNING r.run_id, r.workflow_id
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
),
ids AS (
    DELETE FROM instances i
    WHERE i.workflow_id = ANY (ARRAY(SELECT workflow_id FROM gone)) AND i.namespace = $1
        AND NOT EXISTS (
            SELECT FROM runs r
            WHERE r.workflow_id = i.workflow_id AND r.run_id <> ALL (ARRAY(SELECT run_id FROM gone))
        )
        AND NOT EXISTS (SELECT FROM pruned_runs p WHERE p.workflow_id = i.workflow_id AND p.chained)
)
SELECT count(*) FROM gone

-- name: any_run
-- Whether a run is left.
SELECT EXISTS (
    SELECT FROM runs r
    WHERE r.namespace = $1 AND EXISTS (SELECT FROM namespaces n WHERE n.name = $1 AND n.status <> 'active')
)

-- name: pruned_runs
-- Those of the next $3 pruned runs of all namespaces behind the key $2 that are of this one; pruned runs have no index by namespace.
WITH slice AS MATERIALIZED (
    SELECT substr(run_id, 11, 15) AS key, namespace
    FROM pruned_runs
    WHERE substr(run_id, 11, 15) > $2
    ORDER BY substr(run_id, 11, 15)
    LIMIT $3
),
gone AS (
    DELETE FROM pruned_runs p
    WHERE substr(p.run_id, 11, 15) = ANY (ARRAY(SELECT key FROM slice WHERE namespace = $1))
        AND EXISTS (SELECT FROM namespaces n WHERE n.name = $1 AND n.status <> 'active')
    RETURNING p.run_id, p.workflow_id
),
ids AS (
    DELETE FROM instances i
    WHERE i.workflow_id = ANY (ARRAY(SELECT workflow_id FROM gone)) AND i.namespace = $1
        AND NOT EXISTS (SELECT FROM runs r WHERE r.workflow_id = i.workflow_id)
        AND NOT EXISTS (
            SELECT FROM pruned_runs p
            WHERE p.workflow_id = i.workflow_id AND p.chained AND p.run_id <> ALL (ARRAY(SELECT run_id FROM gone))
        )
)
SELECT (SELECT count(*) FROM gone), (SELECT max(key) FROM slice)

-- name: scoped
-- Up to $2 rows of a table with a column `namespace`.
DELETE FROM {table} t
WHERE t.ctid = ANY (ARRAY(
    SELECT o.ctid FROM {table} o
    WHERE o.namespace = $1 AND EXISTS (SELECT FROM namespaces n WHERE n.name = $1 AND n.status <> 'active')
    LIMIT $2
))

-- name: schedules
-- Up to $2 schedules with their audit history: how many rows went, and how many schedules that were not deleted before.
WITH gone AS (
    DELETE FROM schedules s
    WHERE s.schedule_key = ANY (ARRAY(
        SELECT o.schedule_key FROM schedules o
        WHERE o.namespace = $1 AND EXISTS (SELECT FROM namespaces n WHERE n.name = $1 AND n.status <> 'active')
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING s.schedule_key, s.status
),
events AS (
    DELETE FROM schedule_events e WHERE e.schedule_key = ANY (ARRAY(SELECT schedule_key FROM gone))
)
SELECT count(*), count(*) FILTER (WHERE status <> 'deleted') FROM gone
