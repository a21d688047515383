-- least code: 6
--
-- Archived runs of a namespace, for operators' counts (store/views/metrics.sql).
CREATE INDEX run_status_kept ON run_status (namespace) WHERE kept;
