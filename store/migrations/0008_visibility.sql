-- least code: 6
--
-- Search attributes by definition, and the indexes of lists and searches over runs (store/visibility/sql.py).
CREATE TABLE search_attribute_definitions (
    namespace  text NOT NULL,
    name       text NOT NULL,
    type       text NOT NULL,
    created_at int8 NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Lists are in the order of starts. These columns of a run never change, so its commits stay heap-only updates (see 0001).
CREATE INDEX runs_type ON runs (namespace, workflow_type, started_at DESC);
CREATE INDEX runs_task_queue ON runs (namespace, task_queue, started_at DESC);
CREATE INDEX runs_business_key ON runs (namespace, business_key, started_at DESC) WHERE business_key IS NOT NULL;
CREATE INDEX runs_compatibility ON runs (namespace, compatibility, started_at DESC) WHERE compatibility IS NOT NULL;

-- One entry per attribute. Runs without attributes are left out, and cost nothing. Entries are not put off (fastupdate): whoever
-- then had to file them would be a commit.
CREATE INDEX runs_search_attributes ON runs USING gin (search_attributes jsonb_path_ops) WITH (fastupdate = off)
    WHERE search_attributes <> '{}';
ALTER TABLE runs ALTER COLUMN search_attributes SET STATISTICS 1000;

-- What changes when a run closes and lists look for. In `runs` each close would add an entry to every index there; here it is
-- one small row. Kept by triggers, so that it is right whichever version of the program writes or prunes runs.
CREATE TABLE run_status (
    namespace     text NOT NULL,
    bucket        text NOT NULL,  -- running, completed, failed (control-plane 5)
    started_at    int8 NOT NULL,
    run_id        text NOT NULL,
    ended_at      int8,           -- closed_at of the run
    workflow_type text NOT NULL
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE FUNCTION run_bucket(closed_reason text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN closed_reason IS NULL THEN 'running' WHEN closed_reason IN ('completed', 'continued') THEN 'completed'
        ELSE 'failed' END
$$;

INSERT INTO run_status SELECT namespace, run_bucket(closed_reason), started_at, run_id, closed_at, workflow_type FROM runs;
CREATE INDEX run_status_bucket ON run_status (namespace, bucket, started_at DESC, run_id DESC) INCLUDE (workflow_type);
CREATE INDEX run_status_closed ON run_status (namespace, ended_at) WHERE ended_at IS NOT NULL;

CREATE FUNCTION run_started() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_status (namespace, bucket, started_at, run_id, ended_at, workflow_type)
    VALUES (
        NEW.namespace, run_bucket(NEW.closed_reason), NEW.started_at, NEW.run_id, NEW.closed_at, NEW.workflow_type
    );
    RETURN NULL;
END
$$;
CREATE FUNCTION run_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE run_status SET bucket = run_bucket(NEW.closed_reason), ended_at = NEW.closed_at
    WHERE namespace = OLD.namespace AND bucket = run_bucket(OLD.closed_reason) AND started_at = OLD.started_at
        AND run_id = OLD.run_id;
    RETURN NULL;
END
$$;
CREATE FUNCTION run_pruned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM run_status
    WHERE namespace = OLD.namespace AND bucket = run_bucket(OLD.closed_reason) AND started_at = OLD.started_at
        AND run_id = OLD.run_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER run_started AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION run_started();
CREATE TRIGGER run_closed AFTER UPDATE ON runs FOR EACH ROW
    WHEN (OLD.closed_reason IS DISTINCT FROM NEW.closed_reason) EXECUTE FUNCTION run_closed();
CREATE TRIGGER run_pruned AFTER DELETE ON runs FOR EACH ROW EXECUTE FUNCTION run_pruned();
