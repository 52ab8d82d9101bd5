-- Delete finished jobs past their age, or up to a moment, oldest first and in batches: each batch holds
-- its locks for milliseconds, and none on a row that a claim could want. Starts at the time that the
-- last run reached, because rows that are kept longer stand in front of those to delete.
-- Results that a chord's body still needs stay.
WITH old AS MATERIALIZED (
  SELECT j.ctid, j.finished_at
  FROM pgjobs.jobs AS j
  WHERE j.state = %(state)s
    AND j.finished_at IS NOT NULL
    AND j.finished_at >= coalesce(%(since)s::timestamptz, '-infinity')
    AND j.finished_at <= greatest(
      pg_catalog.now() - %(max_age)s::double precision * interval '1 second', %(until)s::timestamptz)
    AND (j.group_index IS NULL
         OR (SELECT g.published_at IS NULL AND (g.size IS NOT NULL OR g.body IS NOT NULL)
             FROM pgjobs.groups AS g
             WHERE g.group_id = j.group_id) IS NOT TRUE)
  ORDER BY j.finished_at
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.jobs AS j
  USING old
  WHERE j.ctid = old.ctid
  RETURNING j.finished_at
)
-- Python cannot hold infinity, which may have been written by hand.
SELECT pg_catalog.count(*), nullif(pg_catalog.max(finished_at), '-infinity') FROM pruned
