-- Statements of store/ready_tasks.py. Names are looked up by their hashes (migration 0004) and compared themselves afterwards:
-- `{pool}` is the hash of a queue, `{same_queue}` compares its names. Parameters 1 to 3 are namespace, queue and kind.

-- name: ready
-- The first ready tasks of a queue in order, whatever their type: goes from one marker, priority and class that occur to the next.
WITH RECURSIVE steps AS (
    (SELECT marker, priority, class FROM ready_tasks WHERE pool = {pool} ORDER BY marker, priority, class LIMIT 1)
    UNION ALL
    SELECT next.marker, next.priority, next.class
    FROM steps s
    CROSS JOIN LATERAL (
        SELECT r.marker, r.priority, r.class
        FROM ready_tasks r
        WHERE r.pool = {pool} AND (r.marker, r.priority, r.class) > (s.marker, s.priority, s.class)
        ORDER BY r.marker, r.priority, r.class
        LIMIT 1
    ) AS next
)
SELECT {due_columns}
FROM (SELECT * FROM steps LIMIT 10000) AS s
CROSS JOIN LATERAL (
    SELECT r.*
    FROM ready_tasks r
    WHERE r.pool = {pool} AND r.marker = s.marker AND r.priority = s.priority AND r.class = s.class
    ORDER BY r.available_at, r.task_id COLLATE "C"
    LIMIT $4
) AS due
WHERE {same_queue}
ORDER BY due.priority, available_at, task_id COLLATE "C"
LIMIT $4

-- name: claimable
-- What a poll may take, due ($5) and later, about $6 of each at most; `{keys}` are the lanes or the markers it asks for, `{of_key}`
-- how the index finds them. The index is entered once per key to see whether there is anything, and then once per priority and
-- class that is there, $7 times at most. Each of those gives its share only, by its weight: `cut` marks where one was cut off,
-- which bounds what is known as a whole. Due tasks come in the order of `turn`, as actors/queue/fairness.py `in_turn` has it, so
-- that there is something of each class. `gathered` is how many there were, `stopped` where the steps ended for want of room.
WITH RECURSIVE steps AS (
    SELECT k.key, first.priority, first.class, first.weight, 1 AS depth
    FROM ({keys}) AS k
    CROSS JOIN LATERAL (
        {first}
    ) AS first
    UNION ALL
    SELECT s.key, next.priority, next.class, next.weight, s.depth + 1
    FROM steps s
    CROSS JOIN LATERAL (
        {next}
    ) AS next
),
entered AS MATERIALIZED (
    SELECT key, priority, class, weight, depth FROM steps LIMIT $7
),
filled AS MATERIALIZED (
    SELECT
        key, priority, class,
        least($6::int8, greatest(2, least(16, 8 * $6::int8 / count(*) OVER ()), 2 * $6::int8 * weight / sum(weight) OVER ()))::int8
            AS share
    FROM entered
),
stopped AS MATERIALIZED (
    SELECT priority, class
    FROM (SELECT DISTINCT ON (key) priority, class, depth FROM entered ORDER BY key, depth DESC) AS last
    WHERE (SELECT count(*) FROM entered) = $7 AND depth >= (SELECT max(depth) - 1 FROM entered)
    ORDER BY priority, class
    LIMIT 1
),
gathered AS (
    SELECT due.*
    FROM filled f
    CROSS JOIN LATERAL (
        SELECT r.*, row_number() OVER (ORDER BY r.available_at, r.task_id COLLATE "C") = f.share AS cut
        FROM ready_tasks r
        WHERE {of_key} = f.key AND r.priority = f.priority AND r.class = f.class AND r.available_at <= $5
        ORDER BY r.available_at, r.task_id COLLATE "C"
        LIMIT f.share
    ) AS due
    WHERE {same_queue}
)
(
    SELECT {due_columns}, cut, turn, gathered, (SELECT priority FROM stopped), (SELECT class FROM stopped)
    FROM (
        SELECT
            g.*,
            (row_number() OVER of_class - 1)::float8 / first_value(greatest(fairness_weight, 1)) OVER of_class AS turn,
            count(*) OVER () AS gathered
        FROM gathered g
        WINDOW of_class AS (PARTITION BY g.priority, g.class ORDER BY g.available_at, g.task_id COLLATE "C")
    ) AS due
    ORDER BY due.priority, turn, available_at, task_id COLLATE "C"
    LIMIT greatest($6, (SELECT count(DISTINCT class) FROM filled))
)
UNION ALL
(
    SELECT {later_columns}, cut, NULL, NULL, (SELECT priority FROM stopped), (SELECT class FROM stopped)
    FROM filled f
    CROSS JOIN LATERAL (
        SELECT r.*, row_number() OVER (ORDER BY r.available_at, r.task_id COLLATE "C") = f.share AS cut
        FROM ready_tasks r
        WHERE {of_key} = f.key AND r.priority = f.priority AND r.class = f.class AND r.available_at > $5
        ORDER BY r.available_at, r.task_id COLLATE "C"
        LIMIT f.share
    ) AS later
    WHERE {same_queue}
    ORDER BY available_at, task_id COLLATE "C"
    LIMIT $6
)

