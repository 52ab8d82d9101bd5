-- Move due jobs into line, at its tail and in the order of their due times: the one update that carries
-- a row from one index to the other. Any worker may do it; SKIP LOCKED lets several do it at once.
-- Always ORDER BY: without it the probe is a sequential scan (203 ms at 2,000,000 rows).
WITH due AS MATERIALIZED (
  SELECT d.ctid, pg_catalog.nextval('pgjobs.jobs_seq') AS seq
  FROM (
    SELECT j.ctid
    FROM pgjobs.jobs AS j
    WHERE j.finished_at IS NULL
      AND j.due_at IS NOT NULL
      AND j.due_at <= pg_catalog.now()
    ORDER BY j.due_at, j.id
    LIMIT %(limit)s::bigint
    FOR NO KEY UPDATE SKIP LOCKED
  ) AS d
), staged AS (
  UPDATE pgjobs.jobs AS j
  SET state = 'available',
      due_at = NULL,
      seq = due.seq,
      -- As it is: its lane hears of it (note_return).
      lane = j.lane
  FROM due
  WHERE j.ctid = due.ctid
  RETURNING j.queue
)
SELECT queue, pg_catalog.count(*) FROM staged GROUP BY queue
