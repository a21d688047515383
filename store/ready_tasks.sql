-- Statements of store/ready_tasks.py. Names are looked up by their hashes (migration 0004) and compared themselves afterwards:
-- `{pool}` is the hash of a queue, `{same_queue}` compares its names. Parameters 1 to 3 are namespace, queue and kind.

-- name: ready
-- The first ready tasks of a queue in order, whatever their type: goes from one marker and priority that occur to the next.
WITH RECURSIVE steps AS (
    (SELECT marker, priority FROM ready_tasks WHERE pool = {pool} ORDER BY marker, priority LIMIT 1)
    UNION ALL
    SELECT next.marker, next.priority
    FROM steps s
    CROSS JOIN LATERAL (
        SELECT r.marker, r.priority
        FROM ready_tasks r
        WHERE r.pool = {pool} AND (r.marker, r.priority) > (s.marker, s.priority)
        ORDER BY r.marker, r.priority
        LIMIT 1
    ) AS next
)
SELECT {due_columns}
FROM steps s
CROSS JOIN LATERAL (
    SELECT r.*
    FROM ready_tasks r
    WHERE r.pool = {pool} AND r.marker = s.marker AND r.priority = s.priority
    ORDER BY r.available_at, r.task_id COLLATE "C"
    LIMIT $4
) AS due
WHERE {same_queue}
ORDER BY due.priority, available_at, task_id COLLATE "C"
LIMIT $4

-- name: claimable
-- What a poll may take, due ($5) and later, $6 of each at most; `{keys}` are the lanes or the markers it asks for, `{of_key}` how
-- the index finds them. The index is entered once per key to see whether there is anything, and then once per priority that is
-- there. Each of those gives its share only: `cut` marks where one was cut off, which bounds what is known as a whole.
WITH RECURSIVE steps AS (
    SELECT k.key, (SELECT r.priority FROM ready_tasks r WHERE {of_key} = k.key ORDER BY r.priority LIMIT 1) AS priority
    FROM ({keys}) AS k
    UNION ALL
    SELECT s.key, (
        SELECT r.priority FROM ready_tasks r WHERE {of_key} = s.key AND r.priority > s.priority ORDER BY r.priority LIMIT 1
    )
    FROM steps s
    WHERE s.priority IS NOT NULL
),
filled AS MATERIALIZED (
    SELECT key, priority, least($6::int8, greatest(16, 2 * $6::int8 / count(*) OVER ())) AS share
    FROM steps
    WHERE priority IS NOT NULL
)
(
    SELECT {due_columns}, cut
    FROM filled f
    CROSS JOIN LATERAL (
        SELECT r.*, row_number() OVER (ORDER BY r.available_at, r.task_id COLLATE "C") = f.share AS cut
        FROM ready_tasks r
        WHERE {of_key} = f.key AND r.priority = f.priority AND r.available_at <= $5
        ORDER BY r.available_at, r.task_id COLLATE "C"
        LIMIT f.share
    ) AS due
    WHERE {same_queue}
    ORDER BY due.priority, available_at, task_id COLLATE "C"
    LIMIT $6
)
UNION ALL
(
    SELECT {later_columns}, cut
    FROM filled f
    CROSS JOIN LATERAL (
        SELECT r.*, row_number() OVER (ORDER BY r.available_at, r.task_id COLLATE "C") = f.share AS cut
        FROM ready_tasks r
        WHERE {of_key} = f.key AND r.priority = f.priority AND r.available_at > $5
        ORDER BY r.available_at, r.task_id COLLATE "C"
        LIMIT f.share
    ) AS later
    WHERE {same_queue}
    ORDER BY available_at, task_id COLLATE "C"
    LIMIT $6
)

-- name: lanes
-- The keys of a poll that names its types: one lane per type ($7) and build marker ($4).
SELECT hashtextextended(t, hashtextextended(m, {pool})) AS key FROM unnest($4::text[]) AS m, unnest($7::text[]) AS t

-- name: markers
-- The keys of a poll that takes every type: its build markers ($4).
SELECT hashtextextended(m, 0) AS key FROM unnest($4::text[]) AS m
