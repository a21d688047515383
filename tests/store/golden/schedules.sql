WITH
missing AS MATERIALIZED (
    SELECT u.i FROM unnest($31::int4[], $32::text[]) AS u(i, mail_id) WHERE (SELECT true FROM mailbox b WHERE b.mail_id = u.mail_id) IS NULL
),
repeated AS MATERIALIZED (
    SELECT u.i FROM unnest($33::int4[], $34::text[], $35::bytea[]) AS u(i, command_key, answer) WHERE (SELECT true FROM applied_commands c WHERE c.command_key = u.command_key)
),
fresh AS MATERIALIZED (
    SELECT u.* FROM unnest($1::int4[], $2::text[], $3::int4[], $4::text[], $5::text[], $6::int8[], $7::text[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::int8[], $13::bytea[], $14::bytea[]) AS u(i, schedule_key, shard, namespace, schedule_id, version, status, created_at, updated_at, wake_at, last_sequence, published_sequence, state, definition)
    WHERE u.i <> ALL (ARRAY(SELECT i FROM missing)) AND u.i <> ALL (ARRAY(SELECT i FROM repeated))
),
changed AS (
    UPDATE schedules s
    SET version = s.version + 1,
        status = u.status,
        created_at = u.created_at,
        updated_at = u.updated_at,
        wake_at = u.wake_at,
        last_sequence = u.last_sequence,
        state = u.state,
        published_sequence = greatest(s.published_sequence, u.published_sequence),
        definition = coalesce(u.definition, s.definition)
    FROM fresh u
    WHERE s.schedule_key = ANY (ARRAY[u.schedule_key]) AND s.version = u.version
    RETURNING u.i
),
created AS (
    INSERT INTO schedules (schedule_key, shard, namespace, schedule_id, version, status, created_at, updated_at, wake_at, last_sequence, published_sequence, state, definition)
    SELECT schedule_key, shard, namespace, schedule_id, 1, status, created_at, updated_at, wake_at, last_sequence, published_sequence, state, definition
    FROM fresh u
    WHERE u.version = 0
    ON CONFLICT DO NOTHING
    RETURNING schedule_key
),
won AS MATERIALIZED (
    SELECT i FROM changed
    UNION ALL
    SELECT u.i FROM fresh u WHERE u.version = 0 AND u.schedule_key = ANY (ARRAY(SELECT schedule_key FROM created))
),
recorded AS (
    INSERT INTO schedule_events (schedule_key, sequence, event_id, event_type, payload, recorded_at, workflow_instance_id, workflow_run_id)
    SELECT schedule_key, sequence, event_id, event_type, payload, recorded_at, workflow_instance_id, workflow_run_id
    FROM unnest($15::int4[], $16::text[], $17::int8[], $18::text[], $19::text[], $20::bytea[], $21::int8[], $22::text[], $23::text[]) AS u(i, schedule_key, sequence, event_id, event_type, payload, recorded_at, workflow_instance_id, workflow_run_id)
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_sent AS (
    INSERT INTO mailbox (mail_id, shard, namespace, workflow_id, run_id, body)
    SELECT mail_id, shard, namespace, workflow_id, run_id, body
    FROM unnest($24::int4[], $25::text[], $26::int4[], $27::text[], $28::text[], $29::text[], $30::bytea[]) AS u(i, mail_id, shard, namespace, workflow_id, run_id, body)
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_applied AS (
    DELETE FROM mailbox b
    WHERE b.mail_id = ANY (ARRAY(SELECT u.mail_id FROM unnest($31::int4[], $32::text[]) AS u(i, mail_id) WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
),
applied AS (
    INSERT INTO applied_commands (command_key, answer)
    SELECT command_key, answer FROM unnest($33::int4[], $34::text[], $35::bytea[]) AS u(i, command_key, answer) WHERE answer IS NOT NULL AND u.i = ANY (ARRAY(SELECT i FROM won))
)
SELECT ARRAY(SELECT i FROM won);
