-- 0016_index_lanes: the jobs of each lane, in their order.
-- migrate:concurrently
-- migrate:up

-- Only jobs with a lane are in it, and none of its columns is one that a claim changes: that stays a HOT
-- update. A job without a lane pays for a comparison.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_lanes ON pgjobs.jobs (queue, lane, priority, seq)
  WHERE lane IS NOT NULL AND finished_at IS NULL AND due_at IS NULL;

-- migrate:down

DROP INDEX pgjobs.jobs_lanes;
