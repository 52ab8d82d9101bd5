-- Delete finished jobs past their age, or up to a moment, oldest first and in batches: each holds its
-- locks for milliseconds, and none on a row that a claim could want.
WITH old AS MATERIALIZED (
  SELECT j.ctid
  FROM pgjobs.jobs AS j
  WHERE j.state = %(state)s
    AND j.finished_at IS NOT NULL
    AND j.finished_at <= greatest(
      now() - %(max_age)s::double precision * interval '1 second', %(until)s::timestamptz)
  ORDER BY j.state, j.finished_at
  LIMIT %(limit)s::bigint
  FOR UPDATE SKIP LOCKED
), pruned AS (
  DELETE FROM pgjobs.jobs AS j
  USING old
  WHERE j.ctid = old.ctid
  RETURNING 1
)
SELECT count(*) FROM pruned
