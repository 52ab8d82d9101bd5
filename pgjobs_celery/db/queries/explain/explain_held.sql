-- How many jobs of these queues each node holds, and since when the oldest; among so many entries from
-- the head of each line, where what runs stands. No index leads from a node to its jobs.
SELECT h.claimed_by, pg_catalog.count(*),
       least(greatest(pg_catalog.min(h.attempted_at), '0001-01-03'), '9999-12-29')
FROM pg_catalog.unnest(%(queues)s::text[]) AS q (name)
CROSS JOIN LATERAL (
  SELECT j.claimed_by, j.attempted_at
  FROM pgjobs.jobs AS j
  WHERE j.queue = q.name
    AND j.finished_at IS NULL
    AND j.due_at IS NULL
  ORDER BY j.priority, j.seq
  LIMIT %(depth)s::bigint
) AS h
WHERE h.claimed_by IS NOT NULL
GROUP BY h.claimed_by
