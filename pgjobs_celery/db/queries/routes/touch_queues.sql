-- Keep queues in use that would be deleted otherwise. An auto-delete queue belongs to its first
-- consumer, and to the next when that is gone; until the first has come it stays. Returns those that
-- exist.
UPDATE pgjobs.queues AS q
SET used_at = pg_catalog.now(),
    owner = CASE
      WHEN q.auto_delete AND NOT EXISTS (
        SELECT
        FROM pgjobs.nodes AS n
        WHERE n.node = q.owner
          AND n.heartbeat_at > pg_catalog.now() - n.lease * interval '1 second')
      THEN %(node)s::uuid
      ELSE q.owner END
WHERE q.name = ANY (%(names)s::text[])
RETURNING 1
