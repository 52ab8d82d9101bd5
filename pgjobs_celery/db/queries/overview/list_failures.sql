-- The jobs that were the last to fail for good, each with its last error; among so many of the newest ends.
SELECT n.task_id, n.task, n.queue, n.attempted_by,
       extract(epoch FROM pg_catalog.now() - n.finished_at)::float8,
       CASE WHEN pg_catalog.jsonb_typeof(n.errors -> -1) = 'object'
            THEN ((n.errors -> -1) - 'traceback'::text)::text END
FROM (
  SELECT j.task_id, j.task, j.queue, j.attempted_by, j.state, j.finished_at, j.errors
  FROM pgjobs.jobs AS j
  WHERE j.finished_at <= pg_catalog.now()
    AND pg_catalog.isfinite(j.finished_at)
  ORDER BY j.finished_at DESC
  LIMIT %(depth)s::bigint
) AS n
WHERE n.state = 'discarded'
ORDER BY n.finished_at DESC
LIMIT %(limit)s::bigint
