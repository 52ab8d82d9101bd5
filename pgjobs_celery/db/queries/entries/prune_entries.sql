-- Delete expired keys in batches. SKIP LOCKED: a key that is just being set again holds up nobody.
WITH old AS MATERIALIZED (
  SELECT e.key
  FROM pgjobs.entries AS e
  WHERE e.expires_at <= pg_catalog.now()
  ORDER BY e.expires_at
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.entries AS e USING old WHERE e.key = old.key RETURNING 1
)
SELECT pg_catalog.count(*) FROM pruned
