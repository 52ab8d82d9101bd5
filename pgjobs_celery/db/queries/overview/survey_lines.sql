-- How many jobs of each queue may run, how many run, and for how many seconds the oldest has been ready;
-- among so many entries from the head of each line, and whether there are more.
SELECT q.name,
       pg_catalog.count(*) FILTER (WHERE h.claimed_by IS NULL),
       pg_catalog.count(*) FILTER (WHERE h.claimed_by IS NOT NULL AND h.has_message),
       pg_catalog.count(*) >= %(depth)s::bigint,
       extract(epoch FROM pg_catalog.now()
                          - pg_catalog.min(h.scheduled_at) FILTER (WHERE h.claimed_by IS NULL
                                                               AND pg_catalog.isfinite(h.scheduled_at)))::float8
FROM pg_catalog.unnest(%(queues)s::text[]) AS q (name)
CROSS JOIN LATERAL (
  SELECT j.claimed_by, j.scheduled_at, j.message IS NOT NULL AS has_message
  FROM pgjobs.jobs AS j
  WHERE j.queue = q.name
    AND j.finished_at IS NULL
    AND j.due_at IS NULL
  ORDER BY j.priority, j.seq
  LIMIT %(depth)s::bigint
) AS h
GROUP BY q.name
