-- Whether a job of the queue waits for its time. Reads all scheduled jobs: for a deletion, not for a
-- loop.
SELECT j.id
FROM pgjobs.jobs AS j
WHERE j.queue = %(queue)s
  AND j.finished_at IS NULL
  AND j.due_at IS NOT NULL
LIMIT 1
