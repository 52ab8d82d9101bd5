SELECT e.key, e.value
FROM pgjobs.entries AS e
WHERE e.key = ANY (ARRAY(SELECT pg_catalog.unnest(%(keys)s::bytea[])))
  AND (e.expires_at IS NULL OR e.expires_at > pg_catalog.now())
