-- Purged is not lost: the rows stay, cancelled, and name the reason.
WITH purged AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'cancelled',
      finished_at = pg_catalog.now(),
      due_at = NULL,
      reported_state = NULL,
      result = NULL,
      result_type = NULL,
      traceback = NULL,
      errors = pgjobs.with_error(j.errors, pg_catalog.jsonb_build_object(
        'attempt', j.attempt, 'at', pg_catalog.now(), 'type', 'Purged', 'message', 'the queue was purged')),
      fingerprint = NULL,
      failed_at = NULL
  WHERE j.ctid = ANY (ARRAY(
    SELECT r.ctid
    FROM pgjobs.jobs AS r
    WHERE r.queue = %(queue)s
      AND r.finished_at IS NULL
      AND r.claimed_by IS NULL
    LIMIT %(limit)s::bigint
    FOR NO KEY UPDATE SKIP LOCKED
  ))
  RETURNING 1
)
SELECT pg_catalog.count(*) FROM purged
