-- Bind a queue to an exchange; nothing if that exchange does not exist.
WITH bound AS (
  INSERT INTO pgjobs.bindings (exchange, routing_key, queue, pattern)
  SELECT e.name, %(routing_key)s, %(queue)s, %(pattern)s
  FROM pgjobs.exchanges AS e
  WHERE e.name = %(exchange)s
  ON CONFLICT DO NOTHING
)
SELECT FROM pgjobs.exchanges AS e WHERE e.name = %(exchange)s
