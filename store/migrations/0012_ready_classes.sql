-- least code: 6
--
-- Ready tasks of one lane and priority are read class by class (contract operations 3), so that a class whose tasks came late is
-- found though thousands of another stand in front. Tasks without a fairness key are one class, and in the order they had before.
-- Older programs read the same rows with these indexes, only with a sort.
ALTER TABLE ready_tasks
    ADD COLUMN class text COLLATE "C" NOT NULL GENERATED ALWAYS AS (coalesce(fairness_key, '')) STORED;

DROP INDEX ready_tasks_pool;
DROP INDEX ready_tasks_lane;
CREATE INDEX ready_tasks_pool ON ready_tasks (pool, marker, priority, class, available_at, task_id COLLATE "C");
CREATE INDEX ready_tasks_lane ON ready_tasks (lane, priority, class, available_at, task_id COLLATE "C");
