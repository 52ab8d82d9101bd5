-- The open chord whose body names an id that has no row: it is published when the header has finished.
-- The newest so many open chords are looked through; the finished tasks of its header are counted up to
-- so many.
SELECT c.group_id, least(greatest(c.inserted_at, '0001-01-03'), '9999-12-29'), c.size + c.added,
       (SELECT pg_catalog.count(*)
        FROM (SELECT
              FROM pgjobs.jobs AS j
              WHERE j.group_id = c.group_id
                AND j.group_index IS NOT NULL
                AND j.finished_at IS NOT NULL
              LIMIT %(depth)s::bigint) AS f),
       pg_catalog.now()
FROM (
  SELECT g.group_id, g.inserted_at, g.size, g.added, g.body
  FROM pgjobs.groups AS g
  WHERE g.size IS NOT NULL
    AND g.published_at IS NULL
  ORDER BY g.inserted_at DESC
  LIMIT %(limit)s::bigint
) AS c
WHERE position(%(id)s::bytea IN c.body) > 0
LIMIT 1
