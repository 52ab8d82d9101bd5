-- The chords that have been open for longest, with how many tasks their header has, and of so many of its
-- rows how many are there and have finished; how often a worker tried to publish the body; then those whose
-- header was never published in full, among so many groups that are older than so many seconds.
SELECT c.group_id, extract(epoch FROM pg_catalog.now() - c.inserted_at)::float8, c.wanted, h.there, h.finished,
       c.attempts, extract(epoch FROM pg_catalog.now() - h.last)::float8
FROM (
  SELECT g.group_id, greatest(g.inserted_at, '0001-01-03') AS inserted_at, g.size + g.added AS wanted, g.attempts
  FROM pgjobs.groups AS g
  WHERE g.size IS NOT NULL
    AND g.published_at IS NULL
    AND g.inserted_at < pg_catalog.now() - %(seconds)s::float8 * interval '1 second'
  ORDER BY g.inserted_at
  LIMIT %(chords)s::bigint
) AS c
CROSS JOIN LATERAL (
  SELECT pg_catalog.count(*) AS there, pg_catalog.count(m.finished_at) AS finished,
         pg_catalog.max(m.finished_at) FILTER (WHERE pg_catalog.isfinite(m.finished_at)) AS last
  FROM (
    SELECT j.finished_at
    FROM pgjobs.jobs AS j
    WHERE j.group_id = c.group_id
      AND j.group_index IS NOT NULL
    LIMIT %(depth)s::bigint
  ) AS m
) AS h
UNION ALL
SELECT u.group_id, u.age, NULL, NULL, NULL, u.attempts, NULL
FROM (
  SELECT g.group_id, g.attempts,
         extract(epoch FROM pg_catalog.now() - greatest(g.inserted_at, '0001-01-03'))::float8 AS age,
         g.size IS NULL AND g.body IS NOT NULL AS is_open
  FROM pgjobs.groups AS g
  WHERE g.inserted_at < pg_catalog.now() - %(unsized)s::float8 * interval '1 second'
  ORDER BY g.inserted_at DESC
  LIMIT %(groups)s::bigint
) AS u
WHERE u.is_open
