-- The lanes in which jobs are parked, behind one of them. A lane names its gates in order, so that those of
-- pauses come first: in every collation its text lies between these two words. One probe of the index for each
-- queue with lanes, and one for each lane that is found.
WITH RECURSIVE names (queue) AS (
  (SELECT j.queue
   FROM pgjobs.jobs AS j
   WHERE j.lane IS NOT NULL
     AND j.finished_at IS NULL
     AND j.due_at IS NULL
     AND j.queue >= %(queue)s::text
   ORDER BY j.queue, j.lane
   LIMIT 1)
  UNION ALL
  SELECT (SELECT j.queue
          FROM pgjobs.jobs AS j
          WHERE j.lane IS NOT NULL
            AND j.finished_at IS NULL
            AND j.due_at IS NULL
            AND j.queue > n.queue
          ORDER BY j.queue, j.lane
          LIMIT 1)
  FROM names AS n
  WHERE n.queue IS NOT NULL
), parked (queue, lane) AS (
  SELECT n.queue, (
    SELECT j.lane
    FROM pgjobs.jobs AS j
    WHERE j.queue = n.queue
      AND j.lane > CASE n.queue WHEN %(queue)s::text THEN greatest(%(lane)s::text, 'pause') ELSE 'pause' END
      AND j.lane < 'pausf'
      AND j.finished_at IS NULL
      AND j.due_at IS NULL
    ORDER BY j.queue, j.lane
    LIMIT 1)
  FROM names AS n
  WHERE n.queue IS NOT NULL
  UNION ALL
  SELECT p.queue, (
    SELECT j.lane
    FROM pgjobs.jobs AS j
    WHERE j.queue = p.queue
      AND j.lane > p.lane
      AND j.lane < 'pausf'
      AND j.finished_at IS NULL
      AND j.due_at IS NULL
    ORDER BY j.queue, j.lane
    LIMIT 1)
  FROM parked AS p
  WHERE p.lane IS NOT NULL
)
SELECT p.queue, p.lane
FROM parked AS p
WHERE p.lane IS NOT NULL
ORDER BY p.queue, p.lane
LIMIT %(limit)s::bigint
