-- Route and insert in one statement: an event that nobody listens to costs one look and not a row.
-- Events have one word for all the queues that go with their listeners (event), which PostgreSQL sends
-- once for each commit: 100 workers hear of each other, and with a name for each queue there would be
-- 500,000 words a second.
WITH routed AS MATERIALIZED (
  SELECT DISTINCT b.queue, q.message_ttl,
         CASE WHEN q.auto_delete THEN %(event)s::text END AS word
  FROM pgjobs.exchanges AS e
  JOIN pgjobs.bindings AS b ON b.exchange = e.name
  LEFT JOIN pgjobs.queues AS q ON q.name = b.queue
  WHERE e.name = %(exchange)s
    AND CASE e.type
          WHEN 'fanout' THEN true
          WHEN 'topic' THEN %(routing_key)s ~ b.pattern
          ELSE b.routing_key = %(routing_key)s
        END
), put AS (
  INSERT INTO pgjobs.messages (durable, queue, priority, expires_at, message, body)
  SELECT %(durable)s::boolean, r.queue, %(priority)s::smallint,
         pg_catalog.now() + least(%(ttl)s::double precision, r.message_ttl) * interval '1 second',
         %(message)s, %(body)s::bytea
  FROM routed AS r
)
SELECT pg_catalog.pg_notify(%(channel)s, coalesce(r.word, %(kind)s || r.queue)) FROM routed AS r
