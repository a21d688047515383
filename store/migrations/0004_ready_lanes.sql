-- least code: 3
--
-- Ready tasks are read by what polls can take, so that nothing nobody takes stands in front: a lane is one type and build marker of a
-- queue, for polls that name their types; those that serve every type read all of a queue (`pool`) with one build marker.
--
-- All are hashes, as the names together may be longer than an index takes. Readers compare the names as well. `task_id` is ordered
-- by bytes, as the program orders it; with a collation of its own it also cannot serve a look-up by id (see 0001).
ALTER TABLE ready_tasks
    ADD COLUMN pool int8 NOT NULL GENERATED ALWAYS AS (
        hashtextextended(kind, hashtextextended(queue, hashtextextended(namespace, 0)))
    ) STORED,
    ADD COLUMN marker int8 NOT NULL GENERATED ALWAYS AS (hashtextextended(coalesce(compatibility, ''), 0)) STORED,
    ADD COLUMN lane int8 NOT NULL GENERATED ALWAYS AS (
        hashtextextended(type_name, hashtextextended(coalesce(compatibility, ''),
            hashtextextended(kind, hashtextextended(queue, hashtextextended(namespace, 0)))))
    ) STORED;

CREATE INDEX ready_tasks_pool ON ready_tasks (pool, marker, priority, available_at, task_id COLLATE "C");
CREATE INDEX ready_tasks_lane ON ready_tasks (lane, priority, available_at, task_id COLLATE "C");

-- The pool does now what this one did.
DROP INDEX ready_tasks_queue;
