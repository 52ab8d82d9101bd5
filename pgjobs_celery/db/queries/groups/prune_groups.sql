-- Delete groups past their age, in batches. A chord goes with the last of its results that is still
-- needed; one that never became complete was failed before.
WITH old AS MATERIALIZED (
  SELECT g.ctid
  FROM pgjobs.groups AS g
  WHERE g.inserted_at < pg_catalog.now() - %(max_age)s::double precision * interval '1 second'
    AND (g.published_at IS NOT NULL OR g.size IS NULL)
  ORDER BY g.inserted_at
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.groups AS g USING old WHERE g.ctid = old.ctid RETURNING 1
)
SELECT pg_catalog.count(*) FROM pruned
