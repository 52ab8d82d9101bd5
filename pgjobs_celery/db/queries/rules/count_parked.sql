-- How many jobs stand in each of these lanes; no further than "most" of all of them together. By jobs_lanes.
SELECT f.lane, pg_catalog.count(*)
FROM (
  SELECT w.lane
  FROM unnest(%(queues)s::text[], %(lanes)s::text[]) AS w (queue, lane)
  CROSS JOIN LATERAL (
    SELECT
    FROM pgjobs.jobs AS j
    WHERE j.queue = w.queue
      AND j.lane = w.lane
      AND j.finished_at IS NULL
      AND j.due_at IS NULL
    ORDER BY j.queue, j.lane, j.priority, j.seq
    LIMIT %(most)s::bigint
  ) AS j
  LIMIT %(most)s::bigint
) AS f
GROUP BY f.lane
