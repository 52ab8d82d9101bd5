-- Is there such a queue, and by how many live processes is it consumed.
SELECT (SELECT count(*) FROM pgjobs.nodes AS n
        WHERE q.name = ANY (n.queues)
          AND n.heartbeat_at >= now() - n.lease * interval '1 second')
FROM pgjobs.queues AS q
WHERE q.name = %(name)s
