-- Statements of store/views/task_queues.py.

-- name: ready_in_namespace
-- Goes through all ready tasks: there is no index by namespace, as each would cost every backlog. The oldest is the least of
-- (available_at, task_id) as a text, which needs no sort.
SELECT
    queue,
    kind,
    count(*) FILTER (WHERE available_at <= $2),
    count(*) FILTER (WHERE available_at <= $3),
    min(lpad(available_at::text, 20, '0') || task_id COLLATE "C") FILTER (WHERE available_at <= $2)
FROM ready_tasks
WHERE namespace = $1
GROUP BY queue, kind

-- name: ready_in_queue
-- The same for one queue ($4), by the hashes of its two pools (migration 0004).
SELECT
    queue,
    kind,
    count(*) FILTER (WHERE available_at <= $2),
    count(*) FILTER (WHERE available_at <= $3),
    min(lpad(available_at::text, 20, '0') || task_id COLLATE "C") FILTER (WHERE available_at <= $2)
FROM ready_tasks
WHERE pool = ANY (ARRAY[
        hashtextextended('workflow', hashtextextended($4, hashtextextended($1, 0))),
        hashtextextended('activity', hashtextextended($4, hashtextextended($1, 0)))
    ])
    AND namespace = $1 AND queue = $4
GROUP BY queue, kind

-- name: leases
-- By the open runs of the namespace: notes are in no index. A note of one zero byte says that the leases stand in the state.
SELECT m.run_id, r.workflow_id, r.version, m.leases, CASE WHEN m.leases = '\x00' THEN r.state END
FROM run_status s
JOIN run_marks m ON m.run_id = s.run_id
JOIN runs r ON r.run_id = s.run_id
WHERE s.namespace = $1 AND s.bucket = 'running' AND m.leases IS NOT NULL
