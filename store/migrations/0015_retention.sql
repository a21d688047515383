-- least code: 6
--
-- What is left of runs that retention pruned: enough to answer for them (operations 6.3). A table of its own, so that they cost
-- lists nothing and little room: an instance with one run finds it by `instances.current_run_id`, only chains need an index by
-- workflow id.
CREATE TABLE pruned_runs (
    started_at    int8 NOT NULL,
    closed_at     int8 NOT NULL,
    run_number    int4 NOT NULL,
    chained       bool NOT NULL,  -- the workflow id had another run
    run_id        text NOT NULL,
    namespace     text NOT NULL,
    workflow_id   text NOT NULL,
    workflow_type text NOT NULL,
    task_queue    text,
    business_key  text,
    compatibility text,
    status        text NOT NULL,
    closed_reason text NOT NULL
);
-- By the run key in the id (actors/run/ids.py), which task ids have, too.
CREATE UNIQUE INDEX pruned_runs_key ON pruned_runs (substr(run_id, 11, 15));
CREATE INDEX pruned_runs_chain ON pruned_runs (workflow_id, run_number) WHERE chained;

-- An archived run is never pruned: whoever finds one notes that here, so that retention looks at it once. Not kept by programs that
-- archive, so that it is right whichever version does.
ALTER TABLE run_status ADD COLUMN kept bool NOT NULL DEFAULT false;

-- History and marks of pruned runs are deleted by the thousand: what they leave is to be used again soon, without ever blocking.
ALTER TABLE history SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
);

-- Giving room back to the file system takes a lock that commits would wait for; it is used again soon.
ALTER TABLE history SET (vacuum_truncate = off);
ALTER TABLE runs SET (vacuum_truncate = off);
ALTER TABLE run_marks SET (vacuum_truncate = off);
ALTER TABLE run_status SET (vacuum_truncate = off);
