-- A node id belongs to one living process, its incarnation: a second one under the id is refused, a replaced one changes nothing.
ALTER TABLE nodes ADD COLUMN incarnation text NOT NULL DEFAULT '';

-- What commands that are not idempotent by nature were answered: one that comes again is answered so, and changes nothing.
-- Written by the commit that applies the command; a row is kept for longer than anything can repeat it
-- (actors/hosting/repeats.py).
CREATE TABLE applied_commands (
    command_key text COLLATE "C" PRIMARY KEY,  -- begins with its time
    answer      bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
