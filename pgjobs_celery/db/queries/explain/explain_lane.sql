-- How many jobs of a lane stand before a place in it, how many open lanes of the queue have their turn before it, and
-- in how many seconds it opens, if it is shut; each counted up to so many.
SELECT (SELECT pg_catalog.count(*)
        FROM (SELECT
              FROM pgjobs.jobs AS j
              WHERE j.queue = %(queue)s
                AND j.lane = %(lane)s
                AND j.finished_at IS NULL
                AND j.due_at IS NULL
                AND j.claimed_by IS NULL
                AND (j.priority, j.seq) < (%(priority)s::smallint, %(seq)s::bigint)
              ORDER BY j.queue, j.lane, j.priority, j.seq
              LIMIT %(depth)s::bigint) AS a),
       (SELECT pg_catalog.count(*)
        FROM (SELECT
              FROM pgjobs.lanes AS o
              WHERE o.queue = %(queue)s
                AND o.shut_until IS NULL
                AND o.pass < l.pass
              LIMIT %(depth)s::bigint) AS b),
       extract(epoch FROM CASE WHEN pg_catalog.isfinite(l.shut_until)
                               THEN l.shut_until - pg_catalog.clock_timestamp() END)::float8
FROM (SELECT 1) AS one
LEFT JOIN pgjobs.lanes AS l ON l.queue = %(queue)s AND l.lane = %(lane)s
LIMIT 1
