-- Nodes past their lease, by how many seconds, and how many nodes live. A row per worker process: few.
SELECT n.name, extract(epoch FROM pg_catalog.now() - n.heartbeat_at)::float8 - n.lease, n.queues,
       (SELECT pg_catalog.count(*)
        FROM pgjobs.nodes AS a
        WHERE a.heartbeat_at > pg_catalog.now() - a.lease * interval '1 second')
FROM pgjobs.nodes AS n
WHERE n.heartbeat_at <= pg_catalog.now() - n.lease * interval '1 second'
  AND pg_catalog.isfinite(n.heartbeat_at)
ORDER BY n.heartbeat_at
LIMIT %(limit)s::bigint
