-- Delete the receipts whose time is over, but not those of jobs that have not ended. In batches.
WITH old AS MATERIALIZED (
  SELECT r.ctid
  FROM pgjobs.receipts AS r
  WHERE r.expires_at <= pg_catalog.now()
    AND NOT EXISTS (
      SELECT FROM pgjobs.jobs AS j WHERE j.task_id = r.task_id AND j.finished_at IS NULL)
  ORDER BY r.expires_at
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.receipts AS r
  USING old
  WHERE r.ctid = old.ctid
  RETURNING 1
)
SELECT pg_catalog.count(*) FROM pruned
