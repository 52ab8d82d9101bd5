-- Route and insert in one statement: an event that nobody listens to costs one look and not a row.
WITH put AS (
  INSERT INTO pgjobs.messages (durable, queue, priority, expires_at, message, body)
  SELECT DISTINCT %(durable)s::boolean, b.queue, %(priority)s::smallint,
         pg_catalog.now() + least(%(ttl)s::double precision, q.message_ttl) * interval '1 second',
         %(message)s, %(body)s::bytea
  FROM pgjobs.exchanges AS e
  JOIN pgjobs.bindings AS b ON b.exchange = e.name
  LEFT JOIN pgjobs.queues AS q ON q.name = b.queue
  WHERE e.name = %(exchange)s
    AND CASE e.type
          WHEN 'fanout' THEN true
          WHEN 'topic' THEN %(routing_key)s ~ b.pattern
          ELSE b.routing_key = %(routing_key)s
        END
  RETURNING queue
)
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || put.queue) FROM put
