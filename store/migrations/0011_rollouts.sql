-- least code: 6
--
-- What operators decided of the build ids of a task queue: which drain, and which one new starts go to (store/rollouts.py).
CREATE TABLE rollouts (
    namespace      text NOT NULL,
    task_queue     text NOT NULL,
    build_id       text NOT NULL,   -- '': workers without one
    drained_at     int8,            -- null: not draining
    promoted_at    int8,
    rolled_back_at int8,
    selected       bool NOT NULL,   -- new starts are marked with this build id
    revision       int8 NOT NULL,   -- of the last change, see below
    PRIMARY KEY (namespace, task_queue, build_id)
);
CREATE UNIQUE INDEX rollouts_selected ON rollouts (namespace, task_queue) WHERE selected;
CREATE INDEX rollouts_revision ON rollouts (revision);

-- Nodes keep these rows in memory and read what changed: each change takes the next revision under the lock of this row, so that
-- none becomes visible after a later one. When rows are removed, everything is read again.
CREATE TABLE rollout_revision (
    revision int8 NOT NULL,
    removals int8 NOT NULL
) WITH (fillfactor = 50);
INSERT INTO rollout_revision VALUES (0, 0);

CREATE FUNCTION rollouts_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gone) THEN
        UPDATE rollout_revision SET removals = removals + 1;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER rollouts_removed AFTER DELETE ON rollouts REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION rollouts_removed();
