-- The attempt failed and its job is to run again. The message that runs it was published before, by
-- the same attempt, so the job may wait already, or even run: then only the error is added.
UPDATE pgjobs.jobs AS j
SET reported_state = CASE WHEN j.attempt = f.attempt THEN 'RETRY' ELSE j.reported_state END,
    result = CASE WHEN j.attempt = f.attempt THEN %(result)s::bytea ELSE j.result END,
    result_type = CASE WHEN j.attempt = f.attempt THEN %(result_type)s ELSE j.result_type END,
    traceback = CASE WHEN j.attempt = f.attempt THEN %(traceback)s ELSE j.traceback END,
    errors = j.errors || (%(error)s::jsonb || jsonb_build_object('attempt', f.attempt, 'at', now()))
FROM (SELECT %(attempt)s::integer AS attempt) AS f
WHERE j.task_id = %(task_id)s
  AND j.finished_at IS NULL
  AND j.attempt >= f.attempt
  AND (j.attempt > f.attempt OR j.claimed_by IS NULL OR j.claimed_by = %(node)s::uuid)
RETURNING 1
