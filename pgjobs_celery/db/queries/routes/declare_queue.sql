-- Writes only what is new: every producer declares its queue once per connection. An exclusive queue is
-- taken over from an owner that is silent: a worker that was killed and starts again must not wait for
-- the whole lease. Returns the owner.
WITH declared AS (
  INSERT INTO pgjobs.queues AS q
    (name, durable, auto_delete, exclusive, owner, expires_after, message_ttl, arguments)
  VALUES (%(name)s, %(durable)s, %(auto_delete)s, %(exclusive)s, %(owner)s::uuid,
          %(expires_after)s::double precision, %(message_ttl)s::double precision,
          %(arguments)s::jsonb)
  ON CONFLICT (name) DO UPDATE
  SET owner = excluded.owner,
      used_at = pg_catalog.now()
  WHERE q.exclusive
    AND q.owner <> excluded.owner
    AND NOT EXISTS (
      SELECT
      FROM pgjobs.nodes AS n
      WHERE n.node = q.owner
        AND n.heartbeat_at > pg_catalog.now() - n.lease / 3::float8 * interval '1 second')
  RETURNING q.owner, q.exclusive
)
SELECT owner, exclusive FROM declared
UNION ALL
SELECT q.owner, q.exclusive FROM pgjobs.queues AS q WHERE q.name = %(name)s
LIMIT 1
