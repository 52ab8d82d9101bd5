-- The one write after a claim: outcome and result together, from the process that ran the task. The
-- wake-up is tried inside the transaction: the lock is held until the commit, so a caller that begins
-- to wait in between waits for it and then sees the result. If nobody waits, NOTIFY is not called.
WITH finished AS (
  UPDATE pgjobs.jobs AS j
  SET state = %(state)s,
      finished_at = pg_catalog.now(),
      claimed_by = NULL,
      reported_state = NULL,
      result = %(result)s::bytea,
      result_type = %(result_type)s,
      traceback = %(traceback)s,
      children = %(children)s,
      errors = CASE WHEN %(error)s::text IS NULL THEN j.errors
                    ELSE pgjobs.with_error(
                      j.errors, pgjobs.attempt_error(j, %(error)s::jsonb)) END,
      fingerprint = CASE WHEN %(state)s = 'discarded'
                         THEN pgjobs.fingerprint(j.task, %(error)s::jsonb) END,
      failed_at = CASE WHEN %(state)s = 'discarded' THEN pg_catalog.now() END
  WHERE j.task_id = %(task_id)s
    AND j.attempt = %(attempt)s::integer
    AND j.claimed_by = %(node)s::uuid
  RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM finished),
       (SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(task_id)s)
        WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
          %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(waiter)s)))
