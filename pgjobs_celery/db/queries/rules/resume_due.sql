-- Resume the queues whose pause is over; a worker that has locked one does it itself, or the next look does.
WITH due AS MATERIALIZED (
  SELECT l.ctid
  FROM pgjobs.limits AS l
  WHERE l.paused_until <= pg_catalog.now()
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE pgjobs.limits AS l
SET paused_at = NULL,
    paused_until = NULL
FROM due
WHERE l.ctid = due.ctid
RETURNING l.queue
