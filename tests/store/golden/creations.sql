WITH
changed AS (
    UPDATE runs r
    SET version = r.version + 1,
        status = u.status,
        closed_reason = u.closed_reason,
        closed_at = u.closed_at,
        last_progress_at = u.last_progress_at,
        wake_at = u.wake_at,
        last_sequence = u.last_sequence,
        state = u.state,
        published_sequence = greatest(r.published_sequence, u.published_sequence),
        search_attributes = coalesce(u.search_attributes::jsonb, r.search_attributes)
    FROM unnest($1::int4[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::bytea[], $12::text[], $13::int8[], $14::bytea[], $15::bytea[]) AS u(i, run_id, version, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence, published_sequence, state, search_attributes, first_sequence, history, leases)
    WHERE r.run_id = ANY (ARRAY[u.run_id]) AND r.version = u.version 
    RETURNING
        u.i, u.run_id, u.first_sequence, u.last_sequence, u.history, u.wake_at, u.leases,
        r.published_sequence < u.last_sequence AS unpublished
),
marked AS (
    UPDATE run_marks m
    SET wake_at = u.wake_at, unpublished = u.unpublished, leases = u.leases
    FROM changed u
    WHERE m.run_id = ANY (ARRAY[u.run_id])
),
fresh AS MATERIALIZED (
    SELECT u.* FROM unnest($30::int4[], $31::int4[], $32::text[], $33::text[], $34::text[], $35::int8[], $36::int8[], $37::int8[], $38::int8[], $39::int8[], $40::bytea[], $41::text[], $42::int8[], $43::bytea[], $44::bytea[], $45::text[], $46::int4[], $47::text[], $48::text[], $49::int4[], $50::text[], $51::text[], $52::text[], $53::text[], $54::int8[], $55::bytea[]) AS u(i, kind, run_id, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence, published_sequence, state, search_attributes, first_sequence, history, leases, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility, started_at, memo) WHERE u.kind <> 2 OR u.i = ANY (ARRAY(SELECT i FROM changed))
),
claimed AS (
    INSERT INTO instances (workflow_id, namespace, workflow_type, shard, current_run_id, run_count)
    SELECT u.workflow_id, u.namespace, u.workflow_type, u.shard, u.run_id, 1
    FROM fresh u
    WHERE u.kind = 0 
    ON CONFLICT DO NOTHING
    RETURNING current_run_id AS run_id
),
moved AS (
    UPDATE instances s
    SET current_run_id = u.run_id, run_count = s.run_count + 1
    FROM fresh u
    WHERE s.workflow_id = ANY (ARRAY[u.workflow_id])
        AND (u.kind = 2 OR (u.kind = 1 AND s.namespace = u.namespace AND s.run_count = u.run_number - 1 ))
    RETURNING u.run_id
),
created AS MATERIALIZED (
    SELECT u.* FROM fresh u
    WHERE u.kind = 2 OR u.run_id = ANY (ARRAY(SELECT run_id FROM claimed UNION ALL SELECT run_id FROM moved))
),
born AS (
    INSERT INTO runs (run_id, version, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility, started_at, memo, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence, published_sequence, state, search_attributes)
    SELECT run_id, 1, run_key, shard, namespace, workflow_id, run_number, workflow_type, task_queue, business_key, compatibility, started_at, memo, status, closed_reason, closed_at, last_progress_at, wake_at, last_sequence, published_sequence, state, search_attributes::jsonb
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
),
history_added AS (
    INSERT INTO history (run_id, first_sequence, last_sequence, body)
    SELECT run_id, first_sequence, last_sequence, history FROM recorded WHERE first_sequence > 0
),
ready_added AS (
    INSERT INTO ready_tasks (task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at)
    SELECT task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at
    FROM unnest($16::int4[], $17::text[], $18::int4[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::int4[], $25::text[], $26::int4[], $27::int8[]) AS u(i, task_id, shard, namespace, queue, kind, type_name, compatibility, priority, fairness_key, fairness_weight, available_at)
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
    WHERE t.task_id = ANY (ARRAY(SELECT u.task_id FROM unnest($28::int4[], $29::text[]) AS u(i, task_id) WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
)
SELECT ARRAY(SELECT i FROM won);
