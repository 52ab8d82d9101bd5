-- The job that has been due for longest and is not in line, and the entries whose tick has passed, each with
-- by how many seconds: maintenance does not run, or no beat. The first entry of an index, and a few rows.
SELECT 'job', d.task_id, d.queue, extract(epoch FROM pg_catalog.now() - d.due_at)::float8
FROM (
  SELECT j.task_id, j.queue, j.due_at
  FROM pgjobs.jobs AS j
  WHERE j.finished_at IS NULL
    AND j.due_at IS NOT NULL
    AND j.due_at > '-infinity'
  ORDER BY j.due_at, j.id
  LIMIT 1
) AS d
WHERE d.due_at < pg_catalog.now()
UNION ALL
SELECT 'entry', e.name, e.app, extract(epoch FROM pg_catalog.now() - e.next_run_at)::float8
FROM (
  SELECT s.name, s.app, s.next_run_at
  FROM pgjobs.schedules AS s
  WHERE s.paused_at IS NULL
    AND s.next_run_at < pg_catalog.now()
    AND pg_catalog.isfinite(s.next_run_at)
  ORDER BY s.next_run_at
  LIMIT %(limit)s::bigint
) AS e
