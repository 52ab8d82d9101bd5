-- A queue gets a limit while its jobs run: these take their slots. Reads all unfinished jobs of the
-- queue, 0.3 s per million.
INSERT INTO pgjobs.slots (queue, job, attempt)
SELECT j.queue, j.id, j.attempt
FROM pgjobs.jobs AS j
WHERE j.queue = %(queue)s
  AND j.finished_at IS NULL
  AND j.due_at IS NULL
  AND j.claimed_by IS NOT NULL
  AND j.message IS NOT NULL
ON CONFLICT (queue, job) DO UPDATE SET attempt = excluded.attempt
