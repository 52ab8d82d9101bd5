-- Delete messages past their expiry, in batches; and transient ones after a day, such as a reply that
-- came when nobody waited for it any more.
WITH reaped AS (
  DELETE FROM pgjobs.messages AS m
  WHERE m.id = ANY (ARRAY(
    SELECT r.id
    FROM pgjobs.messages AS r
    WHERE (r.expires_at < pg_catalog.now()
           OR NOT r.durable AND r.inserted_at < pg_catalog.now() - interval '1 day')
      AND r.claimed_by IS NULL
    LIMIT %(limit)s::bigint
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING 1
)
SELECT pg_catalog.count(*) FROM reaped
