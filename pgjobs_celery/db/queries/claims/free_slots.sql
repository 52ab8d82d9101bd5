-- Free the slots whose job no longer runs, whichever way it ended, and return how many each queue has
-- now and had before; NULL for a queue without a limit. The job is looked up in a subquery that cannot
-- become a join: a merge join would walk the whole primary key.
WITH freed AS (
  DELETE FROM pgjobs.slots AS s
  WHERE s.queue = ANY (%(locked)s::text[])
    AND (
      SELECT j.attempt
      FROM pgjobs.jobs AS j
      WHERE j.id = s.job
        AND j.queue = s.queue
        AND j.claimed_by IS NOT NULL
        -- Not replaced: others run for it, perhaps in its place.
        AND j.message IS NOT NULL
    ) IS DISTINCT FROM s.attempt
  RETURNING s.queue
)
SELECT p.queue, p.before + p.freed, p.before
FROM (
  SELECT l.queue,
         l.concurrency - (SELECT pg_catalog.count(*) FROM pgjobs.slots AS s WHERE s.queue = l.queue) AS before,
         (SELECT pg_catalog.count(*) FROM freed AS f WHERE f.queue = l.queue) AS freed
  FROM pgjobs.limits AS l
  WHERE l.queue = ANY (%(locked)s::text[])
) AS p
