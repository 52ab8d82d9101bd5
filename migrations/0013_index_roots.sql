-- 0013_index_roots: the jobs of a canvas, by the task that began it.
-- migrate:concurrently
-- migrate:up

-- Only what was published by another job of its canvas: the root of all others is their own id, which is
-- indexed already. So a plain job pays for a comparison, and has no entry here. Neither column changes:
-- claiming and finishing a job stays a HOT update.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_root ON pgjobs.jobs (root_id) WHERE root_id <> task_id;

-- migrate:down

DROP INDEX pgjobs.jobs_root;
