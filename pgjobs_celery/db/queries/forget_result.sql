-- Forgetting a finished job takes its row; a job that still has to run only loses what it reported.
WITH forgotten AS (
  DELETE FROM pgjobs.jobs AS j
  WHERE j.task_id = %(task_id)s
    AND (j.finished_at IS NOT NULL OR j.message IS NULL)
)
UPDATE pgjobs.jobs AS j
SET reported_state = NULL,
    result = NULL,
    result_type = NULL,
    traceback = NULL,
    children = NULL
WHERE j.task_id = %(task_id)s
  AND j.finished_at IS NULL
  AND j.message IS NOT NULL
