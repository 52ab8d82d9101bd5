-- on match_jobs FOR NO KEY UPDATE
-- A waiting job will never start. A running job's worker will be told, and the row stays executing
-- until that worker reports what became of the job. One UPDATE for both: what a claim takes just before
-- we lock it is still ours to decide on, while two statements with their own conditions would both pass
-- it over.
-- A report without a message stands for a task on another broker, so no worker can be told.
WITH changed AS (
  UPDATE pgjobs.jobs AS j
  SET state = CASE WHEN j.claimed_by IS NULL THEN 'cancelled' ELSE j.state END,
      -- In a caller's transaction now() may be long ago, and fold_ends past it.
      finished_at = CASE WHEN j.claimed_by IS NULL THEN pg_catalog.clock_timestamp() END,
      due_at = NULL,
      reported_state = CASE WHEN j.claimed_by IS NOT NULL THEN j.reported_state END,
      result = CASE WHEN j.claimed_by IS NOT NULL THEN j.result END,
      result_type = CASE WHEN j.claimed_by IS NOT NULL THEN j.result_type END,
      traceback = CASE WHEN j.claimed_by IS NOT NULL THEN j.traceback END,
      errors = CASE
        WHEN j.claimed_by IS NOT NULL THEN j.errors
        ELSE pgjobs.with_error(j.errors, pg_catalog.jsonb_build_object(
          'attempt', j.attempt, 'at', pg_catalog.now(), 'type', 'TaskRevokedError',
          'module', 'celery.exceptions', 'message', coalesce(%(reason)s::text, 'revoked')))
      END,
      fingerprint = CASE WHEN j.claimed_by IS NOT NULL THEN j.fingerprint END,
      failed_at = CASE WHEN j.claimed_by IS NOT NULL THEN j.failed_at END,
      cancel_requested_at = CASE WHEN j.claimed_by IS NULL THEN j.cancel_requested_at ELSE pg_catalog.now() END,
      cancel_reason = coalesce(%(reason)s::text, j.cancel_reason),
      cancel_signal = CASE WHEN j.claimed_by IS NOT NULL
                           THEN coalesce(%(signal)s::text, j.cancel_signal) END
  FROM matched AS m
  WHERE j.id = m.id
    AND j.state IN ('scheduled', 'available', 'retryable', 'executing')
    AND (j.message IS NOT NULL OR j.claimed_by IS NULL)
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
