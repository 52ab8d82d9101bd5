-- The processes that claim jobs, by name, with the queues of jobs that each consumes: not its mailboxes.
-- Times that Python cannot hold become the nearest that it can. A row per process: few.
SELECT n.node, n.name, n.version, n.details::text, n.tasks, n.lost_claims,
       least(greatest(n.lease, 0), 1e9::float8),
       least(greatest(n.started_at, t.first), t.last),
       least(greatest(n.heartbeat_at, t.first), t.last),
       ARRAY(
         SELECT u.name
         FROM pg_catalog.unnest(n.queues) AS u (name)
         LEFT JOIN pgjobs.queues AS q ON q.name = u.name
         WHERE q.owner IS NULL
           AND q.expires_after IS NULL),
       pg_catalog.now()
FROM pgjobs.nodes AS n
CROSS JOIN (SELECT timestamptz '0001-01-03' AS first, timestamptz '9999-12-29' AS last) AS t
ORDER BY n.name, n.node
LIMIT %(limit)s::bigint
