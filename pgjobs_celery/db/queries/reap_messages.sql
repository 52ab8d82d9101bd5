-- Messages past their expiry, in batches.
WITH reaped AS (
  DELETE FROM pgjobs.messages AS m
  WHERE m.id = ANY (ARRAY(
    SELECT r.id
    FROM pgjobs.messages AS r
    WHERE r.expires_at < now()
      AND r.claimed_by IS NULL
    LIMIT %(limit)s::bigint
    FOR UPDATE SKIP LOCKED
  ))
  RETURNING 1
)
SELECT count(*) FROM reaped
