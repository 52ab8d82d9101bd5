-- Delete a key. An expired key counts as absent.
WITH deleted AS (
  DELETE FROM pgjobs.entries AS e
  WHERE e.key = %(key)s::bytea
  RETURNING e.expires_at
)
SELECT pg_catalog.count(*)
FROM deleted AS d
WHERE d.expires_at IS NULL OR d.expires_at > pg_catalog.now()
