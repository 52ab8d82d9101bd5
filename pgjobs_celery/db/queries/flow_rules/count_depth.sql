-- How many jobs of a queue wait to be claimed; no further than "most". By jobs_ready, in its order: 0.4
-- microseconds for each job that waits or runs.
SELECT pg_catalog.count(*)
FROM (
  SELECT j.seq
  FROM pgjobs.jobs AS j
  WHERE j.queue = %(queue)s
    AND j.finished_at IS NULL
    AND j.due_at IS NULL
    AND j.claimed_by IS NULL
    AND j.message IS NOT NULL
  ORDER BY j.priority, j.seq
  LIMIT %(most)s::bigint
) AS w
