-- For consumers that acknowledge: the messages are ours until they do, or until this node is gone.
WITH claimed AS (
  UPDATE pgjobs.messages AS m
  SET claimed_by = %(node)s::uuid
  WHERE m.id = ANY (ARRAY(
    SELECT r.id
    FROM pgjobs.messages AS r
    WHERE r.queue = ANY (%(queues)s::text[])
      AND r.claimed_by IS NULL
      AND (r.expires_at IS NULL OR r.expires_at >= pg_catalog.now())
    ORDER BY r.queue, r.priority, r.id
    LIMIT %(limit)s::bigint
    FOR UPDATE SKIP LOCKED
  ))
  AND m.queue = ANY (%(queues)s::text[])
  RETURNING m.id, m.queue, m.priority, m.redelivered, m.message, m.body
)
SELECT id, queue, redelivered, message, body FROM claimed ORDER BY priority, id
