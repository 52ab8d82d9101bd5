-- The attempt failed and its job will run again. The message that runs it was published before, by the
-- same attempt, so the job may wait already, run, or have finished: then what is stored is the retry
-- still if the later attempt has stored nothing, and otherwise only the error is added. An attempt that
-- already has its error was lost and taken from its worker, or this is its second report.
-- Where the result is not stored (result_type is NULL) only the error is written, and the reported
-- state stands.
-- Those who wait for every state of the job, and not only for its result, are woken as in finish_job.
WITH recorded AS (
  UPDATE pgjobs.jobs AS j
  SET (reported_state, result, result_type, traceback) = (
        SELECT CASE WHEN r.stands THEN 'RETRY' ELSE j.reported_state END,
               CASE WHEN r.stands THEN %(result)s::bytea ELSE j.result END,
               CASE WHEN r.stands THEN %(result_type)s ELSE j.result_type END,
               CASE WHEN r.stands THEN %(traceback)s ELSE j.traceback END
        FROM (SELECT f.is_stored
                     AND (j.attempt = f.attempt
                          OR j.reported_state IS NULL
                             AND j.result_type IS NULL
                             AND (j.finished_at IS NULL OR j.state = 'completed')) AS stands) AS r),
      errors = pgjobs.with_error(
        j.errors,
        CASE WHEN j.attempt = f.attempt THEN pgjobs.attempt_error(j, %(error)s::jsonb)
             ELSE %(error)s::jsonb || pg_catalog.jsonb_build_object(
                    'attempt', f.attempt, 'at', pg_catalog.now()) END),
      -- One that has ended stands at that.
      fingerprint = CASE WHEN j.finished_at IS NULL THEN pgjobs.fingerprint(j.task, %(error)s::jsonb)
                         ELSE j.fingerprint END,
      failed_at = CASE WHEN j.finished_at IS NULL THEN pg_catalog.now() ELSE j.failed_at END
  FROM (SELECT %(attempt)s::integer AS attempt,
               %(result_type)s::text IS NOT NULL AS is_stored) AS f
  WHERE j.task_id = %(task_id)s
    AND (j.attempt > f.attempt
         OR j.attempt = f.attempt
            AND j.finished_at IS NULL
            AND (j.claimed_by IS NULL OR j.claimed_by = %(node)s::uuid))
    AND NOT j.errors @> pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object('attempt', f.attempt))
  RETURNING j.task, j.queue
), tallied AS (
  INSERT INTO pgjobs.tally (task, queue, state)
  SELECT r.task, r.queue, 'retried'
  FROM recorded AS r
)
SELECT (SELECT pg_catalog.count(*) FROM recorded),
       (SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || %(task_id)s)
        WHERE NOT pg_catalog.pg_try_advisory_xact_lock(
          %(space)s::integer, pg_catalog.hashtext(%(channel)s || %(waiter)s)))
