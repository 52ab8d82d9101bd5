-- How many jobs wait and run, line by line: a line is a queue and a priority. The lines are found by leaps
-- from one to the next, and each is read from its head, where what runs and what is the oldest stands, so
-- many entries in all lines together; how it goes on is told by the place of its last job. To count
-- 1,000,000 jobs takes seconds, and this 0.2 s.
-- Then those that have to wait for their time, up to as many.
WITH RECURSIVE lines AS (
  (
    SELECT j.queue, j.priority
    FROM pgjobs.jobs AS j
    WHERE j.finished_at IS NULL
      AND j.due_at IS NULL
    ORDER BY j.queue, j.priority, j.seq
    LIMIT 1
  )
  UNION ALL
  SELECT n.queue, n.priority
  FROM lines AS l
  CROSS JOIN LATERAL (
    SELECT j.queue, j.priority
    FROM pgjobs.jobs AS j
    WHERE (j.queue, j.priority) > (l.queue, l.priority)
      AND j.finished_at IS NULL
      AND j.due_at IS NULL
    ORDER BY j.queue, j.priority, j.seq
    LIMIT 1
  ) AS n
), chosen AS MATERIALIZED (
  SELECT l.queue, l.priority FROM lines AS l LIMIT %(most)s::bigint
), heads AS MATERIALIZED (
  SELECT c.queue, c.priority, h.claimed_by, h.seq, h.scheduled_at, h.has_message
  FROM chosen AS c
  CROSS JOIN LATERAL (
    SELECT j.claimed_by, j.seq, j.scheduled_at, j.message IS NOT NULL AS has_message
    FROM pgjobs.jobs AS j
    WHERE j.queue = c.queue
      AND j.priority = c.priority
      AND j.finished_at IS NULL
      AND j.due_at IS NULL
    ORDER BY j.seq
    LIMIT greatest(10::bigint, %(depth)s::bigint / (SELECT pg_catalog.count(*) FROM chosen))
  ) AS h
)
SELECT h.queue,
       CASE WHEN h.claimed_by IS NULL THEN 'available' ELSE 'executing' END,
       h.claimed_by,
       pg_catalog.count(*),
       greatest(0::float8, extract(epoch FROM pg_catalog.now() - pg_catalog.min(
         CASE WHEN pg_catalog.isfinite(h.scheduled_at) THEN h.scheduled_at END))::float8),
       -- Where the head begins and ends, and the line.
       pg_catalog.min(h.seq),
       pg_catalog.max(h.seq),
       (SELECT j.seq
        FROM pgjobs.jobs AS j
        WHERE j.queue = h.queue
          AND j.priority = h.priority
          AND j.finished_at IS NULL
          AND j.due_at IS NULL
        ORDER BY j.seq DESC
        LIMIT 1)
FROM heads AS h
WHERE h.has_message
GROUP BY h.queue, h.priority, h.claimed_by
UNION ALL
SELECT d.queue, d.state, NULL, pg_catalog.count(*), 0, 0, 0, 0
FROM (
  SELECT j.queue, j.state
  FROM pgjobs.jobs AS j
  WHERE j.finished_at IS NULL
    AND j.due_at IS NOT NULL
  ORDER BY j.due_at, j.id
  LIMIT %(depth)s::bigint
) AS d
GROUP BY d.queue, d.state
