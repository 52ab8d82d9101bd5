-- Chords whose header has finished but whose body is not published: the last of their tasks was
-- cancelled, or discarded with its worker; or the worker that finished it died before it could publish
-- the body. Also those that are incomplete although none of their tasks has finished for all this time.
SELECT g.group_id, c.missing > 0
FROM pgjobs.groups AS g
CROSS JOIN LATERAL (
  SELECT g.size + g.added - pg_catalog.count(*) AS missing, pg_catalog.max(j.finished_at) AS last
  FROM pgjobs.jobs AS j
  WHERE j.group_id = g.group_id
    AND j.group_index IS NOT NULL
    AND j.finished_at IS NOT NULL
) AS c
WHERE g.size IS NOT NULL
  AND g.published_at IS NULL
  AND (c.missing <= 0
       OR greatest(g.inserted_at, c.last)
          < pg_catalog.now() - %(max_age)s::double precision * interval '1 second')
ORDER BY g.inserted_at
LIMIT %(limit)s::bigint
