-- Seconds until the next job is due, by the database's clock.
SELECT extract(epoch FROM j.due_at - now())::double precision
FROM pgjobs.jobs AS j
WHERE j.finished_at IS NULL
  AND j.due_at IS NOT NULL
ORDER BY j.due_at, j.id
LIMIT 1
