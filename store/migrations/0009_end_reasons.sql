-- least code: 6
--
-- Why runs ended, beside their status, so that operators' counts come from one index (store/views/metrics.sql). The name of the column
-- is none of `runs`: programs of before join both tables without naming it.
ALTER TABLE run_status ADD COLUMN end_reason text;
UPDATE run_status s SET end_reason = r.closed_reason FROM runs r WHERE r.run_id = s.run_id AND r.closed_reason IS NOT NULL;

CREATE OR REPLACE FUNCTION run_started() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO run_status (namespace, bucket, started_at, run_id, ended_at, workflow_type, end_reason)
    VALUES (
        NEW.namespace, run_bucket(NEW.closed_reason), NEW.started_at, NEW.run_id, NEW.closed_at, NEW.workflow_type,
        NEW.closed_reason
    );
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION run_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE run_status SET bucket = run_bucket(NEW.closed_reason), ended_at = NEW.closed_at, end_reason = NEW.closed_reason
    WHERE namespace = OLD.namespace AND bucket = run_bucket(OLD.closed_reason) AND started_at = OLD.started_at
        AND run_id = OLD.run_id;
    RETURN NULL;
END
$$;

DROP INDEX run_status_bucket;
CREATE INDEX run_status_bucket ON run_status (namespace, bucket, started_at DESC, run_id DESC)
    INCLUDE (workflow_type, end_reason);

-- Later runs of a workflow id: each stands for one before it that is not the latest. Written once, and only by those.
CREATE INDEX runs_later ON runs (namespace) WHERE run_number > 1;
