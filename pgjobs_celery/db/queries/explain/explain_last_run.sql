-- The worker that was the last to end a job of a queue, and when; among so many of the newest ends.
SELECT f.attempted_by, least(greatest(f.finished_at, '0001-01-03'), '9999-12-29')
FROM (
  SELECT j.queue, j.attempted_by, j.finished_at
  FROM pgjobs.jobs AS j
  WHERE j.finished_at IS NOT NULL
  ORDER BY j.finished_at DESC
  LIMIT %(depth)s::bigint
) AS f
WHERE f.queue = %(queue)s
  AND f.attempted_by IS NOT NULL
ORDER BY f.finished_at DESC
LIMIT 1
