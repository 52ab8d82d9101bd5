-- Mark the nodes that have been silent for longer than their lease, by the database's clock, for the
-- statement that takes what they held in the same transaction. Apart from it, and before: a claim locks
-- its node's row, so that every claim of these is committed by now, and seen by a statement that
-- begins later. SKIP LOCKED: one rescuer for each node, and none for one that is just claiming.
UPDATE pgjobs.nodes AS n
SET heartbeat_at = '-infinity'
WHERE n.node = ANY (ARRAY(
  SELECT d.node
  FROM pgjobs.nodes AS d
  WHERE d.heartbeat_at < pg_catalog.now() - d.lease * interval '1 second'
  FOR UPDATE SKIP LOCKED
))
