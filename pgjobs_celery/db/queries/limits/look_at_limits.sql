-- All that a worker must know before it claims: the queues that are limited, and to how many jobs; those whose own
-- rules put each of their jobs into a lane (of a flow the name as it stands there), so that nothing is claimed from
-- their lines; and, in a row without a queue, that jobs of a task, with a tag or of a key are paused.
SELECT l.queue, l.concurrency, l.fair_by IS NOT NULL
FROM pgjobs.limits AS l
WHERE l.concurrency IS NOT NULL
   OR l.fair_by IS NOT NULL
UNION ALL
SELECT pg_catalog.substr(f.flow, pg_catalog.strpos(f.flow, '/queue/') + 7), NULL, true
FROM pgjobs.flows AS f
WHERE (pg_catalog.starts_with(f.flow, 'rate/queue/') OR pg_catalog.starts_with(f.flow, 'running/queue/'))
  AND f.amount IS NOT NULL
UNION ALL
SELECT NULL, NULL, NULL
WHERE EXISTS (
  SELECT FROM pgjobs.pauses AS p
  WHERE p.until IS NULL
     OR p.until > pg_catalog.now())
