-- The processes that claim jobs, and whether each is within its lease; of its queues those that hold jobs.
SELECT n.node, n.name, n.lost_claims,
       n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second',
       ARRAY(
         SELECT u.name
         FROM pg_catalog.unnest(n.queues) AS u (name)
         LEFT JOIN pgjobs.queues AS q ON q.name = u.name
         WHERE q.owner IS NULL
           AND q.expires_after IS NULL),
       -- Whatever a hand has written there.
       CASE WHEN n.details ->> 'slots'::text ~ '^[0-9]{1,9}$' THEN (n.details ->> 'slots'::text)::integer ELSE 0 END
FROM pgjobs.nodes AS n
ORDER BY n.name, n.node
LIMIT %(limit)s::bigint
