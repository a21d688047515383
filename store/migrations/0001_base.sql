-- Durable truth of the orchestration server.
--
-- Engine times are int8 microseconds since the Unix epoch (UTC). `shard` is the placement unit of a row. There are no foreign keys:
-- rows of one run are written by one statement of the run's only writer, and gated there on its version.
-- The key of `runs`, `run_marks`, `instances`, `ready_tasks` and `mailbox` stands in no second index of its table: the planner could take that
-- one for a look-up of the group commit (store/commit/commit.sql), which is planned once and for all.
-- `bytea` and `json` columns are opaque: kept byte for byte, never looked into by SQL. Only `search_attributes` is searched.

CREATE TABLE settings (
    key   text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE namespaces (
    name                     text PRIMARY KEY,
    ordinal                  int8 GENERATED ALWAYS AS IDENTITY,  -- listing is in creation order
    description              text,
    retention_days           int4 NOT NULL,
    status                   text NOT NULL DEFAULT 'active',
    external_payload_storage json,
    created_at               int8 NOT NULL,
    updated_at               int8 NOT NULL
);

-- A workflow id is unique over all namespaces.
CREATE TABLE instances (
    workflow_id    text PRIMARY KEY,
    namespace      text NOT NULL,
    workflow_type  text NOT NULL,
    shard          int4 NOT NULL,
    current_run_id text NOT NULL,
    run_count      int4 NOT NULL
) WITH (fillfactor = 90);

CREATE TABLE runs (
    -- written once
    run_id             text PRIMARY KEY,
    run_key            text NOT NULL,
    shard              int4 NOT NULL,
    namespace          text NOT NULL,
    workflow_id        text NOT NULL,
    run_number         int4 NOT NULL,
    workflow_type      text NOT NULL,
    task_queue         text,
    business_key       text,
    compatibility      text,
    started_at         int8 NOT NULL,
    memo               bytea NOT NULL,
    -- written by every commit
    version            int8 NOT NULL,
    status             text NOT NULL,
    closed_reason      text,
    closed_at          int8,
    last_progress_at   int8 NOT NULL,
    wake_at            int8,
    last_sequence      int8 NOT NULL,
    published_sequence int8 NOT NULL,
    search_attributes  jsonb NOT NULL,
    state              bytea NOT NULL
) WITH (
    fillfactor = 70,
    toast_tuple_target = 8160,  -- keep states in the row: an out-of-line value costs a second table and index per commit
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE runs ALTER COLUMN state SET STORAGE EXTERNAL, ALTER COLUMN memo SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX runs_run_key ON runs (run_key);
CREATE UNIQUE INDEX runs_workflow_id ON runs (workflow_id, run_number);
CREATE INDEX runs_listing ON runs (namespace, started_at DESC);

-- What nodes scan runs for. It changes with nearly every commit and needs indexes; in `runs` it would make each commit add an entry
-- to every index there (no heap-only update), at more than twice the cost of the whole commit. Written only under the lock of its
-- row in `runs`, and always: a condition on the present value would look at the snapshot, not at the row.
CREATE TABLE run_marks (
    run_id      text PRIMARY KEY,
    shard       int4 NOT NULL,
    wake_at     int8,          -- as in runs
    unpublished bool NOT NULL  -- published_sequence < last_sequence
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX run_marks_wake ON run_marks (shard, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX run_marks_unpublished ON run_marks (shard) WHERE unpublished;

-- One row per commit that recorded events: one serialized event per line.
CREATE TABLE history (
    run_id         text NOT NULL,
    first_sequence int8 NOT NULL,
    last_sequence  int8 NOT NULL,
    body           bytea NOT NULL,
    PRIMARY KEY (run_id, first_sequence)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_scale_factor = 0.5);
ALTER TABLE history ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE ready_tasks (
    task_id         text PRIMARY KEY,
    shard           int4 NOT NULL,
    namespace       text NOT NULL,
    queue           text NOT NULL,
    kind            text NOT NULL,
    type_name       text NOT NULL,
    compatibility   text,
    priority        int4 NOT NULL,
    fairness_key    text,
    fairness_weight int4 NOT NULL,
    available_at    int8 NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX ready_tasks_queue ON ready_tasks (namespace, queue, kind, priority, available_at);
CREATE INDEX ready_tasks_shard ON ready_tasks (shard);

CREATE TABLE mailbox (
    mail_id     text PRIMARY KEY,
    shard       int4 NOT NULL,
    namespace   text NOT NULL,
    workflow_id text NOT NULL,
    run_id      text,
    body        bytea NOT NULL
) WITH (
    toast_tuple_target = 8160,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE mailbox ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX mailbox_shard ON mailbox (shard);

CREATE TABLE workers (
    namespace                         text NOT NULL,
    worker_id                         text NOT NULL,
    task_queue                        text NOT NULL,
    runtime                           text NOT NULL,
    sdk_version                       text,
    build_id                          text,
    supported_workflow_types          text[],  -- null: not sent, which differs from '{}'
    workflow_definition_fingerprints  json NOT NULL,
    supported_activity_types          text[],
    max_concurrent_workflow_tasks     int4 NOT NULL,
    max_concurrent_activity_tasks     int4 NOT NULL,
    capabilities                      text[] NOT NULL,
    task_slots                        json,
    process_metrics                   json,
    heartbeat_interval_seconds        int4,
    status                            text NOT NULL,
    last_heartbeat_at                 int8 NOT NULL,
    registered_at                     int8 NOT NULL,
    updated_at                        int8 NOT NULL,
    PRIMARY KEY (namespace, worker_id)
) WITH (fillfactor = 70);

-- Leases are by the database's clock, so that nodes need not agree on theirs.
CREATE TABLE nodes (
    node_id    text PRIMARY KEY,
    address    text NOT NULL,
    started_at int8 NOT NULL,
    expires_at int8 NOT NULL,
    draining   bool NOT NULL DEFAULT false
) WITH (fillfactor = 50);

CREATE TABLE shards (
    shard       int4 PRIMARY KEY,
    node_id     text,
    acquired_at int8
) WITH (fillfactor = 50);
