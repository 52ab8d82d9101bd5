-- on match_jobs FOR NO KEY UPDATE
-- A countdown goes by the database's clock. Jobs that become ready go to the tail, in the order of
-- their ids; jobs that were ready and stay so keep their place.
WITH line AS MATERIALIZED (
  SELECT o.id, pg_catalog.nextval('pgjobs.jobs_seq') AS seq, t.eta
  FROM (SELECT m.id FROM matched AS m ORDER BY m.id) AS o
  CROSS JOIN (SELECT coalesce(pg_catalog.now() + %(countdown)s::double precision * interval '1 second',
                              %(eta)s::timestamptz) AS eta) AS t
), changed AS (
  UPDATE pgjobs.jobs AS j
  SET state = CASE WHEN line.eta <= pg_catalog.now() THEN 'available'
                   WHEN j.state = 'retryable' THEN 'retryable'
                   ELSE 'scheduled' END,
      seq = CASE WHEN line.eta > pg_catalog.now() OR j.due_at IS NULL THEN j.seq ELSE line.seq END,
      -- As it is: its lane hears of it (note_return).
      lane = j.lane,
      scheduled_at = line.eta,
      due_at = CASE WHEN line.eta > pg_catalog.now() THEN line.eta END
  FROM line
  WHERE j.id = line.id
    AND j.state IN ('scheduled', 'available', 'retryable')
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
