-- The commit of schedules: one statement over arrays, as that of runs (commit.sql) and for the same reasons written so.

-- name: commit
-- `missing` and `repeated` keep a write from winning besides its version; `changed` and `created` tell which have won, every other
-- part stores only rows of those.
WITH
missing AS MATERIALIZED (
    SELECT u.i FROM {received} WHERE (SELECT true FROM mailbox b WHERE b.mail_id = u.mail_id) IS NULL
),
repeated AS MATERIALIZED (
    SELECT u.i FROM {applied} WHERE (SELECT true FROM applied_commands c WHERE c.command_key = u.command_key)
),
fresh AS MATERIALIZED (
    SELECT u.* FROM {writes}
    WHERE u.i <> ALL (ARRAY(SELECT i FROM missing)) AND u.i <> ALL (ARRAY(SELECT i FROM repeated))
),
changed AS (
    UPDATE schedules s
    SET version = s.version + 1,
        {row_set},
        published_sequence = greatest(s.published_sequence, u.published_sequence),
        definition = coalesce(u.definition, s.definition)
    FROM fresh u
    WHERE s.schedule_key = ANY (ARRAY[u.schedule_key]) AND s.version = u.version
    RETURNING u.i
),
created AS (
    INSERT INTO schedules (schedule_key, shard, namespace, schedule_id, version, {row})
    SELECT schedule_key, shard, namespace, schedule_id, 1, {row}
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
    INSERT INTO schedule_events (schedule_key, {event})
    SELECT schedule_key, {event}
    FROM {events}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_sent AS (
    INSERT INTO mailbox ({mail})
    SELECT {mail}
    FROM {sent}
    WHERE u.i = ANY (ARRAY(SELECT i FROM won))
),
mail_applied AS (
    DELETE FROM mailbox b
    WHERE b.mail_id = ANY (ARRAY(SELECT u.mail_id FROM {received} WHERE u.i = ANY (ARRAY(SELECT i FROM won))))
),
applied AS (
    INSERT INTO applied_commands (command_key, answer)
    SELECT command_key, answer FROM {applied} WHERE answer IS NOT NULL AND u.i = ANY (ARRAY(SELECT i FROM won))
)
SELECT ARRAY(SELECT i FROM won)
