-- One row per process that claims, one write per heartbeat, none per job. Returns whether other nodes
-- are dead, and whether this node may judge that: after an outage that hit every node, every node looks
-- dead. A node that was itself cut off gives the others time to come back. And whether the row lacks what
-- the node is: it is told when it changes, for the names of 1,000 tasks are 40 kB, and again where others
-- have deleted the row.
WITH beat AS (
  INSERT INTO pgjobs.nodes AS n (node, name, queues, version, lease, lost_claims, details, tasks)
  VALUES (%(node)s::uuid, %(name)s, %(queues)s::text[], %(version)s,
          %(lease)s::double precision, %(lost_claims)s::bigint, %(details)s::jsonb, %(tasks)s::text[])
  ON CONFLICT (node) DO UPDATE
  SET heartbeat_at = pg_catalog.now(),
      steady_since = CASE
        WHEN n.heartbeat_at < pg_catalog.now() - n.lease / 2::float8 * interval '1 second' THEN pg_catalog.now()
        ELSE n.steady_since END,
      name = excluded.name,
      queues = excluded.queues,
      lease = excluded.lease,
      lost_claims = excluded.lost_claims,
      details = coalesce(excluded.details, n.details),
      tasks = CASE WHEN excluded.details IS NULL THEN n.tasks ELSE excluded.tasks END
  RETURNING n.node, n.steady_since, n.details IS NULL AS is_unknown
)
SELECT b.steady_since < pg_catalog.now() - %(grace)s::double precision * interval '1 second'
       AND EXISTS (
         SELECT
         FROM pgjobs.nodes AS d
         WHERE d.heartbeat_at < pg_catalog.now() - d.lease * interval '1 second'
           AND d.node <> b.node),
       b.is_unknown
FROM beat AS b
