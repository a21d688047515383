WITH
occupied AS MATERIALIZED (
    SELECT u.i FROM unnest($47::int4[], $48::text[], $49::int4[], $50::text[], $51::text[], $52::int8[]) AS u(i, scope, number, run_id, task_id, taken_at) WHERE (
        SELECT true FROM admission_permits p WHERE p.scope = u.scope AND p.number = u.number
    )
),
repeated AS MATERIALIZED (
    SELECT u.i FROM unnest($44::int4[], $45::text[], $46::bytea[]) AS u(i, command_key, answer) WHERE (SELECT true FROM applied_commands c WHERE c.command_key = u.command_key)
),
taken AS MATERIALIZED (
    SELECT u.i FROM unnest($39::int4[], $40::text[], $41::text[], $42::text[], $43::text[]) AS u(i, run_id, workflow_id, request_id, update_id) WHERE (
        SELECT true FROM update_requests q WHERE q.workflow_id = u.workflow_id AND q.request_id = u.request_id
    )
),
missing AS MATERIALIZED (
    SELECT u.i FROM unnest($37::int4[], $38::text[]) AS u(i, mail_id) WHERE (SELECT true FROM mailbox b WHERE b.mail_id = u.mail_id) IS NULL
),
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
    WHERE r.run_id = ANY (ARRAY[u.run_id]) AND r.version = u.version AND u.i <> ALL (ARRAY(SELECT i FROM missing)) AND u.i <> ALL (ARRAY(SELECT i FROM taken)) AND u.i <> ALL (ARRAY(SELECT i FROM repeated)) AND u.i <> ALL (ARRAY(SELECT i FROM occupied))
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
won AS MATERIALIZED (SELECT i FROM changed),
recorded AS (SELECT run_id, first_sequence, last_sequence, history FROM changed),
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
),
mail_sent AS (
    INSERT INTO mailbox (mail_id, shard, namespace, workflow_id, run_id, body)
    SELECT mail_id, shard, namespace, workflow_id, run_id, body
    FROM unnest($30::int4[], $31::text[], $32::int4[], $33::text[], $34::text[], $35::text[], $36::bytea[]) AS u(i, mail_id, shard, namespace, workflow_id, run_id, body)
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_applied AS (
    DELETE FROM mailbox b
    WHERE b.mail_id = ANY (ARRAY(SELECT u.mail_id FROM unnest($37::int4[], $38::text[]) AS u(i, mail_id) WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
),
requests_noted AS (
    INSERT INTO update_requests (workflow_id, request_id, run_id, update_id)
    SELECT workflow_id, request_id, run_id, update_id
    FROM unnest($39::int4[], $40::text[], $41::text[], $42::text[], $43::text[]) AS u(i, run_id, workflow_id, request_id, update_id)
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
applied AS (
    INSERT INTO applied_commands (command_key, answer)
    SELECT command_key, answer FROM unnest($44::int4[], $45::text[], $46::bytea[]) AS u(i, command_key, answer) WHERE answer IS NOT NULL AND u.i = ANY (ARRAY(SELECT i FROM won))
),
permits_taken AS (
    INSERT INTO admission_permits (scope, number, run_id, task_id, taken_at)
    SELECT scope, number, run_id, task_id, taken_at
    FROM unnest($47::int4[], $48::text[], $49::int4[], $50::text[], $51::text[], $52::int8[]) AS u(i, scope, number, run_id, task_id, taken_at)
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
permits_freed AS (
    DELETE FROM admission_permits p
    USING unnest($53::int4[], $54::text[], $55::int4[], $56::text[]) AS u(i, scope, number, run_id)
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
        AND p.scope = ANY (ARRAY[u.scope]) AND p.number = ANY (ARRAY[u.number]) AND p.run_id = u.run_id
)
SELECT ARRAY(SELECT i FROM won);
