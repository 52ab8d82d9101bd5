-- The nodes that consume from a queue, the living first, what each consumes and is, and whether it knows
-- a task. A row per worker process: few.
SELECT n.node, n.name,
       least(greatest(n.heartbeat_at, '0001-01-03'), '9999-12-29'),
       n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second',
       n.queues, n.details::text, %(task)s = ANY (n.tasks)
FROM pgjobs.nodes AS n
WHERE %(queue)s = ANY (n.queues)
ORDER BY n.heartbeat_at DESC
LIMIT %(limit)s::bigint
