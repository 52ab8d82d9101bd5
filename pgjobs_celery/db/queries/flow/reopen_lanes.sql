-- Open the lanes of a queue whose time has come, and those in which a place has come free; under its lock. Whether
-- a job still runs is looked up in its row, so that no way out needs to know of lanes: 3 us for each job that runs
-- in a lane that is full. A lane that was shut has its turn now, and does not catch up on what it has missed.
WITH round AS MATERIALIZED (
  SELECT r.turn, r.pass, r.reopened, r.commons, r.floors
  FROM pgjobs.rounds AS r
  WHERE r.queue = %(queue)s
  ORDER BY r.turn DESC
  LIMIT 1
), due AS MATERIALIZED (
  SELECT d.at, d.shut_until
  FROM round AS r
  CROSS JOIN LATERAL (
    SELECT l.ctid AS at, l.shut_until
    FROM pgjobs.lanes AS l
    WHERE l.queue = %(queue)s
      AND l.shut_until IS NOT NULL
      AND l.shut_until >= r.reopened
      AND l.shut_until <= pg_catalog.now()
    ORDER BY l.shut_until
    LIMIT %(limit)s::bigint
  ) AS d
), freed AS MATERIALIZED (
  SELECT l.ctid AS at
  FROM pgjobs.lanes AS l
  WHERE l.queue = %(queue)s
    AND l.shut_until = 'infinity'
    AND NOT EXISTS (
      SELECT
      FROM pg_catalog.unnest(l.gates) AS u (gate)
      CROSS JOIN LATERAL (
        SELECT f.amount, f.period, f.scope
        FROM pgjobs.flows AS f
        WHERE f.flow = pg_catalog.split_part(u.gate, '=', 1)
        ORDER BY f.source DESC
        LIMIT 1
      ) AS f
      WHERE f.amount = 0
         OR (f.amount IS NOT NULL AND f.period IS NULL AND f.amount <= (
        SELECT pg_catalog.count(*)
        FROM (
          SELECT g.jobs, g.attempts
          FROM pgjobs.gates AS g
          WHERE g.gate = u.gate || CASE f.scope WHEN 'worker' THEN '@' || %(node)s::text ELSE '' END
          ORDER BY g.turn DESC
          LIMIT 1
        ) AS g
        CROSS JOIN LATERAL unnest(g.jobs, g.attempts) AS h (job, attempt)
        WHERE h.attempt = (
          SELECT j.attempt
          FROM pgjobs.jobs AS j
          WHERE j.id = h.job
            AND j.claimed_by IS NOT NULL
        )
      ))
    )
), opened AS (
  UPDATE pgjobs.lanes AS l
  SET shut_until = NULL,
      pass = greatest(l.pass, r.pass)
  FROM round AS r
  WHERE l.ctid = ANY (ARRAY(SELECT d.at FROM due AS d UNION ALL SELECT f.at FROM freed AS f))
  RETURNING l.common
)
UPDATE pgjobs.rounds AS o
SET turn = o.turn + 1,
    reopened = coalesce((SELECT pg_catalog.max(d.shut_until) FROM due AS d), o.reopened),
    commons = f.commons,
    floors = f.floors
FROM round AS r, (
  SELECT pg_catalog.array_agg(g.common) AS commons, pg_catalog.array_agg(g.floor) AS floors
  FROM (
    SELECT m.common, pg_catalog.min(m.floor) AS floor
    FROM (
      SELECT u.common, u.floor
      FROM round AS r
      CROSS JOIN LATERAL unnest(r.commons, r.floors) AS u (common, floor)
      UNION ALL
      SELECT w.common, r.pass
      FROM opened AS w
      CROSS JOIN round AS r
    ) AS m
    GROUP BY m.common
  ) AS g
) AS f
WHERE o.queue = %(queue)s
  AND o.turn = r.turn
  AND EXISTS (SELECT FROM opened)
