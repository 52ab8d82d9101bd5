-- Signals that no job has taken for so long, of jobs that are not there, or to a key. What is sent to a job
-- goes with its row.
WITH old AS MATERIALIZED (
  SELECT s.id
  FROM pgjobs.signals AS s
  WHERE s.job IS NULL
    AND s.sent_at < pg_catalog.now() - %(age)s::double precision * interval '1 second'
    AND (SELECT true FROM pgjobs.jobs AS j WHERE j.task_id = s.task_id LIMIT 1) IS NULL
  ORDER BY s.sent_at
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.signals AS s USING old AS o WHERE s.id = o.id RETURNING 1
)
SELECT pg_catalog.count(*) FROM pruned
