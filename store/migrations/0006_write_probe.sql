-- Written to and rolled back by nodes to learn whether writes work (store/commit/write_watch.py); always empty. Unlogged: a probe
-- must not fill the log, whose health every heartbeat shows.
CREATE UNLOGGED TABLE write_probe (filler text NOT NULL);
ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE PLAIN;
