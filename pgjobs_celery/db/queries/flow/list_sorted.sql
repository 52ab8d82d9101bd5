-- The queues whose own rules put each of their jobs into a lane: nothing is claimed from their lines. Of a flow the
-- name as it stands there.
SELECT l.queue FROM pgjobs.limits AS l WHERE l.fair_by IS NOT NULL
UNION
SELECT pg_catalog.substr(f.flow, pg_catalog.strpos(f.flow, '/queue/') + 7)
FROM pgjobs.flows AS f
WHERE (pg_catalog.starts_with(f.flow, 'rate/queue/') OR pg_catalog.starts_with(f.flow, 'running/queue/'))
  AND f.amount IS NOT NULL
