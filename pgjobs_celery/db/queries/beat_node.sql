-- One row per process that claims, one write per heartbeat, none per job.
INSERT INTO pgjobs.nodes AS n (node, name, queues, version)
VALUES (%(node)s::uuid, %(name)s, %(queues)s::text[], %(version)s)
ON CONFLICT (node) DO UPDATE
SET heartbeat_at = now(),
    name = excluded.name,
    queues = excluded.queues
