-- The jobs that stand at one problem, the newest failure first, a page of them.
SELECT j.task_id, j.task, j.queue, j.state, j.attempt, j.max_attempts, j.attempted_by, j.failed_at, j.id
FROM pgjobs.jobs AS j
WHERE j.fingerprint = %(fingerprint)s::text
  AND j.failed_at > '0001-01-03'::timestamptz
  AND j.failed_at <= coalesce(%(before_at)s::timestamptz, pg_catalog.now())
  AND (%(before_at)s::timestamptz IS NULL
       OR (j.failed_at, j.id) < (%(before_at)s::timestamptz, %(before_id)s::bigint))
ORDER BY j.failed_at DESC, j.id DESC
LIMIT %(limit)s::bigint
