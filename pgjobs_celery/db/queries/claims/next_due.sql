-- Seconds until the next job is due, by the database's clock; infinity means never.
SELECT extract(epoch FROM greatest(j.due_at, 'epoch') - pg_catalog.now())::double precision
FROM pgjobs.jobs AS j
WHERE j.finished_at IS NULL
  AND j.due_at IS NOT NULL
  AND j.due_at < 'infinity'
ORDER BY j.due_at, j.id
LIMIT 1
