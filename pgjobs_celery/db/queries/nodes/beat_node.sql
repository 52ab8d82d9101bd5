-- One row per process that claims, one write per heartbeat, none per job. Returns whether other nodes
-- are dead, and whether this node may judge that: after an outage that hit every node, every node looks
-- dead. A node that was itself cut off gives the others time to come back.
WITH beat AS (
  INSERT INTO pgjobs.nodes AS n (node, name, queues, version, lease, lost_claims)
  VALUES (%(node)s::uuid, %(name)s, %(queues)s::text[], %(version)s,
          %(lease)s::double precision, %(lost_claims)s::bigint)
  ON CONFLICT (node) DO UPDATE
  SET heartbeat_at = pg_catalog.now(),
      steady_since = CASE
        WHEN n.heartbeat_at < pg_catalog.now() - n.lease / 2::float8 * interval '1 second' THEN pg_catalog.now()
        ELSE n.steady_since END,
      name = excluded.name,
      queues = excluded.queues,
      lease = excluded.lease,
      lost_claims = excluded.lost_claims
  RETURNING n.node, n.steady_since
)
SELECT b.steady_since < pg_catalog.now() - %(grace)s::double precision * interval '1 second'
       AND EXISTS (
         SELECT
         FROM pgjobs.nodes AS d
         WHERE d.heartbeat_at < pg_catalog.now() - d.lease * interval '1 second'
           AND d.node <> b.node)
FROM beat AS b
