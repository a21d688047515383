-- least code: 6
--
-- The leases a run has granted, for the views of task queues: written by each commit of the run, looked into by nobody else, and
-- in no index, so that commits stay heap-only updates.
ALTER TABLE run_marks ADD COLUMN leases bytea;
