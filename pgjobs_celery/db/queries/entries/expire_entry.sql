-- Set a key's time to live. With no seconds left it is deleted at once, as on Redis.
WITH changed AS (
  UPDATE pgjobs.entries AS e
  SET expires_at = pg_catalog.now() + %(expires)s::double precision * interval '1 second'
  WHERE e.key = %(key)s::bytea
    AND (e.expires_at IS NULL OR e.expires_at > pg_catalog.now())
  RETURNING 1
)
SELECT pg_catalog.count(*) FROM changed
