-- Mark the nodes that have been silent for longer than their lease, by the database's clock, for the
-- statement that takes what they held in the same transaction. This comes before it, as a statement of
-- its own: a claim locks its node's row, so every claim of these nodes is committed by now, and a
-- statement that begins later sees it. SKIP LOCKED: each node gets one rescuer, and a node that is just
-- claiming gets none.
UPDATE pgjobs.nodes AS n
SET heartbeat_at = '-infinity'
WHERE n.node = ANY (ARRAY(
  SELECT d.node
  FROM pgjobs.nodes AS d
  WHERE d.heartbeat_at < pg_catalog.now() - d.lease * interval '1 second'
  FOR UPDATE SKIP LOCKED
))
