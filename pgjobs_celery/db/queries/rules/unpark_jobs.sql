-- Take jobs out of a lane and put them, at their place in line, where they belong without the pause: into
-- another lane, or (NULL) into none. By the index of lanes, in order, so many at once; what a session has locked
-- is left for the next time.
WITH parked AS MATERIALIZED (
  SELECT j.ctid
  FROM pgjobs.jobs AS j
  WHERE j.queue = %(queue)s
    AND j.lane = %(lane)s
    AND j.finished_at IS NULL
    AND j.due_at IS NULL
    AND j.claimed_by IS NULL
  ORDER BY j.queue, j.lane, j.priority, j.seq
  LIMIT %(limit)s::bigint
  FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
  UPDATE pgjobs.jobs AS j
  SET lane = %(after)s::text,
      priority = CASE WHEN %(after)s::text IS NULL THEN j.priority & 255 ELSE j.priority END
  FROM parked AS p
  WHERE j.ctid = p.ctid
  RETURNING j.id
)
SELECT pg_catalog.count(*) FROM moved
