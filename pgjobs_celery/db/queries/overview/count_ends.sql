-- How many jobs of each queue have ended in the last seconds, how many of them failed for good, and how
-- long ago the first of them; among so many of the newest ends. 1 ms for 2,000.
SELECT n.queue, pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE n.state = 'discarded'),
       extract(epoch FROM pg_catalog.now() - pg_catalog.min(n.finished_at))::float8
FROM (
  SELECT j.queue, j.state, j.finished_at
  FROM pgjobs.jobs AS j
  WHERE j.finished_at <= pg_catalog.now()
    AND j.finished_at > pg_catalog.now() - %(seconds)s::double precision * interval '1 second'
  ORDER BY j.finished_at DESC
  LIMIT %(depth)s::bigint
) AS n
GROUP BY n.queue
