-- Every queue that is declared to stay, paused, limited or has jobs; of those that never had any, nothing
-- but the name.
SELECT coalesce(q.name, l.queue), l.state, l.node, coalesce(l.jobs, 0), coalesce(l.oldest, 0),
       m.paused_at IS NOT NULL, m.concurrency
FROM (
  SELECT d.name FROM pgjobs.queues AS d WHERE d.owner IS NULL AND d.expires_after IS NULL
  UNION
  SELECT p.queue FROM pgjobs.limits AS p WHERE p.paused_at IS NOT NULL OR p.concurrency IS NOT NULL
) AS q
FULL JOIN pgjobs.lines AS l ON l.queue = q.name
LEFT JOIN pgjobs.limits AS m ON m.queue = coalesce(q.name, l.queue)
ORDER BY 1, 2, 3
