-- Jobs like this one: that failed by the same problem, by the index of that; and among so many of the newest
-- ends those of its task with the same message body or a tag in common. A body is compared where it is as
-- long, and no longer than that.
WITH this AS MATERIALIZED (
  SELECT j.id, j.task, j.fingerprint, j.body, j.tags
  FROM pgjobs.jobs AS j
  WHERE j.task_id = %(task_id)s
), same AS MATERIALIZED (
  SELECT s.id
  FROM this AS t
  CROSS JOIN LATERAL (
    SELECT o.id
    FROM pgjobs.jobs AS o
    WHERE o.fingerprint = t.fingerprint
      AND o.fingerprint IS NOT NULL
    ORDER BY o.failed_at DESC
    LIMIT %(limit)s::bigint
  ) AS s
), ends AS MATERIALIZED (
  SELECT j.id, j.task
  FROM pgjobs.jobs AS j
  WHERE j.finished_at <= pg_catalog.now()
    AND pg_catalog.isfinite(j.finished_at)
  ORDER BY j.finished_at DESC
  LIMIT %(depth)s::bigint
), alike AS MATERIALIZED (
  SELECT o.task_id, o.state, coalesce(o.finished_at, o.failed_at) AS at,
         coalesce(o.fingerprint = t.fingerprint, false) AS has_error,
         CASE WHEN pg_catalog.octet_length(o.body) = pg_catalog.octet_length(t.body)
                   AND pg_catalog.octet_length(t.body) <= %(most)s::bigint
              THEN o.body = t.body ELSE false END AS has_arguments,
         o.tags && t.tags AS has_tags
  FROM (
    SELECT s.id FROM same AS s
    UNION
    SELECT e.id FROM ends AS e WHERE e.task = (SELECT t.task FROM this AS t)
  ) AS a
  JOIN pgjobs.jobs AS o ON o.id = a.id
  CROSS JOIN this AS t
  WHERE o.id <> t.id
)
SELECT a.task_id, a.state, a.has_error, a.has_arguments, a.has_tags,
       least(greatest(a.at, '0001-01-03'), '9999-12-29')
FROM alike AS a
WHERE a.has_error OR a.has_arguments OR a.has_tags
ORDER BY a.has_error::integer + a.has_arguments::integer DESC, a.at DESC
LIMIT %(limit)s::bigint
