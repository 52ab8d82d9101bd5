-- Delete finished jobs past their age, or up to a moment, oldest first and in batches: each holds its
-- locks for milliseconds, and none on a row that a claim could want. Starts at the time up to which
-- the last run came, for what is kept longer stands in front of what is to go.
-- What a chord's body waits for stays.
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
-- Infinity, which somebody wrote by hand, is no time in Python.
SELECT pg_catalog.count(*), nullif(pg_catalog.max(finished_at), '-infinity') FROM pruned
