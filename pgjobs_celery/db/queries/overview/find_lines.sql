-- The queues that hold jobs which run or may run, by name: from one to the next by the index, 40 µs each.
-- DISTINCT would read all jobs of all of them.
WITH RECURSIVE lines AS (
  (SELECT j.queue
   FROM pgjobs.jobs AS j
   WHERE j.finished_at IS NULL
     AND j.due_at IS NULL
   ORDER BY j.queue
   LIMIT 1)
  UNION ALL
  SELECT (SELECT j.queue
          FROM pgjobs.jobs AS j
          WHERE j.queue > l.queue
            AND j.finished_at IS NULL
            AND j.due_at IS NULL
          ORDER BY j.queue
          LIMIT 1)
  FROM lines AS l
  WHERE l.queue IS NOT NULL
)
SELECT l.queue
FROM lines AS l
WHERE l.queue IS NOT NULL
LIMIT %(limit)s::bigint
