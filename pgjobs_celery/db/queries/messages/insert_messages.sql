-- One copy per queue. The wake-up belongs to the transaction: transient messages are not flushed, so
-- the lock that NOTIFY takes is short, and durable messages that are not jobs are few.
WITH put AS (
  INSERT INTO pgjobs.messages (durable, queue, priority, expires_at, message, body)
  SELECT %(durable)s::boolean, u.queue, %(priority)s::smallint,
         pg_catalog.now() + least(%(ttl)s::double precision, q.message_ttl) * interval '1 second',
         %(message)s, %(body)s::bytea
  FROM pg_catalog.unnest(%(queues)s::text[]) AS u (queue)
  LEFT JOIN pgjobs.queues AS q ON q.name = u.queue
  RETURNING queue
)
SELECT pg_catalog.pg_notify(%(channel)s, %(kind)s || put.queue) FROM put
