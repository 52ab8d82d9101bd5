-- Delete old rows in batches, along audit_at.
WITH old AS MATERIALIZED (
  SELECT a.id
  FROM pgjobs.audit AS a
  WHERE a.at < pg_catalog.now() - %(age)s::double precision * interval '1 second'
  ORDER BY a.at, a.id
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.audit AS a USING old WHERE a.id = old.id RETURNING 1
)
SELECT pg_catalog.count(*) FROM pruned
