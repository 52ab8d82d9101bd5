-- Complete the job in its task's own transaction, as the last statement before the commit: the row is
-- locked for no longer. Fenced as finish_job is. Where nothing is stored (leaves) the row keeps what was
-- reported before, as settle_completed has it.
-- The time is that of this statement: now() is when the transaction began, and by then ends may have
-- been counted for good that are later than that (fold_ends).
-- The numbers of the transaction and of its session tell later whether it was committed (find_commit).
WITH completed AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'completed',
      finished_at = pg_catalog.clock_timestamp(),
      claimed_by = NULL,
      -- It is acknowledged by this: what its worker says later must not put it back (requeue_success).
      acks_late = false,
      reported_state = CASE WHEN %(leaves)s::boolean THEN nullif(j.reported_state, 'SUCCESS') END,
      result = CASE WHEN %(leaves)s::boolean THEN j.result ELSE %(result)s::bytea END,
      result_type = CASE WHEN %(leaves)s::boolean THEN j.result_type ELSE %(result_type)s::text END,
      traceback = CASE WHEN %(leaves)s::boolean THEN j.traceback END,
      children = coalesce(%(children)s::text, j.children),
      fingerprint = NULL,
      failed_at = NULL
  WHERE j.task_id = %(task_id)s
    AND j.attempt = %(attempt)s::integer
    AND j.claimed_by = %(node)s::uuid
  RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM completed),
       pg_catalog.pg_current_xact_id()::text,
       pg_catalog.pg_backend_pid(),
       (SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(task_id)s)
        WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
          %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(waiter)s)))
