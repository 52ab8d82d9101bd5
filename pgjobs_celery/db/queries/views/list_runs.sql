-- The last runs of a task, the newest first; among so many of the newest ends of all tasks, for no index has
-- the task. With the end of the oldest row that was looked at, and whether that was as many as may be.
WITH ends AS MATERIALIZED (
  SELECT j.task_id, j.task, j.state, j.attempt, j.attempted_at, j.finished_at, j.attempted_by
  FROM pgjobs.jobs AS j
  WHERE j.finished_at <= pg_catalog.now()
    AND pg_catalog.isfinite(j.finished_at)
  ORDER BY j.finished_at DESC
  LIMIT %(depth)s::bigint
)
SELECT e.task_id, e.state, e.attempt,
       CASE WHEN e.attempted_at <= e.finished_at AND pg_catalog.isfinite(e.attempted_at)
            THEN extract(epoch FROM e.finished_at - e.attempted_at)::float8 END,
       least(greatest(e.finished_at, '0001-01-03'), '9999-12-29'), e.attempted_by,
       (SELECT pg_catalog.count(*) FROM ends) >= %(depth)s::bigint
FROM ends AS e
WHERE e.task = %(task)s
ORDER BY e.finished_at DESC
LIMIT %(limit)s::bigint
