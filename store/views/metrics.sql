-- Counts of a namespace (store/views/metrics.py).

-- name: runs_by_reason
-- From the index of lists by status alone: closed runs carry why they ended.
SELECT end_reason, count(*) FROM run_status WHERE namespace = $1 GROUP BY end_reason

-- name: superseded
-- Runs with a later one of the same workflow id: the one before each later run, as far as it is listed.
SELECT count(*)
FROM runs later
JOIN runs before ON before.workflow_id = later.workflow_id AND before.run_number = later.run_number - 1
WHERE later.namespace = $1 AND later.run_number > 1
    AND EXISTS (
        SELECT FROM run_status s
        WHERE s.namespace = $1 AND s.bucket = run_bucket(before.closed_reason)
            AND s.started_at = before.started_at AND s.run_id = before.run_id
    )

-- name: ready_tasks
-- How many are due, overdue, and available only later.
SELECT
    count(*) FILTER (WHERE available_at <= $2),
    count(*) FILTER (WHERE available_at < $3),
    count(*) FILTER (WHERE available_at > $2),
    min(available_at) FILTER (WHERE available_at <= $2)
FROM ready_tasks
WHERE namespace = $1

-- name: open_runs
-- Enters the index of lists by status at the place.
SELECT s.started_at, s.run_id, r.state
FROM (
    SELECT started_at, run_id FROM run_status
    WHERE namespace = $1 AND bucket = 'running' AND started_at <= $2 AND (started_at < $2 OR run_id < $3)
    ORDER BY started_at DESC, run_id DESC
    LIMIT $4
) s
JOIN runs r USING (run_id)
ORDER BY s.started_at DESC, s.run_id DESC

-- name: archived
-- Archived runs, from an index of their own.
SELECT count(*) FROM run_status WHERE namespace = $1 AND kept

-- name: schedules
-- The next schedules behind a key, with what only their state tells.
SELECT schedule_key, status, wake_at, state
FROM schedules
WHERE namespace = $1 AND status <> 'deleted' AND schedule_key > $2
ORDER BY schedule_key
LIMIT $3
