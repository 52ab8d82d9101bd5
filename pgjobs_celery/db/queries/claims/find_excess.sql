-- The time at which the newest of the finished jobs beyond the number to keep ended.
SELECT j.finished_at
FROM pgjobs.jobs AS j
WHERE j.state = %(state)s
  AND j.finished_at IS NOT NULL
ORDER BY j.finished_at DESC
OFFSET %(count)s::bigint
LIMIT 1
