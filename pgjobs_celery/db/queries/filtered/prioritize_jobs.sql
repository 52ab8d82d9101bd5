-- on match_jobs FOR NO KEY UPDATE
-- A job keeps its place among those of its new priority, which may lie before where workers begin to
-- look: they are told to look everywhere (BACK).
WITH changed AS (
  UPDATE pgjobs.jobs AS j
  -- A job in a lane stays in it.
  SET priority = (%(priority)s::integer + (j.priority & 256))::smallint,
      lane = j.lane
  FROM matched AS m
  WHERE j.id = m.id
    AND j.state IN ('scheduled', 'available', 'retryable')
    AND (j.priority & 255) <> %(priority)s::smallint
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
