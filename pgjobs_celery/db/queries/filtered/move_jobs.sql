-- on match_jobs FOR NO KEY UPDATE
-- Jobs go to the tail of the other queue, in the order of their ids. The message keeps its own routing:
-- where it was published to an exchange, a retry by its task takes that way again.
WITH line AS MATERIALIZED (
  SELECT o.id, pg_catalog.nextval('pgjobs.jobs_seq') AS seq, ARRAY(
    SELECT t.gate
    FROM pgjobs.jobs AS g
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(g.lane, E'\n')) WITH ORDINALITY AS t (gate, place)
    WHERE g.id = o.id
      AND t.gate !~ '^(rate/queue/|running/queue/|pause/key/|share=)'
    ORDER BY t.place
  ) AS gates
  FROM (SELECT m.id FROM matched AS m ORDER BY m.id) AS o
), changed AS (
  UPDATE pgjobs.jobs AS j
  SET queue = %(to)s,
      seq = line.seq,
      -- The gates of its task go with it, those of the queue and its share stay.
      lane = CASE WHEN pg_catalog.cardinality(line.gates) > 0 THEN pg_catalog.array_to_string(line.gates, E'\n') END,
      priority = ((j.priority & 255) + CASE WHEN pg_catalog.cardinality(line.gates) > 0 THEN 256 ELSE 0 END)::smallint
  FROM line
  WHERE j.id = line.id
    AND j.state IN ('scheduled', 'available', 'retryable')
    AND j.queue <> %(to)s
  RETURNING j.id, j.task_id, j.queue, j.state
)
SELECT m.id, c.task_id, c.queue, c.state FROM matched AS m LEFT JOIN changed AS c ON c.id = m.id
