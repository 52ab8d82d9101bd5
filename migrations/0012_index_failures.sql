-- 0012_index_failures: the newest failures, and those that are alike, without a look at the others.
-- migrate:concurrently
-- migrate:up

-- Only jobs that have failed are in them: a job that succeeds pays for neither.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_failed ON pgjobs.jobs (failed_at)
  WHERE failed_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_fingerprint ON pgjobs.jobs (fingerprint, failed_at)
  WHERE fingerprint IS NOT NULL;

-- migrate:down

DROP INDEX pgjobs.jobs_fingerprint;
DROP INDEX pgjobs.jobs_failed;
