-- The state that a running task reports (STARTED, PROGRESS, ...), from the attempt that holds the job;
-- without a node, from anybody, about a job that has not finished.
-- Those who wait for every state of the job, and not only for its result, are woken as in finish_job.
WITH reported AS (
  UPDATE pgjobs.jobs AS j
  SET reported_state = %(reported_state)s,
      result = %(result)s::bytea,
      result_type = %(result_type)s,
      traceback = %(traceback)s,
      children = %(children)s
  WHERE j.task_id = %(task_id)s
    AND j.finished_at IS NULL
    AND (%(node)s::uuid IS NULL
         OR j.attempt = %(attempt)s::integer AND j.claimed_by = %(node)s::uuid)
  RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM reported),
       (SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(task_id)s)
        WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
          %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(waiter)s)))
