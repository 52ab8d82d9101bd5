-- The lanes in which jobs are parked, whether a worker has seen them or not. Reads the lanes in which jobs wait:
-- 20 ms for 100,000.
SELECT p.queue, p.lane
FROM (
  SELECT l.queue, l.lane FROM pgjobs.lanes AS l WHERE position(E'\npause/' IN E'\n' || l.lane) > 0
  UNION
  SELECT a.queue, a.lane FROM pgjobs.arrivals AS a WHERE position(E'\npause/' IN E'\n' || a.lane) > 0
) AS p
WHERE (p.queue, p.lane) > (%(queue)s::text, %(lane)s::text)
ORDER BY p.queue, p.lane
LIMIT %(limit)s::bigint
