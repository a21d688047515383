-- Places under the caps of task queues (contract operations 2.3, 2.4): at most one row per number of a scope, and no number
-- reaches the cap. Inserted by the commit that grants a lease; rows of leases are deleted by the commit that ends them, those of
-- dispatches (their scope begins with the minute) some time after their minute. Programs from before know no caps.
-- least code: 6

CREATE TABLE admission_permits (
    scope    text COLLATE "C" NOT NULL,
    number   int4 NOT NULL,
    run_id   text NOT NULL,
    task_id  text NOT NULL,
    taken_at int8 NOT NULL,
    PRIMARY KEY (scope, number)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
