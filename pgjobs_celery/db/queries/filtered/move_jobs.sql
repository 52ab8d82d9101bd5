-- on match_jobs FOR NO KEY UPDATE
-- Jobs go to the tail of the other queue, in the order of their ids. The message keeps its own routing:
-- where it was published to an exchange, a retry by its task takes that way again.
WITH line AS MATERIALIZED (
  SELECT o.id, pg_catalog.nextval('pgjobs.jobs_seq') AS seq
  FROM (SELECT m.id FROM matched AS m ORDER BY m.id) AS o
), changed AS (
  UPDATE pgjobs.jobs AS j
  SET queue = %(to)s,
      seq = line.seq
  FROM line
  WHERE j.id = line.id
    AND j.state IN ('scheduled', 'available', 'retryable')
    AND j.queue <> %(to)s
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
