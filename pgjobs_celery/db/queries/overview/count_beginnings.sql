-- How many jobs of each queue were published in the last seconds, and how long ago the first of them;
-- among so many of the newest rows. No index has the time: ids are given in its order. 1 ms for 2,000.
SELECT n.queue, pg_catalog.count(*), extract(epoch FROM pg_catalog.now() - pg_catalog.min(n.inserted_at))::float8
FROM (
  SELECT j.queue, j.inserted_at
  FROM pgjobs.jobs AS j
  ORDER BY j.id DESC
  LIMIT %(depth)s::bigint
) AS n
WHERE n.inserted_at <= pg_catalog.now()
  AND n.inserted_at > pg_catalog.now() - %(seconds)s::double precision * interval '1 second'
GROUP BY n.queue
