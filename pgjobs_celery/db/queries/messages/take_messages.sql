-- For consumers that do not acknowledge: the messages are read and deleted.
WITH taken AS (
  DELETE FROM pgjobs.messages AS m
  WHERE m.id = ANY (ARRAY(
    SELECT r.id
    FROM pgjobs.messages AS r
    WHERE r.queue = ANY (%(queues)s::text[])
      AND r.claimed_by IS NULL
    ORDER BY r.queue, r.priority, r.id
    LIMIT %(limit)s::bigint
    FOR UPDATE SKIP LOCKED
  ))
  AND m.queue = ANY (%(queues)s::text[])
  RETURNING m.id, m.queue, m.priority, m.redelivered, m.message, m.body,
            coalesce(m.expires_at < pg_catalog.now(), false) AS is_expired
)
SELECT id, queue, redelivered, message, body
FROM taken
WHERE NOT is_expired
ORDER BY priority, id
