-- on match_jobs FOR NO KEY UPDATE
-- Running jobs stay: their workers would find no row to write the outcome to.
WITH changed AS (
  DELETE FROM pgjobs.jobs AS j
  USING matched AS m
  WHERE j.id = m.id
    AND j.state <> 'executing'
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
