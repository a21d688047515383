-- least code: 6
--
-- Schedules. What clients want (`definition`) and what a fire changes (`state`) are columns apart: a large definition lies out of
-- line, and a fire does not write it again. Older programs know neither these tables nor messages to and from schedules, which lie
-- in `mailbox` under a `shard` below zero (store/run_messages.py): they leave them alone.
CREATE TABLE schedules (
    schedule_key       text PRIMARY KEY,  -- an id that follows from namespace and schedule id (actors/schedule/keys.py)
    shard              int4 NOT NULL,
    namespace          text NOT NULL,
    schedule_id        text NOT NULL,
    version            int8 NOT NULL,
    status             text NOT NULL,     -- active, paused, deleted
    created_at         int8 NOT NULL,     -- of the present record
    updated_at         int8 NOT NULL,
    wake_at            int8,
    last_sequence      int8 NOT NULL,     -- of its audit events, over all records of the id
    published_sequence int8 NOT NULL,
    state              bytea NOT NULL,
    definition         bytea NOT NULL
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE schedules ALTER COLUMN state SET STORAGE EXTERNAL, ALTER COLUMN definition SET STORAGE EXTERNAL;
CREATE INDEX schedules_listing ON schedules (namespace, created_at DESC, schedule_key) WHERE status <> 'deleted';
CREATE INDEX schedules_wake ON schedules (shard, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX schedules_unpublished ON schedules (shard) WHERE published_sequence < last_sequence;

-- The audit history: only ever appended, and kept when a schedule is deleted.
CREATE TABLE schedule_events (
    schedule_key         text NOT NULL,
    sequence             int8 NOT NULL,
    event_id             text NOT NULL,
    event_type           text NOT NULL,
    payload              bytea NOT NULL,  -- JSON text
    recorded_at          int8 NOT NULL,
    workflow_instance_id text,
    workflow_run_id      text,
    PRIMARY KEY (schedule_key, sequence)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5);
