-- A queue as another process sees it: whether it may be used (exclusive: by its owner only, while that
-- lives), and how many other processes consume from it, as far as their heartbeats tell.
SELECT q.exclusive AND q.owner <> %(node)s::uuid AND EXISTS (
         SELECT
         FROM pgjobs.nodes AS n
         WHERE n.node = q.owner
           AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second'),
       (SELECT pg_catalog.count(*)
        FROM pgjobs.nodes AS n
        WHERE q.name = ANY (n.queues)
          AND n.node <> %(node)s::uuid
          AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second')
FROM pgjobs.queues AS q
WHERE q.name = %(name)s
