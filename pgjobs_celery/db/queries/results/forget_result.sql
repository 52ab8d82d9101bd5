-- Forgetting a finished job deletes its row; a job that still has to run only loses what it reported. A
-- result that a chord's body needs stays until the body is published.
WITH forgotten AS (
  DELETE FROM pgjobs.jobs AS j
  WHERE j.task_id = %(task_id)s
    AND (j.finished_at IS NOT NULL OR j.message IS NULL)
    AND (j.group_index IS NULL
         OR (SELECT g.published_at IS NULL AND (g.size IS NOT NULL OR g.body IS NOT NULL)
             FROM pgjobs.groups AS g
             WHERE g.group_id = j.group_id) IS NOT TRUE)
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