-- name: first
-- The first priority and class of a key, with the weight of the task that stands first there.
SELECT r.priority, r.class, greatest(r.fairness_weight, 1) AS weight
        FROM ready_tasks r
        WHERE {of_key} = k.key
        ORDER BY r.priority, r.class
        LIMIT 1

-- name: next
-- The one after.
SELECT r.priority, r.class, greatest(r.fairness_weight, 1) AS weight
        FROM ready_tasks r
        WHERE {of_key} = s.key AND (r.priority, r.class) > (s.priority, s.class)
        ORDER BY r.priority, r.class
        LIMIT 1

-- name: first_resumed
-- The same without the classes up to $9 in the tier $8, which were read the last time.
(
            SELECT r.priority, r.class, greatest(r.fairness_weight, 1) AS weight
            FROM ready_tasks r
            WHERE {of_key} = k.key AND r.priority < $8
            ORDER BY r.priority, r.class
            LIMIT 1
        )
        UNION ALL
        (
            SELECT r.priority, r.class, greatest(r.fairness_weight, 1)
            FROM ready_tasks r
            WHERE {of_key} = k.key AND (r.priority, r.class) > ($8, $9)
            ORDER BY r.priority, r.class
            LIMIT 1
        )
        ORDER BY priority, class
        LIMIT 1

-- name: next_resumed
-- The one after, without those.
(
            SELECT r.priority, r.class, greatest(r.fairness_weight, 1) AS weight
            FROM ready_tasks r
            WHERE {of_key} = s.key AND (r.priority, r.class) > (s.priority, s.class) AND r.priority < $8
            ORDER BY r.priority, r.class
            LIMIT 1
        )
        UNION ALL
        (
            SELECT r.priority, r.class, greatest(r.fairness_weight, 1)
            FROM ready_tasks r
            WHERE {of_key} = s.key AND (r.priority, r.class) > (
                CASE WHEN (s.priority, s.class) > ($8, $9) THEN s.priority ELSE $8 END,
                CASE WHEN (s.priority, s.class) > ($8, $9) THEN s.class ELSE $9 END
            )
            ORDER BY r.priority, r.class
            LIMIT 1
        )
        ORDER BY priority, class
        LIMIT 1

-- name: lanes
-- The keys of a poll that names its types: one lane per type ({types}) and build marker ($4).
SELECT hashtextextended(t, hashtextextended(m, {pool})) AS key FROM unnest($4::text[]) AS m, unnest({types}::text[]) AS t

-- name: markers
-- The keys of a poll that takes every type: its build markers ($4).
SELECT hashtextextended(m, 0) AS key FROM unnest($4::text[]) AS m
