-- The last consumer in this process has gone. An auto-delete queue goes with the last consumer of all:
-- its owner deletes it, or hands it on to a process that consumes from it. Updates the node's row at
-- once, before the next heartbeat would.
WITH told AS (
  UPDATE pgjobs.nodes AS n
  SET queues = ARRAY(SELECT pg_catalog.unnest(n.queues) EXCEPT SELECT pg_catalog.unnest(%(names)s::text[]))
  WHERE n.node = %(node)s::uuid
), mine AS MATERIALIZED (
  SELECT q.name,
         (SELECT n.node
          FROM pgjobs.nodes AS n
          WHERE q.name = ANY (n.queues)
            AND n.node <> q.owner
            AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second'
          LIMIT 1) AS heir
  FROM pgjobs.queues AS q
  WHERE q.name = ANY (%(names)s::text[])
    AND q.auto_delete
    AND q.owner = %(node)s::uuid
  FOR UPDATE
), handed_on AS (
  UPDATE pgjobs.queues AS q
  SET owner = mine.heir
  FROM mine
  WHERE q.name = mine.name
    AND mine.heir IS NOT NULL
), unbound AS (
  DELETE FROM pgjobs.bindings AS b
  USING mine
  WHERE b.queue = mine.name
    AND mine.heir IS NULL
), emptied AS (
  DELETE FROM pgjobs.messages AS m
  USING mine
  WHERE m.queue = mine.name
    AND mine.heir IS NULL
)
DELETE FROM pgjobs.queues AS q
USING mine
WHERE q.name = mine.name
  AND mine.heir IS NULL
