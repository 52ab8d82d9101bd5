-- Delete what has expired, in batches. Who sets a key again meanwhile is waited for by nobody.
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
